"""Contract of `Engine.voxelize`: the oracle's voxels, bit for bit where the contract promises bits."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from contract import refusal_allowed, tuples
from fences import Fences
from spcli.engines.base import Points, download_voxels
from spcli.errors import ConfigError
from spcli.grid import VoxelSpec
from spcli.sparse_tensor import VoxelizedScan
from strategies import examples, point_clouds, voxel_specs

UNIT = VoxelSpec((1.0, 1.0, 1.0), (0, 0, 0, 4, 4, 4))


def voxelize(engine: Any, points: Points, spec: VoxelSpec, misalign: int = 0) -> VoxelizedScan:
    """Everything an engine can tell about a fenced scan."""
    fences = Fences(misalign)
    lent = replace(points, values=fences.around(points.values))
    scan = download_voxels(engine, engine.voxelize(lent, spec, point_map=True, hard=spec.max_points is not None))
    fences.check()
    return scan


def xyz_points(rows: list[list[float]]) -> Points:
    values = np.array(rows, np.float32).reshape(len(rows), -1) if rows else np.zeros((0, 4), np.float32)
    return Points(values, (0, 1, 2), tuple(range(values.shape[1])))


def assert_same_voxels(scan: VoxelizedScan, expected: oracle.Voxels, reduce: str) -> None:
    assert tuples(scan.tensor.indices) == expected.sites
    assert scan.tensor.spatial_shape == scan.grid.spatial_shape == expected.spatial_shape
    assert scan.tensor.batch_size == 1
    assert scan.grid.cells == expected.cells
    assert scan.num_points.tolist() == expected.num_points
    assert scan.point_rows is not None and scan.point_rows.tolist() == expected.point_rows
    assert asdict(scan.counts.points) | asdict(scan.counts.voxels) == expected.counts
    if expected.hard is not None:
        np.testing.assert_array_equal(scan.points, expected.hard)
    assert scan.tensor.features.dtype == np.float32
    assert scan.tensor.features.shape == expected.features.shape
    assert {a.dtype for a in (scan.num_points, scan.point_rows, scan.tensor.indices)} == {np.dtype(np.int32)}
    ulps = 1 if reduce in ("mean", "sum") else 0
    if expected.features.size:
        np.testing.assert_array_max_ulp(scan.tensor.features, expected.features, maxulp=ulps)


def definition(points: Points, spec: VoxelSpec) -> oracle.Voxels:
    return oracle.voxelize(points.values, points.xyz, points.features, spec)


@examples(120)
@given(st.data(), voxel_specs(), st.sampled_from((0, 4, 36)))
def test_voxels_are_the_definitions(engine: Any, data: st.DataObject, spec: VoxelSpec, misalign: int) -> None:
    points = data.draw(point_clouds(spec))
    expected = definition(points, spec)
    if spec.point_cloud_range is None and not expected.counts["in_range"]:
        return  # nothing to decide a range: see test_a_scan_without_finite_points_has_no_voxels
    assert_same_voxels(voxelize(engine, points, spec, misalign), expected, spec.reduce)


@pytest.mark.parametrize("reduce", ["mean", "first", "max", "sum"])
@pytest.mark.parametrize(("max_points", "max_voxels"), [(None, None), (5, None), (2, 900), (None, 300)])
def test_a_scan_of_many_points_in_few_and_many_voxels(
    engine: Any, reduce: Any, max_points: Any, max_voxels: Any
) -> None:
    rng = np.random.default_rng(5)
    near = rng.normal(0, 0.3, (1500, 3))
    far = rng.uniform((-45, -45, -3), (45, 45, 3), (2500, 3))
    xyz = np.round(np.concatenate([near, far])[rng.permutation(4000)], 3)
    values = np.column_stack([xyz, rng.uniform(0, 1, 4000)]).astype(np.float32)
    spec = VoxelSpec((0.2, 0.2, 0.4), (-40, -40, -2, 40, 40, 2), max_points, max_voxels, reduce, (1, 0, 0))
    points = Points(values, (0, 1, 2), (0, 1, 2, 3))
    assert_same_voxels(voxelize(engine, points, spec), definition(points, spec), reduce)


def test_the_mean_is_summed_in_float64_in_file_order(engine: Any) -> None:
    """In float32 the small values would vanish beside the large one."""
    points = xyz_points([[0.5, 0.5, 0.5, 2.0**25], *[[0.5, 0.5, 0.5, 1.0]] * 64, [0.5, 0.5, 0.5, -(2.0**25)]])
    scan = voxelize(engine, points, replace(UNIT, reduce="sum"))
    assert scan.tensor.features[0, 3] == 64.0


def test_huge_intensities_stay_finite_in_a_mean(engine: Any) -> None:
    points = xyz_points([[0.5, 0.5, 0.5, 3e38], [0.5, 0.5, 0.5, 3e38]])
    assert voxelize(engine, points, UNIT).tensor.features[0, 3] == np.float32(3e38)


@pytest.mark.parametrize("size", [0.05, 0.1, 0.075, 0.3])
def test_points_on_a_millimetre_lattice_fall_where_float32_division_says(engine: Any, size: float) -> None:
    x = (np.arange(-40_000, 40_000, 3) / 1000).astype(np.float32)
    values = np.column_stack([x, x[::-1], np.zeros_like(x)])
    spec = VoxelSpec((size, size, 0.1), (-39.9, -39.9, -3, 39.9, 39.9, 1))
    scan = voxelize(engine, Points(values, (0, 1, 2), (0, 1, 2)), spec)
    steps = np.floor((values - np.array([-39.9, -39.9, -3], np.float32)) / np.array([size, size, 0.1], np.float32))
    inside = ((steps >= 0) & (steps < scan.grid.cells[::-1])).all(axis=1)
    assert scan.point_rows is not None
    np.testing.assert_array_equal(scan.point_rows >= 0, inside)
    sites = scan.tensor.indices[scan.point_rows[inside]][:, :0:-1]
    np.testing.assert_array_equal(sites, steps[inside])


@pytest.mark.parametrize(
    "row",
    [
        [4, 0, 0], [0, 4, 0], [0, 0, 4], [-1e-30, 0, 0], [3e38, 0, 0], [-3e38, 0, 0], [1e10, 1e10, 1e10],
        [2147483648.0, 0, 0], [4294967296.0, 0, 0],
    ],
)  # fmt: skip
def test_points_outside_are_counted_and_nothing_wraps_around(engine: Any, row: list[float]) -> None:
    scan = voxelize(engine, xyz_points([row]), UNIT)
    assert scan.counts.points.out_of_range == 1
    assert scan.tensor.indices.shape == (0, 4)
    assert scan.point_rows is not None and scan.point_rows.tolist() == [-1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_a_value_that_is_not_finite_in_any_used_column_drops_the_point(engine: Any, bad: float, column: int) -> None:
    rows = [[1.5, 1.5, 1.5, 1.0], [1.5, 1.5, 1.5, 2.0]]
    rows[1][column] = bad
    scan = voxelize(engine, xyz_points(rows), UNIT)
    assert (scan.counts.points.nonfinite, scan.counts.points.in_range) == (1, 1)
    assert scan.tensor.features.tolist() == [rows[0]]


def test_a_column_that_is_not_used_may_hold_anything(engine: Any) -> None:
    values = np.array([[1.5, 1.5, 1.5, np.nan, 7.0]], np.float32)
    scan = voxelize(engine, Points(values, (0, 1, 2), (4, 0)), UNIT)
    assert scan.tensor.features.tolist() == [[7.0, 1.5]]


@pytest.mark.parametrize("rows", [[], [[9.0, 9.0, 9.0, 1.0]], [[np.nan, 0.0, 0.0, 1.0]]])
def test_no_points_and_no_points_in_range_give_no_voxels(engine: Any, rows: list[list[float]]) -> None:
    scan = voxelize(engine, xyz_points(rows), replace(UNIT, max_points=3))
    assert scan.tensor.features.shape == (0, 4) and scan.tensor.indices.shape == (0, 4)
    assert scan.tensor.spatial_shape == (4, 4, 4)
    assert scan.num_points.shape == (0,) and scan.points is not None and scan.points.shape == (0, 3, 4)
    assert scan.counts.points.read == len(rows)


@pytest.mark.parametrize("rows", [[], [[np.nan, 0.0, 0.0, 1.0]]])
def test_a_scan_without_finite_points_has_no_voxels(engine: Any, rows: list[list[float]]) -> None:
    scan = voxelize(engine, xyz_points(rows), replace(UNIT, point_cloud_range=None))
    assert scan.tensor.features.shape == (0, 4) and scan.tensor.indices.shape == (0, 4)
    assert min(scan.tensor.spatial_shape) >= 0


def test_one_voxel_takes_a_hundred_thousand_points(engine: Any) -> None:
    """Organised Ouster clouds carry that many (0, 0, 0) no-returns."""
    values = np.zeros((100_000, 4), np.float32)
    values[:, 3] = np.arange(100_000) % 7
    scan = voxelize(engine, Points(values, (0, 1, 2), (0, 1, 2, 3)), replace(UNIT, max_points=5))
    assert scan.num_points.tolist() == [5]
    assert scan.counts.voxels.max_points_in_a_voxel == 100_000
    assert scan.counts.points.over_max_points == 99_995
    assert scan.tensor.features[0, 3] == 2.0


def test_a_grid_of_more_than_two_to_the_31_cells(engine: Any) -> None:
    spec = VoxelSpec((0.1, 0.1, 0.2), (-200, -200, -20, 200, 200, 20), spatial_shape_extra=(1, 0, 0))
    points = xyz_points([[199.95, 199.95, 19.9, 1.0], [-199.95, -199.95, -19.9, 2.0], [199.95, 199.95, 19.85, 3.0]])
    scan = voxelize(engine, points, spec)
    assert scan.tensor.spatial_shape == (201, 4000, 4000)
    assert scan.tensor.indices.tolist() == [[0, 0, 0, 0], [0, 199, 3999, 3999]]
    assert scan.tensor.features[:, 3].tolist() == [2.0, 2.0]


def test_a_grid_far_too_large_for_any_table(engine: Any) -> None:
    """Two billion cells on each axis: 2**93 in all."""
    spec = VoxelSpec((1.0, 1.0, 1.0), (0, 0, 0, 2e9, 2e9, 2e9))
    points = xyz_points([[1.9e9, 1.9e9, 1.9e9, 1.0], [0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.9e9, 3.0]])
    expected = definition(points, spec)
    with refusal_allowed(2 * 10**27):
        assert tuples(voxelize(engine, points, spec).tensor.indices) == expected.sites


def test_a_scan_that_is_too_wide_for_a_range_of_its_own_is_refused(engine: Any) -> None:
    points = xyz_points([[0, 0, 0, 1.0], [3e9, 0, 0, 1.0]])
    with pytest.raises(ConfigError, match="larger voxel_size"):
        voxelize(engine, points, replace(UNIT, point_cloud_range=None))
