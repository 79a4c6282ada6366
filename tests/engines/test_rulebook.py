"""Contract of `Engine.sites`, `build`, `invert` and `rulebook`: exactly the definition's rules in canonical order."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from contract import assert_same_rules, oracle_rules, refusal_allowed, scene, sites_of, tuples
from fences import Fences
from spcli.engines import load_engine
from spcli.errors import InputError
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.rulebook import Rulebook
from spcli.sparse_tensor import SparseTensor
from strategies import convolutions, examples, sparse_tensors

CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
DOWN2 = regular_geometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
FLAT = regular_geometry((3, 1, 1), (2, 1, 1), (0, 0, 0), (1, 1, 1))
SCENES = {
    "subm 3": CUBE3,
    "subm 5": submanifold_geometry((5, 5, 5), (1, 1, 1)),
    "subm 3 dilation 2": submanifold_geometry((3, 3, 3), (2, 2, 2)),
    "subm 3,1,1": submanifold_geometry((3, 1, 1), (1, 1, 1)),
    "subm 1": submanifold_geometry((1, 1, 1), (1, 1, 1)),
    "k3 s2 p1": DOWN3,
    "k2 s2": DOWN2,
    "k3,1,1 s2,1,1": FLAT,
    "k3 s1 p1": regular_geometry((3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "k2 s3": regular_geometry((2, 2, 2), (3, 3, 3), (1, 0, 2), (1, 1, 1)),
    "k4 s2 p1 d2": regular_geometry((4, 4, 4), (2, 2, 2), (1, 1, 1), (2, 2, 2)),
    "transposed k2 s2": ConvGeometry((2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3, (0,) * 3, transposed=True),
    "transposed k3 s2 p1 o1": ConvGeometry((3,) * 3, (2,) * 3, (1,) * 3, (1,) * 3, (1,) * 3, transposed=True),
    "transposed k3 s3 d2": ConvGeometry((3,) * 3, (3,) * 3, (0,) * 3, (2,) * 3, (0,) * 3, transposed=True),
}


def built(engine: Any, tensor: SparseTensor, geometry: ConvGeometry) -> tuple[Any, Rulebook]:
    """The engine's map over fenced indices, and its rules."""
    fences = Fences()
    engine_map = engine.build(sites_of(engine, fences, tensor), geometry)
    rulebook = engine.rulebook(engine_map)
    fences.check()
    return engine_map, rulebook


def rules_by_tap(rulebook: Rulebook) -> list[set[tuple[int, int]]]:
    pairs = list(zip(rulebook.in_rows.tolist(), rulebook.out_rows.tolist(), strict=True))
    return [set(pairs[start:end]) for start, end in pairwise(rulebook.pair_splits.tolist())]


@examples(150)
@given(convolutions())
def test_rules_are_the_definitions_in_canonical_order(engine: Any, case: tuple[SparseTensor, ConvGeometry]) -> None:
    tensor, geometry = case
    engine_map, rulebook = built(engine, tensor, geometry)
    assert_same_rules(rulebook, oracle_rules(tensor, geometry))
    assert rulebook.geometry == geometry
    assert rulebook.batch_size == tensor.batch_size
    assert tuples(engine.indices(engine_map.outputs)) == tuples(rulebook.out_indices)


@examples(60)
@given(convolutions())
def test_the_inverse_is_the_forward_map_with_its_ends_swapped(
    engine: Any, case: tuple[SparseTensor, ConvGeometry]
) -> None:
    tensor, geometry = case
    forward, _ = built(engine, tensor, geometry)
    backward = engine.invert(forward)
    assert_same_rules(engine.rulebook(backward), oracle.inverse_of(oracle_rules(tensor, geometry)))
    assert tuples(engine.indices(backward.outputs)) == tuples(tensor.indices)


@examples(80)
@given(convolutions(), st.sampled_from(sorted(SCENES)))
def test_rules_over_the_outputs_of_another_map(engine: Any, case: tuple[SparseTensor, ConvGeometry], name: str) -> None:
    """Outputs are sites like any others, also where windows missed whole rows and planes."""
    tensor, geometry = case
    ndim = len(tensor.spatial_shape)
    following = regular_geometry((3,) * ndim, (2,) * ndim, (1,) * ndim, (1,) * ndim) if ndim == 2 else SCENES[name]
    first = oracle_rules(tensor, geometry)
    if min(following.out_spatial_shape(first.out_shape)) < 1:
        return
    between = engine.build(sites_of(engine, Fences(), tensor), geometry).outputs
    second = engine.build(between, following)
    assert_same_rules(engine.rulebook(second), oracle.rules_of(first.out_sites, first.out_shape, following))


# These have the most rules; the interpreter meets their kinds in others of the scenes, and all of them on few sites.
MANY_RULES = ("subm 5", "k3 s1 p1", "transposed k3 s2 p1 o1", "transposed k3 s3 d2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.soak if name in MANY_RULES else ()) for name in SCENES]
)
def test_rules_of_a_scene_of_three_thousand_sites(engine: Any, name: str) -> None:
    tensor = scene(3, 3000, (12, 60, 55), batch_size=2)
    _, rulebook = built(engine, tensor, SCENES[name])
    assert len(tensor.indices) == 3000
    assert_same_rules(rulebook, oracle_rules(tensor, SCENES[name]))


def test_rules_of_a_plane_of_three_thousand_sites(engine: Any) -> None:
    tensor = scene(4, 3000, (120, 130), batch_size=3)
    for geometry in (
        submanifold_geometry((3, 3), (1, 1)),
        submanifold_geometry((7, 5), (1, 2)),
        regular_geometry((3, 3), (2, 2), (1, 1), (1, 1)),
        ConvGeometry((2, 2), (2, 2), (0, 0), (1, 1), (0, 0), transposed=True),
    ):
        _, rulebook = built(engine, tensor, geometry)
        assert_same_rules(rulebook, oracle_rules(tensor, geometry))


def test_a_chain_of_maps_goes_on_from_the_outputs_of_the_last(engine: Any) -> None:
    """Sites 41 high shrink as in SECOND: 41, 21, 11, 5, 2, every level with its submanifold map."""
    tensor = scene(6, 1200, (41, 50, 45))
    last_pad = regular_geometry((3, 3, 3), (2, 2, 2), (0, 1, 1), (1, 1, 1))
    sites, expected = sites_of(engine, Fences(), tensor), tuples(tensor.indices)
    shape, heights = tensor.spatial_shape, []
    for geometry in (DOWN3, DOWN3, last_pad, FLAT):
        assert_same_rules(engine.rulebook(engine.build(sites, CUBE3)), oracle.rules_of(expected, shape, CUBE3))
        rules = oracle.rules_of(expected, shape, geometry)
        down = engine.build(sites, geometry)
        assert_same_rules(engine.rulebook(down), rules)
        sites, expected, shape = down.outputs, rules.out_sites, rules.out_shape
        heights.append(shape[0])
    assert heights == [21, 11, 5, 2]


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_no_sites_give_no_rules(engine: Any, shape: tuple[int, ...], batch_size: int) -> None:
    ndim = len(shape)
    empty = SparseTensor(np.zeros((0, 1), np.float32), np.zeros((0, 1 + ndim), np.int32), shape, batch_size)
    ones = (1,) * ndim
    for geometry in (
        submanifold_geometry((3,) * ndim, ones),
        regular_geometry((3,) * ndim, (2,) * ndim, ones, ones),
        ConvGeometry((2,) * ndim, (2,) * ndim, (0,) * ndim, ones, (0,) * ndim, transposed=True),
    ):
        engine_map, rulebook = built(engine, empty, geometry)
        assert_same_rules(rulebook, oracle_rules(empty, geometry))
        assert rulebook.out_indices.shape == (0, 1 + ndim)
        assert len(rulebook.pair_splits) == geometry.volume + 1
        assert_same_rules(engine.rulebook(engine.invert(engine_map)), oracle.inverse_of(oracle_rules(empty, geometry)))


def test_sites_that_no_window_reaches_have_no_outputs(engine: Any) -> None:
    """Kernel 1, stride 2: sites on odd rows fall between the windows."""
    tensor = SparseTensor(np.ones((2, 1), np.float32), np.array([[0, 1, 1, 1], [0, 1, 3, 1]], np.int32), (4, 4, 4))
    _, rulebook = built(engine, tensor, regular_geometry((1,) * 3, (2,) * 3, (0,) * 3, (1,) * 3))
    assert rulebook.out_indices.shape == (0, 4) and rulebook.in_rows.shape == (0,)
    assert rulebook.out_spatial_shape == (2, 2, 2)


FAR_SHAPES = ((201, 4000, 4000), (41, 1600, 1408), (2000, 60_000, 70_000), (2**31 - 1,) * 3)


@pytest.mark.parametrize("shape", FAR_SHAPES)
@pytest.mark.parametrize("name", ["subm 3", "subm 5", "subm 3 dilation 2", "k3 s2 p1", "k2 s2", "transposed k2 s2"])
def test_grids_of_more_cells_than_an_int32_counts(engine: Any, shape: tuple[int, ...], name: str) -> None:
    """Sites at both ends of the grid and in a clump at its far corner, in two scans."""
    geometry = SCENES[name]
    if max(geometry.out_spatial_shape(shape)) > 2**31 - 1:
        return  # no int32 site could name the outputs
    corner = np.array(shape) - 1
    rng = np.random.default_rng(8)
    clump = corner - rng.integers(0, 4, (60, 3))
    spatial = np.concatenate([clump, [[0, 0, 0], [0, 0, 1], [0, 0, corner[2]], [corner[0], 0, 0]]])
    indices = np.unique(np.column_stack([rng.integers(0, 2, len(spatial)), spatial]), axis=0).astype(np.int32)
    tensor = SparseTensor(np.ones((len(indices), 1), np.float32), indices, shape, 2)
    with refusal_allowed(2 * prod(shape)):
        engine_map, rulebook = built(engine, tensor, geometry)
        assert_same_rules(rulebook, oracle_rules(tensor, geometry))
        assert_same_rules(engine.rulebook(engine.invert(engine_map)), oracle.inverse_of(oracle_rules(tensor, geometry)))


@examples(40)
@given(sparse_tensors(max_sites=40), st.sampled_from(("subm 3", "subm 5", "subm 3 dilation 2", "subm 3,1,1")))
def test_submanifold_rules_mirror(engine: Any, tensor: SparseTensor, name: str) -> None:
    """p to q through tap k exactly where q to p through the mirrored tap; the centre joins every site to itself."""
    _, rulebook = built(engine, tensor, SCENES[name])
    by_tap = rules_by_tap(rulebook)
    for tap, mirrored in zip(by_tap, reversed(by_tap), strict=True):
        assert tap == {(out, row) for row, out in mirrored}
    assert by_tap[len(by_tap) // 2] == {(row, row) for row in range(len(tensor.indices))}


@examples(40)
@given(convolutions())
def test_no_rule_stands_twice_and_no_tap_reaches_a_row_twice(
    engine: Any, case: tuple[SparseTensor, ConvGeometry]
) -> None:
    tensor, geometry = case
    _, rulebook = built(engine, tensor, geometry)
    for start, end in pairwise(rulebook.pair_splits.tolist()):
        assert (np.diff(rulebook.out_rows[start:end]) > 0).all()
        assert (np.diff(rulebook.in_rows[start:end]) > 0).all()


@examples(40)
@given(sparse_tensors(max_sites=40), st.tuples(*[st.integers(0, 2)] * 3))
def test_moving_all_sites_by_whole_strides_moves_the_outputs_and_keeps_the_rules(
    engine: Any, tensor: SparseTensor, zyx: tuple[int, int, int]
) -> None:
    room = tuple(size + 14 for size in tensor.spatial_shape)
    away = tensor.indices + np.array([0, 4, 4, 4], np.int32)  # clear of the lower faces, where windows are cut
    for geometry, stride in ((CUBE3, 1), (DOWN3, 2), (SCENES["k2 s3"], 3)):
        steps = np.array([0, *zyx], np.int32)
        here = SparseTensor(tensor.features, away, room, tensor.batch_size)
        there = SparseTensor(tensor.features, away + stride * steps, room, tensor.batch_size)
        (_, before), (_, after) = built(engine, here, geometry), built(engine, there, geometry)
        np.testing.assert_array_equal(before.out_indices + steps, after.out_indices)
        np.testing.assert_array_equal(before.in_rows, after.in_rows)
        np.testing.assert_array_equal(before.out_rows, after.out_rows)


@examples(40)
@given(sparse_tensors(max_sites=40))
def test_scans_of_a_batch_never_meet(engine: Any, tensor: SparseTensor) -> None:
    for geometry in (CUBE3, DOWN3, SCENES["transposed k2 s2"]):
        _, rulebook = built(engine, tensor, geometry)
        batches = rulebook.in_indices[rulebook.in_rows, 0], rulebook.out_indices[rulebook.out_rows, 0]
        np.testing.assert_array_equal(*batches)


def test_indices_come_back_as_they_went_in(engine: Any) -> None:
    tensor = scene(9, 500, (9, 30, 31), batch_size=3)
    sites = sites_of(engine, Fences(), tensor)
    returned = engine.indices(sites)
    np.testing.assert_array_equal(returned, tensor.indices)
    returned[:] = -1  # the caller owns it
    np.testing.assert_array_equal(engine.indices(sites), tensor.indices)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 0, 0, 0], [0, -1, 0, 0]], r"row 1 is at \[0, -1, 0, 0\], outside batch_size 2"),
        ([[0, 0, 0, 4]], "row 0 .*outside"),
        ([[2, 0, 0, 0]], "row 0 .*outside"),
        ([[0, 0, 0, 1], [0, 0, 0, 1]], "row 1 repeats the site"),
        ([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 2, 0]], r"row 2 at \[0, 0, 2, 0\] comes after \[1, 0, 0, 0\]; sort"),
        ([[0, 0, 0]], r"indices have shape \[1, 3\]"),
    ],
)
def test_indices_that_are_no_sites_are_refused(engine: Any, rows: list[list[int]], message: str) -> None:
    """An engine is the last to look before memory is read by them."""
    with pytest.raises(InputError, match=message):
        engine.sites(np.array(rows, np.int32), (2, 3, 4), 2)


def test_a_tensor_without_a_grid_is_refused() -> None:
    with pytest.raises(InputError, match="no grid"):
        load_engine("cpu").sites(np.zeros((1, 1), np.int32), (), 1)
