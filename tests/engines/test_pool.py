"""Contract of `Engine.pool`: over the active sites of each window, the mean divided by their number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from contract import lend, lend_room, oracle_rules, scene, scene_rules, sites_of
from fences import Fences
from spcli.geometry import regular_geometry
from spcli.sparse_tensor import SparseTensor
from strategies import channels, examples, integer_features, real_features, regular_geometries, sparse_tensors

REDUCERS = {"max": oracle.max_pool, "mean": oracle.mean_pool}


def pooled(engine: Any, features: np.ndarray, source: Any, reduce: str, rows: int) -> np.ndarray:
    """The engine's pooling of fenced features into a fenced output."""
    fences = Fences(4 if len(features) % 2 else 0)
    out = lend_room(engine, fences, (rows, features.shape[1]))
    result = engine.pool(lend(engine, fences, features), source, reduce, out)
    fences.check()
    return engine.download(result)


@examples(80)
@given(st.data(), st.sampled_from((2, 3)), channels, st.sampled_from(("max", "mean")))
def test_pooling_is_over_the_active_sites_of_a_window(
    engine: Any, data: st.DataObject, ndim: int, columns: int, reduce: str
) -> None:
    tensor = data.draw(sparse_tensors(ndim))
    fits = regular_geometries(ndim).filter(lambda geometry: min(geometry.out_spatial_shape(tensor.spatial_shape)) >= 1)
    geometry = data.draw(fits)
    rules = oracle_rules(tensor, geometry)
    features = integer_features(data.draw(st.integers(0, 999)), len(tensor.indices), columns)
    source = engine.build(sites_of(engine, Fences(), tensor), geometry)
    result = pooled(engine, features, source, reduce, len(rules.out_sites))
    np.testing.assert_array_max_ulp(result, REDUCERS[reduce](features, rules).astype(np.float32), 1)


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("columns", [1, 16, 33])
def test_pooling_three_thousand_sites(engine: Any, reduce: str, columns: int) -> None:
    arguments = (3, 3000, (12, 60, 55), 2)
    tensor = scene(*arguments)
    features = real_features(4, 3000, columns) - 3  # mostly negative: an implicit 0 in a window would win
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1)):
        geometry = regular_geometry((kernel,) * 3, (stride,) * 3, (padding,) * 3, (1,) * 3)
        rules = scene_rules(geometry, *arguments)
        source = engine.build(sites_of(engine, Fences(), tensor), geometry)
        result = pooled(engine, features, source, reduce, len(rules.out_sites))
        np.testing.assert_allclose(result, REDUCERS[reduce](features, rules), rtol=1e-6, atol=1e-6)


def test_pooling_by_hand(engine: Any) -> None:
    """A window of four cells with two active sites: the mean is over two."""
    indices = np.array([[0, 0, 0], [0, 1, 1], [0, 2, 3]], np.int32)
    source = engine.build(engine.sites(indices, (4, 4), 1), regular_geometry((2, 2), (2, 2), (0, 0), (1, 1)))
    features = np.array([[-1.0], [-4.0], [-7.0]], np.float32)
    assert engine.indices(source.outputs).tolist() == [[0, 0, 0], [0, 1, 1]]
    assert pooled(engine, features, source, "max", 2).tolist() == [[-1.0], [-7.0]]
    assert pooled(engine, features, source, "mean", 2).tolist() == [[-2.5], [-7.0]]


def test_pooling_nothing(engine: Any) -> None:
    empty = SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 3), np.int32), (4, 4), 2)
    source = engine.build(sites_of(engine, Fences(), empty), regular_geometry((2, 2), (2, 2), (0, 0), (1, 1)))
    for reduce in ("max", "mean"):
        assert engine.download(engine.pool(engine.upload(np.zeros((0, 5), np.float32)), source, reduce)).shape == (0, 5)
