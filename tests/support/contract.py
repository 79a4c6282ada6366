"""What the engine contract tests share: fenced uploads, and comparisons with the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

import oracle
from fences import Fences
from spcli.errors import ConfigError
from spcli.geometry import ConvGeometry
from spcli.rulebook import Rulebook
from spcli.sparse_tensor import SparseTensor

INDEXED_CELLS = 2**62
"""Cells, those of all scans of a batch together, up to which every engine must go."""


@contextmanager
def refusal_allowed(cells: int) -> Iterator[None]:
    """Lets an engine refuse a grid of more cells than every engine must index, if it names a way out."""
    try:
        yield
    except ConfigError as refusal:
        if cells <= INDEXED_CELLS or "or use --device cpu" not in str(refusal):
            raise


def tuples(indices: np.ndarray) -> list[oracle.Site]:
    """Index rows as the oracle's sites."""
    return [tuple(site) for site in indices.tolist()]


def lend(engine: Any, fences: Fences, array: np.ndarray) -> Any:
    """An input for the engine's operations, fenced where its arrays are host arrays."""
    uploaded = engine.upload(array)
    return fences.around(array) if isinstance(uploaded, np.ndarray) else uploaded


def lend_room(engine: Any, fences: Fences, shape: tuple[int, ...]) -> Any:
    """A float32 `out=` array full of NaN, fenced where the engine's arrays are host arrays."""
    room = fences.room(shape)
    uploaded = engine.upload(np.full(shape, np.nan, np.float32))
    return room if isinstance(uploaded, np.ndarray) else uploaded


def sites_of(engine: Any, fences: Fences, tensor: SparseTensor) -> Any:
    """The engine's sites of a tensor, from fenced indices."""
    return engine.sites(fences.around(tensor.indices), tensor.spatial_shape, tensor.batch_size)


def oracle_rules(tensor: SparseTensor, geometry: Any) -> oracle.Rules:
    """The definition's rules over a tensor's sites."""
    return oracle.rules_of(tuples(tensor.indices), tensor.spatial_shape, geometry)


def assert_same_rules(rulebook: Rulebook, expected: oracle.Rules) -> None:
    """Sites, shapes and rules are exactly the definition's, in canonical order and with the promised dtypes."""
    assert rulebook.in_spatial_shape == expected.in_shape
    assert rulebook.out_spatial_shape == expected.out_shape
    assert tuples(rulebook.in_indices) == expected.in_sites
    assert tuples(rulebook.out_indices) == expected.out_sites
    splits = np.cumsum([0, *(len(tap) for tap in expected.by_tap)])
    assert rulebook.pair_splits.tolist() == splits.tolist()
    rules = [rule for tap in expected.by_tap for rule in tap]
    assert list(zip(rulebook.in_rows.tolist(), rulebook.out_rows.tolist(), strict=True)) == rules
    rows = (rulebook.in_indices, rulebook.out_indices, rulebook.in_rows, rulebook.out_rows)
    assert {array.dtype for array in rows} == {np.dtype(np.int32)}
    assert rulebook.pair_splits.dtype == np.int64


def assert_close(actual: np.ndarray, expected: np.ndarray, magnitude: np.ndarray | float) -> None:
    """float32 results against float64 ones: within 2e-6 of `magnitude`, the sum of absolute terms of each element."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    wrong = np.abs(actual - expected) > 2e-6 * magnitude + 1e-30
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size}: {actual[wrong][:4]} should be {expected[wrong][:4]}"


def magnitude_through(values: list[np.ndarray], slot: int) -> float:
    """Ten times the largest root mean square of a chain's values up to a slot: what rounding errors are relative to
    where terms may have cancelled in any layer before."""
    return 10 * max(float(np.sqrt(np.mean(value**2))) if value.size else 0.0 for value in values[: slot + 1])


@cache
def scene(seed: int, sites: int, shape: tuple[int, ...], batch_size: int = 1) -> SparseTensor:
    """A larger canonical tensor of one channel whose sites lie in clusters, as surfaces do."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, shape, (max(sites // 60, 1), len(shape)))
    cloud = np.repeat(centres, 90, axis=0) + rng.normal(0, 2.0, (90 * len(centres), len(shape)))
    inside = ((cloud >= 0) & (cloud < shape)).all(axis=1)
    cells = np.column_stack([rng.integers(0, batch_size, inside.sum()), cloud[inside]]).astype(np.int32)
    indices = np.unique(cells, axis=0)
    indices = indices[np.sort(rng.permutation(len(indices))[:sites])]
    features = rng.standard_normal((len(indices), 1)).astype(np.float32)
    return SparseTensor(features, np.ascontiguousarray(indices), shape, batch_size)


@cache
def scene_rules(geometry: ConvGeometry, *scene_arguments: Any) -> oracle.Rules:
    """The definition's rules over `scene(*scene_arguments)`, worked out once."""
    return oracle_rules(scene(*scene_arguments), geometry)
