"""What is particular to convolution on the device: number formats, block shapes, row orders, longer buffers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import oracle
from contract import scene, scene_rules
from spcli.engines.base import Epilogue, LayerParameters
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.program import Activation
from spcli.sparse_tensor import SparseTensor
from strategies import integer_features, real_features

CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
CUBE7 = submanifold_geometry((7, 7, 7), (1, 1, 1))
DOWN2 = regular_geometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
DOWN4 = regular_geometry((4, 4, 4), (4, 4, 4), (1, 1, 1), (2, 2, 2))  # as many taps as a word has bits
UP2 = ConvGeometry((2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3, (0,) * 3, transposed=True)
SCENE = (2, 300, (8, 24, 24))
# Relative L2 error against float64 on the numbers as they were before any rounding.
BOUNDS = {"float32": 1e-5, "tf32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}
POISON = 0x7EADBEEF


@pytest.fixture(params=[True, False], ids=["true blocks", "large blocks"])
def blocks(request: pytest.FixtureRequest, cuda: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The block shapes of a device, and those the interpreter has otherwise."""
    from spcli.engines.cuda import blocks

    if not blocks.scaled():
        if not request.param:
            pytest.skip("a device has its own block shapes always")
        yield
        return
    # Sorting windows as large as a device's takes the interpreter seconds.
    monkeypatch.setattr(blocks, "window_rows", lambda: 128)
    with blocks.true_shapes(90, processors=1) if request.param else nullcontext():
        yield


def built(engine: Any, geometry: ConvGeometry, tensor: SparseTensor | None = None, inverted: bool = False) -> Any:
    tensor = scene(*SCENE) if tensor is None else tensor
    source = engine.build(engine.sites(tensor.indices, tensor.spatial_shape, tensor.batch_size), geometry)
    return engine.invert(source) if inverted else source


def rules_for(geometry: ConvGeometry, inverted: bool = False) -> oracle.Rules:
    rules = scene_rules(geometry, *SCENE)
    return oracle.inverse_of(rules) if inverted else rules


def whole_weight(out_channels: int, geometry: ConvGeometry, in_channels: int) -> np.ndarray:
    flat = integer_features(out_channels, out_channels, geometry.volume * in_channels)
    return flat.reshape(out_channels, *geometry.kernel_size, in_channels)


def real_weight(out_channels: int, geometry: ConvGeometry, in_channels: int) -> np.ndarray:
    flat = real_features(out_channels, out_channels, geometry.volume * in_channels)
    return flat.reshape(out_channels, *geometry.kernel_size, in_channels)


def in_table(architecture: int, version: str, dtype: str) -> dict[tuple[int, int, int], Any]:
    """Block shapes by input channels, output channels and taps."""
    from spcli.engines.cuda import blocks

    sizes = itertools.product((1, 4, 5, 16, 17, 32, 64, 131), (1, 16, 32, 64, 96, 128, 256), (1, 8, 27))
    with blocks.true_shapes(architecture, version):
        return {size: blocks.blocks_for(dtype, *size) for size in sizes}


@pytest.mark.parametrize("version", ["3.6.0", "3.7.1"])
@pytest.mark.parametrize("dtype", ["tf32", "float16", "bfloat16"])
def test_rows_that_reach_a_product_in_registers_do_not_meet_a_warp_group(cuda: Any, dtype: str, version: str) -> None:
    """Narrow layers pack taps in registers; warp groups (four warps and more) of sm_90 may read those too late."""
    table = in_table(90, version, dtype)
    assert {shape.warps < 4 for shape in table.values() if shape.taps > 1} == {True}
    assert {shape.taps > 1 for (channels, _, volume), shape in table.items() if channels <= 16 and volume > 1} == {True}


@pytest.mark.parametrize(
    ("architecture", "version", "groups"),
    [(90, "3.7.0", False), (90, "3.6.0+git1", False), (90, "3.7.1", True), (90, "3.10.0", True), (80, "3.6.0", True)],
)
@pytest.mark.parametrize("dtype", ["tf32", "float16", "bfloat16"])
def test_a_triton_that_fences_no_copies_gets_no_warp_groups_on_sm_90(
    cuda: Any, dtype: str, architecture: int, version: str, groups: bool
) -> None:
    table = in_table(architecture, version, dtype)
    assert any(shape.warps >= 4 for shape in table.values()) == groups


@pytest.mark.parametrize(
    ("sizes", "large", "small", "text"),
    [
        ((64, 64, 27), (128, 8), (64, 4), "128x64x64, 1 tap, 8 warps, 5 stages (64 rows on small levels)"),
        ((32, 32, 27), (128, 4), (64, 4), "128x32x32, 1 tap, 4 warps, 5 stages (64 rows on small levels)"),
        ((64, 128, 1), (128, 8), (64, 4), "128x128x64, 1 tap, 8 warps, 5 stages (64 rows on small levels)"),
        ((16, 32, 27), (64, 2), (64, 2), "64x32x16, 2 taps, 2 warps, 5 stages"),
    ],
)
def test_a_level_with_fewer_blocks_than_processors_takes_64_rows_at_once(
    cuda: Any, sizes: tuple[int, int, int], large: tuple[int, int], small: tuple[int, int], text: str
) -> None:
    from spcli.engines.cuda import blocks

    with blocks.true_shapes(90, "3.7.1", processors=5):
        shape = blocks.blocks_for("float16", *sizes)
        on_levels = [blocks.on_level(shape, capacity) for capacity in (0, 4 * 128, 4 * 128 + 1)]
        assert blocks.describe(shape) == text
    assert [(each.rows, each.warps) for each in on_levels] == [small, small, large]
    assert {replace(each, rows=0, warps=0) for each in on_levels} == {replace(shape, rows=0, warps=0)}


def test_an_engine_tells_how_it_cuts_a_layer_as_it_packs_it(cuda: Any) -> None:
    blocks = cuda.pack(LayerParameters(real_weight(64, CUBE3, 48))).blocks
    assert cuda.blocks(48, 64, 27).startswith(f"{blocks.rows}x{blocks.columns}x{blocks.depth}, {blocks.taps} tap")


def test_an_h100_has_132_processors_and_an_a100_108(cuda: Any) -> None:
    from spcli.engines.cuda import blocks

    for architecture, count in ((80, 108), (90, 132)):
        with blocks.true_shapes(architecture):
            assert blocks.processors() == count


def test_bits_do_not_depend_on_the_number_of_rows_in_a_block(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from spcli.engines.cuda import blocks
    from spcli.engines.cuda.launch import observed

    monkeypatch.setattr(np, "matmul", by_columns)
    engine, results, rows = cuda.with_dtype("float16"), [], set()
    see = lambda kernel, _, constants: rows.add(constants["ROWS"]) if kernel.__name__ == "convolve" else None  # noqa: E731
    for processors in (1, 100):
        with blocks.true_shapes(90, "3.7.1", processors), observed(see):
            packed = engine.pack(LayerParameters(real_weight(32, DOWN2, 40)))
            source, features = built(engine, DOWN2), engine.upload(real_features(1, 300, 40))
            results.append(engine.download(engine.convolve(features, source, packed, Epilogue())).tobytes())
    assert rows == {64, 128}
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("dtype", "volume", "upwards", "capacity", "sorts"),
    [
        ("float32", 27, False, 641, True),
        ("float32", 27, False, 640, False),
        ("float32", 27, True, 640, True),
        ("float16", 27, False, 10**6, False),
        ("float16", 8, True, 1, True),
        ("float32", 1, True, 10**6, False),
        ("float32", 50, False, 10**6, True),
        ("float32", 51, True, 10**6, False),
    ],
)
def test_which_levels_have_their_rows_sorted(
    cuda: Any, dtype: str, volume: int, upwards: bool, capacity: int, sorts: bool
) -> None:
    """Upwards always; elsewhere in exact float32 where 10 processors have more than a block each."""
    from spcli.engines.cuda import blocks

    with blocks.true_shapes(90, processors=10):
        assert blocks.sorts_rows(dtype, volume, upwards, capacity) == sorts


def test_a_benchmark_can_overrule_which_rows_are_sorted(cuda: Any) -> None:
    from spcli.engines.cuda import blocks
    from spcli.engines.cuda.tiles import tiles_of

    asked: list[tuple[Any, ...]] = []

    def smaller(*level: Any) -> bool:
        asked.append(level)
        return bool(level[-1] < 250)

    usual = [tiles_of(built(cuda, geometry), 64, "float16").order for geometry in (CUBE3, DOWN2)]
    with blocks.sorted_rows(smaller):
        orders = [tiles_of(built(cuda, geometry), 64, "float16").order for geometry in (CUBE3, DOWN2)]
        assert not blocks.sorts_rows("float16", 1, False, 1)
    down = built(cuda, DOWN2).outputs.capacity
    assert asked == [("float16", 27, False, 300), ("float16", 8, False, down)] and down < 250
    assert [order is not None for order in (*usual, *orders)] == [False, False, False, True]
    assert tiles_of(built(cuda, DOWN2), 64, "float16").order is None


def test_exact_float32_has_its_blocks_whatever_the_version(cuda: Any) -> None:
    assert in_table(90, "3.6.0", "float32") == in_table(90, "3.7.1", "float32")


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(4, 16), (5, 19), (16, 32), (64, 64), (70, 66)])
def test_every_format_stays_within_its_bound(
    cuda: Any, blocks: None, dtype: str, in_channels: int, out_channels: int
) -> None:
    engine, rules = cuda.with_dtype(dtype), rules_for(CUBE3)
    features, residual = real_features(1, 300, in_channels), real_features(2, 300, out_channels)
    weight, rng = real_weight(out_channels, CUBE3, in_channels), np.random.default_rng(3)
    scale, shift = rng.uniform(-2, 2, out_channels), rng.normal(0, 0.5, out_channels)
    epilogue = Epilogue(engine.upload(residual), Activation("leaky_relu", 0.1))
    packed = engine.pack(LayerParameters(weight, scale, shift))
    result = engine.download(engine.convolve(engine.upload(features), built(engine, CUBE3), packed, epilogue))
    expected = oracle.convolve(features, rules, weight) * scale + shift + residual
    expected = oracle.activate(expected, "leaky_relu", 0.1)
    error = np.linalg.norm(result - expected) / np.linalg.norm(expected)
    assert error < BOUNDS[dtype]
    # Each format but float32 must show that it was used.
    assert dtype == "float32" or error > 1e-5


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(4, 19), (32, 64), (131, 130)])
def test_a_linear_layer_in_every_format(
    cuda: Any, blocks: None, dtype: str, in_channels: int, out_channels: int
) -> None:
    engine, features = cuda.with_dtype(dtype), real_features(1, 150, in_channels)
    weight = real_features(2, out_channels, in_channels)
    epilogue = Epilogue(None, Activation("gelu"))
    result = engine.convolve(engine.upload(features), None, engine.pack(LayerParameters(weight)), epilogue)
    expected = oracle.activate(features.astype(np.float64) @ weight.T, "gelu")
    assert np.linalg.norm(engine.download(result) - expected) < BOUNDS[dtype] * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("geometry", "inverted"),
    [(CUBE3, False), (CUBE7, False), (DOWN2, False), (DOWN2, True), (DOWN3, True), (UP2, False)],
    ids=["subm 3", "subm 7", "k2 s2", "inverse k2 s2", "inverse k3 s2", "transposed k2 s2"],
)
@pytest.mark.parametrize("ordered", [False, True], ids=["as they lie", "by taps"])
def test_the_order_of_rows_changes_nothing(
    cuda: Any, monkeypatch: pytest.MonkeyPatch, geometry: ConvGeometry, inverted: bool, ordered: bool
) -> None:
    from spcli.engines.cuda import blocks

    possible = blocks.sorts_rows("float32", geometry.volume, upwards=True, capacity=300)
    monkeypatch.setattr(blocks, "sorts_rows", lambda *_: ordered and possible)
    source = built(cuda, geometry, inverted=inverted)
    rules = rules_for(geometry, inverted)
    for in_channels, out_channels in ((4, 16), (32, 19)):
        features = integer_features(1, len(rules.in_sites), in_channels)
        weight = whole_weight(out_channels, geometry, in_channels)
        result = cuda.convolve(cuda.upload(features), source, cuda.pack(LayerParameters(weight)), Epilogue())
        np.testing.assert_array_equal(cuda.download(result), oracle.convolve(features, rules, weight))
    assert all(tiles.order is not None for tiles in tiles_in(source)) == (ordered and possible)


def by_columns(a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
    """A matrix product whose rows have the same bits wherever they stand."""
    total = np.zeros((a.shape[0], b.shape[1]), dtype)
    for column, row in zip(a.T, b, strict=True):
        total += np.multiply(column[:, None], row, dtype=dtype)
    return total


def test_bits_do_not_depend_on_the_order_of_rows_where_a_dot_holds_one_tap(
    cuda: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter's dot is numpy's: in some of its libraries a row's bits depend on its place in the matrix."""
    from spcli.engines.cuda import blocks

    monkeypatch.setattr(np, "matmul", by_columns)
    with blocks.true_shapes(90):
        packed = cuda.pack(LayerParameters(real_weight(16, CUBE3, 40)))
        results = []
        for ordered in (False, True):
            monkeypatch.setattr(blocks, "sorts_rows", lambda *_, ordered=ordered: ordered)
            monkeypatch.setattr(blocks, "window_rows", lambda: 128)
            source, features = built(cuda, CUBE3), cuda.upload(real_features(1, 300, 40))
            results.append(cuda.download(cuda.convolve(features, source, packed, Epilogue())))
            assert all((tiles.order is not None) == ordered for tiles in tiles_in(source))
    assert packed.blocks.taps == 1
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize(("geometry", "inverted"), [(DOWN2, True), (UP2, False)], ids=["inverse", "transposed"])
def test_a_block_of_a_map_with_single_rules_has_one_tap_except_at_the_borders(
    cuda: Any, geometry: ConvGeometry, inverted: bool
) -> None:
    """As many products as a matrix product for each tap would take, and one more at each of their borders."""
    from spcli.engines.cuda.tiles import tiles_of

    tiles = tiles_of(built(cuda, geometry, inverted=inverted), 16, "float16")
    assert tiles.tiles > geometry.volume
    assert int(tiles.counts[: tiles.tiles].sum()) <= tiles.tiles + geometry.volume - 1


def tiles_in(source: Any) -> list[Any]:
    from spcli.engines.cuda.tiles import Tiles

    return [tiles for tiles in source.tiles.values() if isinstance(tiles, Tiles)]


@pytest.mark.parametrize(
    ("geometry", "inverted"), [(CUBE3, False), (CUBE7, False), (DOWN2, True), (DOWN2, False), (DOWN4, False)]
)
def test_tiles_list_the_taps_of_their_rows(cuda: Any, blocks: None, geometry: ConvGeometry, inverted: bool) -> None:
    from spcli.engines.cuda.tiles import tiles_of

    source = built(cuda, geometry, inverted=inverted)
    total, table = source.outputs.count(), source.table.cpu().numpy()
    tiles = tiles_of(source, 64, "float16")
    order = np.arange(total) if tiles.order is None else tiles.order.cpu().numpy()[:total]
    assert sorted(order.tolist()) == list(range(total))
    for tile in range(-(-total // 64)):
        present = (table[:, order[64 * tile : 64 * tile + 64]] >= 0).any(axis=1)
        assert taps_of(tiles, tile) == np.flatnonzero(present).tolist()


def taps_of(tiles: Any, tile: int) -> list[int]:
    """The taps of a block of 64 rows, as bits or as a list."""
    if tiles.masks is None:
        return list(tiles.taps[tile, : int(tiles.counts[tile])].tolist())
    return [tap for tap in range(64) if int(tiles.masks[tile]) >> tap & 1]


@pytest.mark.parametrize(
    ("geometry", "inverted", "dtype", "masked"),
    [
        (CUBE3, False, "float16", True),
        (CUBE3, False, "float32", False),
        (DOWN4, False, "float16", True),
        (CUBE7, False, "float16", False),
        (DOWN2, True, "float16", False),
        (UP2, False, "float16", False),
    ],
    ids=["subm 3", "sorted", "64 taps", "343 taps", "inverse", "transposed"],
)
def test_lists_of_taps_are_made_only_where_the_map_has_no_masks(
    cuda: Any, geometry: ConvGeometry, inverted: bool, dtype: str, masked: bool
) -> None:
    from spcli.engines.cuda.blocks import true_shapes
    from spcli.engines.cuda.tiles import tiles_of

    with true_shapes(90, processors=1):
        tiles = tiles_of(built(cuda, geometry, inverted=inverted), 128, dtype)
    assert (tiles.masks is not None, tiles.taps is None, tiles.counts is None) == (masked, masked, masked)


@pytest.mark.parametrize(("in_channels", "out_channels"), [(4, 16), (70, 16)], ids=["narrow", "three steps a tap"])
def test_a_convolution_with_as_many_taps_as_a_word_has_bits(
    cuda: Any, blocks: None, in_channels: int, out_channels: int
) -> None:
    engine, rules = cuda.with_dtype("float16"), rules_for(DOWN4)
    features = integer_features(1, len(rules.in_sites), in_channels)
    weight = np.sign(whole_weight(out_channels, DOWN4, in_channels))
    packed, source = engine.pack(LayerParameters(weight)), built(engine, DOWN4)
    result = engine.download(engine.convolve(engine.upload(features), source, packed, Epilogue()))
    expected = oracle.convolve(features, rules, weight)
    assert np.abs(expected).max() < 2048  # whole numbers that float16 holds
    np.testing.assert_array_equal(result, expected)


def test_blocks_of_a_map_with_single_rules_have_one_tap_but_for_borders(cuda: Any) -> None:
    """Eight groups of rows make at most seven borders, so the products of all blocks are those of the rules."""
    from spcli.engines.cuda.tiles import tiles_of

    source = built(cuda, DOWN2, scene(2, 900, (8, 40, 40)), inverted=True)
    tiles = tiles_of(source, 32, "bfloat16")
    assert tiles.order is not None
    assert int(tiles.counts.sum()) <= tiles.tiles + 7


def test_sorting_and_counting_give_one_order(cuda: Any) -> None:
    """The interpreter finds the order by counting; what a device does is checked here on small windows."""
    import torch

    from spcli.engines.cuda import tiles
    from spcli.engines.cuda.launch import launch

    source = built(cuda, CUBE3)
    orders = [torch.full((300,), POISON, dtype=torch.int32, device=source.table.device) for _ in range(2)]
    for order, count in zip(orders, (True, False), strict=True):
        launch(
            tiles.kernels.order_rows, (5,), source.table, tiles.tap_bits(CUBE3, str(order.device)),
            source.outputs.total, order, source.table.stride(0), 27,
            WINDOW=64, CHUNK=16 if count else 32, COUNT=count, LONG=False,
        )  # fmt: skip
    assert orders[0].tolist() == orders[1].tolist()
    assert orders[0].tolist() != list(range(300))
    for window in range(0, 300, 64):
        there = orders[0][window : window + 64].tolist()
        assert sorted(there) == list(range(window, min(window + 64, 300)))


@pytest.mark.parametrize("dtype", BOUNDS)
def test_rows_beyond_the_last_and_columns_beside_are_left_alone(cuda: Any, blocks: None, dtype: str) -> None:
    """Capacities above the number of sites: what lies there is neither used nor overwritten, whatever it is."""
    engine, rules = cuda.with_dtype(dtype), rules_for(CUBE3)
    source = with_room(built(engine, CUBE3), 100)
    features = with_tail(integer_features(1, 300, 4), 100)
    weight = whole_weight(19, CUBE3, 4)
    room = engine.upload(np.full((400, 37), np.nan, np.float32))
    residual = engine.upload(with_tail(integer_features(2, 300, 29), 100))
    epilogue = Epilogue(residual[:, 5:24], Activation("relu"))
    packed = engine.pack(LayerParameters(weight))
    engine.convolve(engine.upload(features), source, packed, epilogue, room[:, 7:26])
    result = engine.download(room)
    assert np.isnan(result[300:]).all() and np.isnan(result[:, :7]).all() and np.isnan(result[:, 26:]).all()
    expected = oracle.convolve(features[:300], rules, weight) + integer_features(2, 300, 29)[:, 5:24]
    expected = np.maximum(expected, 0)
    assert np.linalg.norm(result[:300, 7:26] - expected) < BOUNDS[dtype] * np.linalg.norm(expected)


def with_tail(rows: np.ndarray, more: int) -> np.ndarray:
    return np.concatenate([rows, np.full((more, rows.shape[1]), np.nan, np.float32)])


def with_room(source: Any, more: int) -> Any:
    """A map over sites with `more` rows of capacity, full of numbers that no row has."""
    import torch

    sites, total = source.outputs, source.outputs.capacity
    indices = torch.full((total + more, 4), POISON, dtype=torch.int32, device=source.table.device)
    indices[:total] = sites.indices
    stride = -(-(total + more) // 128) * 128
    table = torch.full((len(source.table), stride), POISON, dtype=torch.int32, device=source.table.device)
    table[:, :total] = source.table[:, :total]
    sites = replace(sites, indices=indices)
    return replace(source, inputs=sites, outputs=sites, table=table, tiles={})


def test_large_offsets_are_computed_in_64_bits(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from spcli.engines.cuda import convolve, tiles

    results = []
    for wide in (False, True):
        monkeypatch.setattr(convolve, "is_long", lambda *_, wide=wide: wide)
        monkeypatch.setattr(tiles, "is_long", lambda *_, wide=wide: wide)
        monkeypatch.setattr(tiles.blocks, "window_rows", lambda: 64)
        for channels in (4, 40):
            packed = cuda.pack(LayerParameters(real_weight(16, CUBE3, channels)))
            features = cuda.upload(real_features(1, 300, channels))
            results.append(cuda.download(cuda.convolve(features, built(cuda, CUBE3), packed, Epilogue())))
    assert [each.tobytes() for each in results[:2]] == [each.tobytes() for each in results[2:]]


def test_is_long_looks_at_the_last_offset(cuda: Any) -> None:
    import torch

    from spcli.engines.cuda.tiles import is_long

    below, above = (torch.empty((rows, 1024), device="meta") for rows in (2**21 - 1, 2**21))
    assert not is_long(None, below) and is_long(below, above)
    assert is_long(above[:, :16])


@pytest.mark.parametrize("dtype", BOUNDS)
def test_weights_are_rounded_once_to_the_nearest(cuda: Any, dtype: str) -> None:
    """The middle between two numbers of the format goes to the even one (tf32: away from zero); any more goes up."""
    import torch

    bits = {"float32": 23, "tf32": 10, "float16": 10, "bfloat16": 7}[dtype]
    step = 2.0**-bits
    tie, odd_tie, above = 1 + step / 2, 1 + step * 1.5, 1 + step / 2 + 2.0**-40
    weight = np.array([[1.0], [1.0], [1.0], [-1.0]], np.float32)
    packed = cuda.with_dtype(dtype).pack(LayerParameters(weight, np.array([tie, odd_tie, above, tie])))
    found = packed.weight[0, :4, 0].to(torch.float64).tolist()
    up = dtype == "tf32"
    assert found == [1 + step if up else 1.0, 1 + 2 * step, 1 + step, -1 - step if up else -1.0]


def test_weights_that_are_not_finite_or_too_large_stay_so(cuda: Any) -> None:
    weight = np.array([[np.inf], [-np.inf], [np.nan], [1e30]], np.float32)
    for dtype in BOUNDS:
        found = cuda.with_dtype(dtype).pack(LayerParameters(weight)).weight[0, :4, 0].float().tolist()
        assert found[0] == np.inf and found[1] == -np.inf and np.isnan(found[2])
        assert found[3] == (np.inf if dtype == "float16" else pytest.approx(1e30, rel=1e-2))


def test_what_tf32_stores_is_tf32(cuda: Any) -> None:
    import torch

    engine = cuda.with_dtype("tf32")
    packed = engine.pack(LayerParameters(real_weight(16, CUBE3, 8)))
    result = engine.convolve(engine.upload(real_features(1, 300, 8)), built(engine, CUBE3), packed, Epilogue())
    for tensor in (result, packed.weight):
        assert not (tensor.contiguous().view(torch.int32) & 0x1FFF).any()


def test_two_runs_have_the_same_bits(cuda: Any) -> None:
    packed = cuda.pack(LayerParameters(real_weight(32, CUBE3, 16)))
    features = cuda.upload(real_features(1, 300, 16))
    first, second = (cuda.convolve(features, built(cuda, CUBE3), packed, Epilogue()) for _ in range(2))
    assert cuda.download(first).tobytes() == cuda.download(second).tobytes()


def test_what_does_not_fit_is_refused(cuda: Any) -> None:
    source, features = built(cuda, CUBE3), cuda.upload(real_features(1, 300, 8))
    packed = cuda.pack(LayerParameters(real_weight(16, CUBE3, 8)))
    with pytest.raises(ValueError, match=r"expected features of shape \(300, 8\), got \(300, 7\)"):
        cuda.convolve(features[:, :7], source, packed, Epilogue())
    with pytest.raises(ValueError, match=r"expected features of shape \(300, 16\), got \(299, 16\)"):
        cuda.convolve(features, source, packed, Epilogue(), cuda.empty(299, 16))
    with pytest.raises(ValueError, match="27 taps does not fit"):
        cuda.convolve(features, None, packed, Epilogue())
    with pytest.raises(ValueError, match="float32 features whose channels lie side by side"):
        cuda.convolve(features.half(), source, packed, Epilogue())
    with pytest.raises(ValueError, match="channels lie side by side"):
        cuda.convolve(cuda.empty(300, 16)[:, ::2], source, packed, Epilogue())
