"""What is particular to pooling and row operations on the device: four number formats, rows beyond the sites whose
content is garbage, columns of wider buffers, and parameters that are uploaded once."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import oracle
from contract import oracle_rules, scene, tuples
from spcli.engines.base import Epilogue, LayerParameters
from spcli.geometry import regular_geometry
from spcli.program import Activation
from strategies import real_features

DTYPES = ("float32", "tf32", "float16", "bfloat16")
# Half a unit in the last place of 1, or a whole one where a number is rounded twice; the interpreter cuts bfloat16 off.
ROUNDING = {"float32": 2e-6, "tf32": 2**-10, "float16": 2**-10, "bfloat16": 2**-6}
DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
ACTIVATIONS = (Activation(), Activation("relu"), Activation("leaky_relu", 0.02), Activation("gelu"))
BEYOND, BESIDE, UNTOUCHED = 37, 5, 777.0


@pytest.fixture(params=DTYPES)
def engine(request: pytest.FixtureRequest, cuda: Any) -> Any:
    return cuda.with_dtype(request.param)


def room(engine: Any, rows: int, columns: int, value: float) -> tuple[Any, Any]:
    """A buffer with more rows and columns than are meant, and the columns that are."""
    wide = engine.empty(rows + BEYOND, columns + 2 * BESIDE)
    wide.fill_(value)
    return wide, wide[:, BESIDE : BESIDE + columns]


def lent(engine: Any, values: np.ndarray) -> tuple[Any, np.ndarray]:
    """Features between NaN on all sides, with NaN in the rows beyond; and the numbers that they hold once rounded."""
    _, inside = room(engine, *values.shape, np.nan)
    inside[: len(values)] = engine.upload(values)
    return inside, engine.download(inside, len(values)).astype(np.float64)


def rounded(value: np.ndarray, dtype: str) -> bool:
    """Whether every number is one of the format."""
    bits = np.ascontiguousarray(value, np.float32).view(np.int32)
    return {
        "float32": True,
        "tf32": not (bits & 0x1FFF).any(),
        "float16": bool((value == value.astype(np.float16)).all()),
        "bfloat16": not (bits & 0xFFFF).any(),
    }[dtype]


def assert_near(engine: Any, result: Any, expected: np.ndarray) -> None:
    """The first rows of a result, which lie in the engine's format."""
    found = engine.download(result, len(expected))
    assert rounded(found, engine.dtype)
    scale = np.maximum(np.abs(expected), 0.5)
    assert (np.abs(found - expected) <= ROUNDING[engine.dtype] * scale).all()


@pytest.mark.parametrize("columns", [1, 17, 131])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda each: each.kind)
def test_sums_and_norms_in_every_format(engine: Any, columns: int, activation: Activation) -> None:
    (one, first), (other, second) = (lent(engine, real_features(seed, 60, columns)) for seed in (1, 2))
    wide, out = room(engine, 60, columns, UNTOUCHED)
    assert_near(engine, engine.add([one, other], activation, out), activated(first + second, activation))
    weight, bias = real_features(3, 2, columns)
    norm = LayerParameters(norm_weight=weight, norm_bias=bias)
    expected = activated(oracle.layer_norm(first, weight, bias, 1e-3) + second, activation)
    assert_near(engine, engine.layer_norm(one, norm, 1e-3, Epilogue(other, activation), out), expected)
    expected = activated(oracle.layer_norm(first, weight, bias, 1e-3), activation)
    assert_near(engine, engine.layer_norm(one, norm, 1e-3, Epilogue(None, activation)), expected)
    assert (wide[:, :BESIDE] == UNTOUCHED).all() and (wide[:, BESIDE + columns :] == UNTOUCHED).all()


@pytest.mark.parametrize("columns", [6, 67])
def test_blocks_as_on_a_device_give_the_same_bits(cuda: Any, columns: int) -> None:
    """Every operation over 150 sites, in blocks as large as an interpreter likes and in the device's."""
    from spcli.engines.cuda.blocks import true_shapes

    def everything() -> list[np.ndarray]:
        tensor = scene(23, 150, (6, 20, 20), batch_size=2)
        sites = cuda.sites(tensor.indices, tensor.spatial_shape, 2)
        one, other = (cuda.upload(real_features(seed, len(tensor.indices), columns)) for seed in (1, 2))
        norm = LayerParameters(norm_weight=real_features(3, 1, columns)[0], norm_bias=real_features(4, 1, columns)[0])
        results = [
            cuda.add([one, other, one], ACTIVATIONS[3]),
            cuda.layer_norm(one, norm, 1e-3, Epilogue(other, ACTIVATIONS[1])),
            cuda.channel_reduction(one, 1),
            cuda.to_dense(one, sites),
            cuda.global_pool(one, sites, "max"),
            *(cuda.pool(one, cuda.build(sites, DOWN3), reduce) for reduce in ("max", "mean")),
        ]
        flat = cuda.flatten(sites)
        folded = cuda.download(cuda.height_compression(one, sites, flat), cuda.count(flat))
        return [*map(cuda.download, results), folded]

    large = everything()
    with true_shapes(80):
        small = everything()
    assert [array.tobytes() for array in small] == [array.tobytes() for array in large]


def test_global_means_in_as_many_parts_as_on_a_device(cuda: Any) -> None:
    from spcli.engines.cuda.blocks import true_shapes

    tensor = scene(24, 150, (6, 20, 20), batch_size=2)
    features = real_features(8, len(tensor.indices), 40)
    with true_shapes(80):
        pooled = cuda.global_pool(cuda.upload(features), cuda.sites(tensor.indices, tensor.spatial_shape, 2), "mean")
    expected = oracle.global_pool(features, tuples(tensor.indices), 2, "mean")
    np.testing.assert_allclose(cuda.download(pooled), expected, rtol=1e-6, atol=1e-7)


def activated(values: np.ndarray, activation: Activation) -> np.ndarray:
    return oracle.activate(values, activation.kind, activation.slope)


def test_a_sum_of_many_is_rounded_once(engine: Any) -> None:
    """One, and then parts too small to be seen beside it in any format but float32."""
    parts = [engine.upload(np.full((3, 4), value, np.float32)) for value in (1.0, *[2.0**-12] * 8)]
    total = engine.download(engine.add(parts, Activation()))
    assert (total == engine.download(engine.upload(np.full((3, 4), 1 + 8 * 2.0**-12, np.float32)))).all()


def test_what_is_added_may_be_the_output(engine: Any) -> None:
    values, more = (engine.upload(real_features(seed, 9, 6)) for seed in (1, 2))
    expected = engine.download(engine.add([values, more], ACTIVATIONS[1]))
    assert engine.download(engine.add([values, more], ACTIVATIONS[1], values)).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("columns", "kept"), [(12, 1), (12, 4), (12, 12), (130, 65)])
def test_neighbouring_channels_are_summed_in_every_format(engine: Any, columns: int, kept: int) -> None:
    features, values = lent(engine, real_features(4, 50, columns))
    assert_near(engine, engine.channel_reduction(features, kept), oracle.channel_reduction(values, kept))


def with_slack(sites: Any) -> Any:
    """The same sites with rows beyond them that hold garbage, as in a recording."""
    import torch

    garbage = torch.full((BEYOND, sites.indices.shape[1]), 2**30, dtype=torch.int32, device=sites.indices.device)
    return replace(sites, indices=torch.cat([sites.indices, garbage]))


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_pooling_in_every_format(engine: Any, reduce: str) -> None:
    tensor = scene(20, 500, (6, 20, 20), batch_size=2)
    rules = oracle_rules(tensor, DOWN3)
    source = engine.build(engine.sites(tensor.indices, tensor.spatial_shape, 2), DOWN3)
    source = replace(source, inputs=with_slack(source.inputs), outputs=with_slack(source.outputs))
    features, values = lent(engine, real_features(5, len(tensor.indices), 33) - 2)
    wide, out = room(engine, len(rules.out_sites), 33, UNTOUCHED)
    definition = oracle.max_pool if reduce == "max" else oracle.mean_pool
    assert_near(engine, engine.pool(features, source, reduce, out), definition(values, rules))
    wide[: len(rules.out_sites), BESIDE : BESIDE + 33] = UNTOUCHED
    assert (wide == UNTOUCHED).all(), "rows beyond the outputs or columns beside them were written to"


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("sites", [0, 1, 500])
def test_global_pooling_in_every_format(engine: Any, reduce: str, sites: int) -> None:
    tensor = scene(21, sites, (6, 20, 20), batch_size=2)
    indices = tensor.indices * np.array([3, 1, 1, 1], np.int32)  # scans 1 and 2 of 4 or more are empty
    features, values = lent(engine, real_features(6, len(indices), 33))
    pooled = engine.global_pool(features, with_slack(engine.sites(indices, tensor.spatial_shape, 5)), reduce)
    assert_near(engine, pooled, oracle.global_pool(values, tuples(indices), 5, reduce))


def test_changes_of_layout_change_no_number(engine: Any) -> None:
    tensor = scene(22, 300, (6, 20, 20), batch_size=2)
    features, values = lent(engine, real_features(7, len(tensor.indices), 5))
    sites = engine.sites(tensor.indices, tensor.spatial_shape, 2)
    flat = engine.flatten(sites)
    folded = engine.download(engine.height_compression(features, sites, flat), engine.count(flat))
    assert (folded == oracle.height_compression(values, tuples(tensor.indices), (6, 20, 20))[1]).all()
    dense = engine.download(engine.to_dense(features, with_slack(sites)))
    assert dense.dtype == np.float32
    assert (dense == oracle.to_dense(values, tuples(tensor.indices), (6, 20, 20), 2)).all()


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_pooling_keeps_nan_apart(cuda: Any, reduce: str) -> None:
    """A NaN is the result of its own window, scan and channel, and of no other."""
    indices = np.array([[0, 0, 0], [0, 0, 1], [0, 2, 2], [1, 0, 0]], np.int32)
    features = cuda.upload(np.array([[1, np.nan], [2, 5], [3, 4], [7, 8]], np.float32))
    sites = cuda.sites(indices, (4, 4), 2)
    source = cuda.build(sites, regular_geometry((2, 2), (2, 2), (0, 0), (1, 1)))
    windows = [[2, np.nan], [3, 4], [7, 8]] if reduce == "max" else [[1.5, np.nan], [3, 4], [7, 8]]
    np.testing.assert_array_equal(cuda.download(cuda.pool(features, source, reduce)), windows)
    scans = [[3, np.nan], [7, 8]] if reduce == "max" else [[2, np.nan], [7, 8]]
    np.testing.assert_array_equal(cuda.download(cuda.global_pool(features, sites, reduce)), scans)


def test_a_concatenation_copies_only_what_lies_elsewhere(cuda: Any) -> None:
    from spcli.engines.cuda.launch import recorded

    out = cuda.empty(4, 7)
    inside, outside = out[:, 2:5], cuda.upload(real_features(1, 4, 2))
    inside.fill_(3.0)
    with recorded() as recording:
        joined = cuda.concat([outside, inside, outside], out)
    assert joined is out and len(recording.steps) == 2
    first = cuda.download(outside)
    assert (cuda.download(out) == np.concatenate([first, np.full((4, 3), 3), first], axis=1)).all()


def test_the_parameters_of_a_norm_are_uploaded_once_and_let_go_with_their_owner(cuda: Any) -> None:
    from spcli.engines.cuda import pointwise

    gc.collect()
    before = set(pointwise._uploaded)
    norm = LayerParameters(norm_weight=np.ones(4, np.float32), norm_bias=np.zeros(4, np.float32))
    rows = cuda.upload(real_features(1, 3, 4))
    cuda.layer_norm(rows, norm, 1e-3, Epilogue())
    kept = pointwise._uploaded[id(norm)]
    cuda.layer_norm(rows, norm, 1e-5, Epilogue())
    assert pointwise._uploaded[id(norm)] is kept
    del norm
    gc.collect()
    assert set(pointwise._uploaded) <= before
