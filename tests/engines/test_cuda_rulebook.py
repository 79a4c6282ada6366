"""What is particular to maps on the device: two indexes, fixed capacities, recordings, and lists of rules by tap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from contract import assert_same_rules, oracle_rules, scene, tuples
from spcli.errors import ConfigError
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.sparse_tensor import SparseTensor
from strategies import convolutions, examples

POISON = -77
MARGIN = 64  # elements on either side of every allocation
CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
DOWN2 = regular_geometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
UP2 = ConvGeometry((2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3, (0,) * 3, transposed=True)
UP3 = ConvGeometry((3,) * 3, (2,) * 3, (1,) * 3, (1,) * 3, (1,) * 3, transposed=True)
GEOMETRIES = {
    "subm 3": CUBE3,
    "subm 7": submanifold_geometry((7, 7, 7), (1, 1, 1)),
    "k3 s2 p1": DOWN3,
    "k2 s2": DOWN2,
    "k3,1,1 s2,1,1": regular_geometry((3, 1, 1), (2, 1, 1), (0, 0, 0), (1, 1, 1)),
    "k3 s4 p1 d6": regular_geometry((3, 3, 3), (4, 4, 4), (6, 6, 6), (6, 6, 6)),
    "transposed k2 s2": UP2,
    "transposed k3 s2 p1 o1": UP3,
}
INDEXES = ("bitmap", "keys")


@contextmanager
def forced(index: str) -> Iterator[None]:
    """Small grids that are indexed as only large ones are."""
    from spcli.engines.cuda import sites

    with pytest.MonkeyPatch.context() as patch:
        if index != "bitmap":
            patch.setattr(sites, "BITMAP_BYTES", 0)
        yield


@contextmanager
def fences() -> Iterator[None]:
    """Every device allocation of the index phase begins poisoned and lies between margins that nothing may touch."""
    import torch

    from spcli.engines.cuda import arrays, outputs, rulebook, rules, sites

    lent: list[tuple[Any, int]] = []
    allocate = arrays.empty

    def fenced(shape: int | tuple[int, ...], dtype: Any) -> Any:
        count = int(np.prod(shape))
        buffer = allocate(count + 2 * MARGIN, dtype).fill_(POISON)
        lent.append((buffer, count))
        return buffer[MARGIN : MARGIN + count].view(shape if isinstance(shape, tuple) else (shape,))

    with pytest.MonkeyPatch.context() as patch:
        for module in (outputs, rulebook, rules, sites):
            patch.setattr(module, "empty", fenced)
        yield
    for buffer, count in lent:
        margins = torch.cat([buffer[:MARGIN], buffer[MARGIN + count :]])
        assert bool((margins == POISON).all()), "something was written beside a buffer"


def sites_of(cuda: Any, tensor: SparseTensor) -> Any:
    return cuda.sites(tensor.indices, tensor.spatial_shape, tensor.batch_size)


def assert_map_is(cuda: Any, engine_map: Any, expected: oracle.Rules) -> None:
    """Rules, counts and the rules the other way round."""
    assert_same_rules(cuda.rulebook(engine_map), expected)
    counts = cuda.rule_counts(engine_map)
    reached = [out for tap in expected.by_tap for _, out in tap]
    assert counts.pairs_per_offset == tuple(len(tap) for tap in expected.by_tap)
    assert counts.pairs_per_output_max == (max(np.bincount(reached)) if reached else 0)
    assert (counts.in_sites, counts.out_sites) == (len(expected.in_sites), len(expected.out_sites))
    assert_same_rules(cuda.rulebook(cuda.invert(engine_map)), oracle.inverse_of(expected))


@pytest.mark.parametrize("index", INDEXES)
@examples(25)
@given(convolutions())
def test_every_index_gives_the_definitions_rules(
    cuda: Any, index: str, case: tuple[SparseTensor, ConvGeometry]
) -> None:
    tensor, geometry = case
    with forced(index), fences():
        assert_map_is(cuda, cuda.build(sites_of(cuda, tensor), geometry), oracle_rules(tensor, geometry))


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("index", INDEXES)
def test_blocks_of_the_sizes_a_device_takes(cuda: Any, index: str, name: str) -> None:
    """Many programs, of which the last are not full; rules that begin in one block of words and end in another."""
    from spcli.engines.cuda.blocks import true_shapes

    tensor = scene(21, 70, (7, 40, 150), batch_size=2)
    with forced(index), fences(), true_shapes(90):
        engine_map = cuda.build(sites_of(cuda, tensor), GEOMETRIES[name])
        assert_map_is(cuda, engine_map, oracle_rules(tensor, GEOMETRIES[name]))


def test_the_index_is_a_bitmap_until_it_would_pass_256_megabytes(cuda: Any) -> None:
    from spcli.engines.cuda.sites import Bitmap, SortedKeys, bitmap_words

    one = np.zeros((1, 4), np.int32)
    for shape, fits in (((41, 1600, 1408), True), ((32, 1024, 65536), True), ((32, 1025, 65536), False)):
        sites = cuda.sites(one, shape, 1)
        assert (bitmap_words(sites) is not None) == fits
    assert isinstance(cuda.sites(one, (4, 4, 4), 1).index, Bitmap)
    assert isinstance(replace(cuda.sites(one, (4, 4, 4), 1), grows=True).index, SortedKeys)


def test_a_grid_whose_cells_have_no_number_is_refused(cuda: Any) -> None:
    """2^62 cells are numbered; more are not, whether they are the input's, the batch's or the outputs'."""
    from spcli.engines.cuda.sites import SortedKeys

    one, most = np.zeros((1, 4), np.int32), (2**20, 2**21, 2**21)
    sites = cuda.sites(one, most, 1)
    assert isinstance(sites.index, SortedKeys)
    assert cuda.indices(cuda.build(sites, DOWN2).outputs).tolist() == one.tolist()
    for shape, batch_size in (((2**20 + 1, 2**21, 2**21), 1), (most, 2)):
        with pytest.raises(ConfigError, match=r"2\^62 cells.*: set point_cloud_range, or use --device cpu"):
            cuda.sites(one, shape, batch_size)
    with pytest.raises(ConfigError, match="or use --device cpu"):
        cuda.build(sites, UP2)


def test_a_dilation_that_spreads_neighbours_over_several_words(cuda: Any) -> None:
    """Taps 64 and 70 cells apart along x: no two words hold them all."""
    chosen = np.sort(np.random.default_rng(23).permutation(2 * 3 * 400)[:700])
    indices = np.stack(np.unravel_index(chosen, (1, 2, 3, 400)), axis=1).astype(np.int32)
    tensor = SparseTensor(np.ones((700, 1), np.float32), indices, (2, 3, 400))
    for step in (32, 64, 70):
        geometry = submanifold_geometry((1, 3, 5), (1, 1, step))
        with fences():
            assert_map_is(cuda, cuda.build(sites_of(cuda, tensor), geometry), oracle_rules(tensor, geometry))


def test_bitmaps_of_many_blocks_are_listed_in_larger_ones(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from spcli.engines.cuda import outputs

    monkeypatch.setattr(outputs, "_MOST_BLOCKS", 3)
    tensor = scene(24, 300, (24, 200, 150))
    with fences():
        assert_map_is(cuda, cuda.build(sites_of(cuda, tensor), DOWN2), oracle_rules(tensor, DOWN2))


@pytest.mark.parametrize("geometry", [DOWN3, UP2], ids=["k3 s2", "transposed"])
@pytest.mark.parametrize("index", INDEXES)
def test_a_list_that_overflows_gives_its_true_length_and_stops_at_its_capacity(
    cuda: Any, index: str, geometry: ConvGeometry
) -> None:
    from spcli.engines.cuda.capacity import FixedCapacity

    tensor = scene(25, 200, (8, 20, 21), batch_size=2)
    expected = oracle_rules(tensor, geometry)
    for capacity in (len(expected.out_sites) - 1, 7, 0):
        with forced(index), fences():
            given_capacity = FixedCapacity([capacity])
            fixed = cuda.with_capacity(given_capacity)
            down = fixed.build(sites_of(cuda, tensor), geometry)
            assert [int(total.item()) for total in given_capacity.totals] == [len(expected.out_sites)]
            assert down.outputs.capacity == fixed.count(down.outputs) == capacity
            assert tuples(fixed.indices(down.outputs)) == expected.out_sites[:capacity]
            table = cuda.download(down.table)[:, :capacity]
            kept = [[(i, o) for i, o in tap if o < capacity] for tap in expected.by_tap]
            assert [[(tap[o], o) for o in np.flatnonzero(tap >= 0)] for tap in table] == kept
            following = fixed.build(down.outputs, CUBE3)  # finds no row that was left out
            assert (cuda.download(following.table)[:, :capacity] < max(capacity, 1)).all()


@dataclass
class Buffers:
    """Sites in buffers of fixed capacity, as the input of a graph has them."""

    sites: Any

    @staticmethod
    def of(cuda: Any, capacity: int, tensor: SparseTensor, grows: bool) -> Buffers:
        rows = np.full((capacity, tensor.indices.shape[1]), POISON, np.int32)
        sites = sites_of(cuda, tensor)
        return Buffers(replace(sites, indices=cuda.upload(rows), grows=grows))

    def fill(self, tensor: SparseTensor) -> None:
        """Other sites in the same buffers; the rows behind them keep what they held."""
        import torch

        shape = [1, *tensor.spatial_shape][-3:]
        self.sites.indices[: len(tensor.indices)] = torch.from_numpy(tensor.indices)
        self.sites.total.fill_(len(tensor.indices))
        self.sites.shape.copy_(torch.tensor(shape, dtype=torch.int32))


def index_phase(cuda: Any, sites: Any) -> dict[str, Any]:
    """A network's maps: blocks, down, up, down again, a look from above, and what the exports need."""
    from spcli.engines.cuda.rulebook import flat_rows
    from spcli.engines.cuda.rules import rows_by_tap

    down = cuda.build(sites, DOWN2)
    flat = cuda.flatten(down.outputs)
    inverse = cuda.invert(down)
    return {
        "maps": [cuda.build(sites, CUBE3), down, inverse, cuda.build(down.outputs, DOWN3), cuda.build(sites, UP2)],
        "flat": flat,
        "flat rows": flat_rows(down.outputs, flat),
        "by tap": rows_by_tap(inverse),
        "scans": cuda.collapse(sites),
    }


def results(cuda: Any, made: dict[str, Any]) -> list[Any]:
    """Everything an index phase made, as plain values."""
    found: list[Any] = []
    for engine_map in made["maps"]:
        rulebook = cuda.rulebook(engine_map)
        arrays = (rulebook.in_indices, rulebook.out_indices, rulebook.in_rows, rulebook.out_rows, rulebook.pair_splits)
        found += [array.tolist() for array in arrays]
        found.append(
            (cuda.rule_counts(engine_map).pairs_per_output_max, cuda.download(engine_map.inputs.shape).tolist())
        )
    below = cuda.count(made["maps"][1].outputs)
    above = cuda.count(made["maps"][0].outputs)
    listed = made["by tap"]
    found += [cuda.indices(made[name]).tolist() for name in ("flat", "scans")]
    found.append(cuda.download(made["flat rows"], below).tolist())
    found += [cuda.download(rows, above).tolist() for rows in (listed.in_rows, listed.out_rows)]
    return [*found, cuda.download(listed.starts).tolist()]


@pytest.mark.parametrize("index", ["bitmap", "keys", "a grid that grows"])
def test_a_recording_gives_each_frame_the_maps_of_its_own_sites(cuda: Any, index: str) -> None:
    """Frames that are smaller, empty and larger than the one that was recorded, then that one again."""
    from spcli.engines.cuda.capacity import FixedCapacity
    from spcli.engines.cuda.launch import recorded

    grows = index == "a grid that grows"
    shape = (6, 18, 20)
    first = scene(31, 70, shape, batch_size=2)
    smaller, larger = (scene(seed, sites, shape, batch_size=2) for seed, sites in ((32, 30), (33, 110)))
    empty = SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 4), np.int32), shape, 2)
    frames = [smaller, empty, larger, first]
    if grows:
        frames[:1] = [scene(34, 100, (9, 33, 31), batch_size=2), scene(35, 20, (3, 4, 5), batch_size=2)]
    with forced("keys" if index == "keys" else "bitmap"), fences():
        buffers = Buffers.of(cuda, 128, first, grows)
        buffers.fill(first)
        with recorded() as recording:
            made = index_phase(cuda.with_capacity(FixedCapacity([128, 128, 128, 1024])), buffers.sites)
        for frame in frames:
            buffers.fill(frame)
            recording.replay()
            alone = results(cuda, index_phase(cuda, sites_of(cuda, frame)))
            assert results(cuda, made) == alone


@examples(40)
@given(convolutions(), st.booleans())
def test_a_map_said_to_have_single_rules_has_them(
    cuda: Any, case: tuple[SparseTensor, ConvGeometry], inverted: bool
) -> None:
    """And the rows by tap are all output rows, each once, those that no rule reaches at the end."""
    from spcli.engines.cuda.rules import has_single_rules, rows_by_tap

    tensor, geometry = case
    engine_map = cuda.build(sites_of(cuda, tensor), geometry)
    engine_map = cuda.invert(engine_map) if inverted else engine_map
    if not has_single_rules(engine_map):
        return
    rulebook = cuda.rulebook(engine_map)
    assert np.unique(rulebook.out_rows).size == rulebook.out_rows.size
    with fences():
        listed = rows_by_tap(engine_map)
    rows, starts = len(rulebook.out_indices), cuda.download(listed.starts).tolist()
    assert starts == [*rulebook.pair_splits.tolist(), rows]
    in_rows, out_rows = cuda.download(listed.in_rows, rows), cuda.download(listed.out_rows, rows)
    np.testing.assert_array_equal(in_rows[: starts[-2]], rulebook.in_rows)
    np.testing.assert_array_equal(out_rows[: starts[-2]], rulebook.out_rows)
    assert out_rows[starts[-2] :].tolist() == sorted(set(range(rows)) - set(rulebook.out_rows.tolist()))
    assert (in_rows[starts[-2] :] == -1).all()


@pytest.mark.parametrize(
    ("geometry", "inverted", "single"),
    [
        (DOWN2, True, True),
        (DOWN2, False, False),
        (UP2, False, True),
        (UP2, True, False),
        (DOWN3, True, False),
        (regular_geometry((2, 2, 2), (3, 3, 3), (0, 0, 0), (1, 1, 1)), True, True),
        (regular_geometry((3, 3, 3), (2, 2, 2), (0, 0, 0), (2, 2, 2)), True, False),
        (regular_geometry((1, 1, 1), (2, 2, 2), (0, 0, 0), (1, 1, 1)), False, True),
    ],
)
def test_which_maps_are_said_to_have_single_rules(
    cuda: Any, geometry: ConvGeometry, inverted: bool, single: bool
) -> None:
    from spcli.engines.cuda.rules import has_single_rules

    engine_map = cuda.build(sites_of(cuda, scene(22, 40, (9, 12, 13))), geometry)
    assert has_single_rules(cuda.invert(engine_map) if inverted else engine_map) == single


@pytest.mark.parametrize("index", INDEXES)
def test_sites_looked_at_from_above(cuda: Any, index: str) -> None:
    from spcli.engines.cuda.rulebook import flat_rows

    tensor = scene(41, 200, (8, 12, 13), batch_size=2)
    expected, rows = np.unique(tensor.indices[:, [0, 2, 3]], axis=0, return_inverse=True)
    with forced(index), fences():
        sites = sites_of(cuda, tensor)
        flat = cuda.flatten(sites)
        np.testing.assert_array_equal(cuda.indices(flat), expected)
        np.testing.assert_array_equal(cuda.download(flat_rows(sites, flat)), rows.ravel())
        plane = SparseTensor(np.ones((len(expected), 1), np.float32), expected, (12, 13), 2)
        geometry = submanifold_geometry((3, 3), (1, 1))
        assert_map_is(cuda, cuda.build(flat, geometry), oracle_rules(plane, geometry))


def test_one_row_a_scan_after_a_global_pooling(cuda: Any) -> None:
    scans = cuda.collapse(sites_of(cuda, scene(41, 200, (8, 12, 13), batch_size=2)))
    assert cuda.indices(scans).tolist() == [[0], [1]] and scans.spatial_shape == () and cuda.count(scans) == 2


def test_no_kernel_depends_on_a_number_that_changes_between_frames(cuda: Any) -> None:
    """A launch's arguments are kept by a graph, and a compiled kernel by its constants: both hold capacities only."""
    from spcli.engines.cuda.capacity import FixedCapacity
    from spcli.engines.cuda.launch import observed

    def launches(tensor: SparseTensor) -> list[Any]:
        seen: list[Any] = []
        buffers = Buffers.of(cuda, 128, tensor, grows=False)
        buffers.fill(tensor)
        see: Callable[..., None] = lambda kernel, arguments, constants: seen.append(  # noqa: E731
            (kernel.__name__, [a for a in arguments if isinstance(a, int)], constants)
        )
        with observed(see):
            index_phase(cuda.with_capacity(FixedCapacity([128, 128, 128, 1024])), buffers.sites)
        return seen

    shape = (6, 18, 20)
    assert launches(scene(31, 70, shape, batch_size=2)) == launches(scene(32, 40, shape, batch_size=2))
