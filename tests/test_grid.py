"""Metres and integer sites, and the voxelizer's definition by hand."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
from spcli.errors import ConfigError
from spcli.grid import VoxelGrid, VoxelSpec, fixed_grid, grid_around

KITTI = VoxelSpec((0.05, 0.05, 0.1), (0, -40, -3, 70.4, 40, 1), spatial_shape_extra=(1, 0, 0))


@pytest.mark.parametrize(
    ("size", "limits", "cells"),
    [
        ((0.05, 0.05, 0.1), (0, -40, -3, 70.4, 40, 1), (40, 1600, 1408)),
        ((0.1, 0.1, 0.2), (-51.2, -51.2, -5, 51.2, 51.2, 3), (40, 1024, 1024)),
        ((0.075, 0.075, 0.2), (-54, -54, -5, 54, 54, 3), (40, 1440, 1440)),
        ((0.1, 0.1, 0.15), (-75.2, -75.2, -2, 75.2, 75.2, 4), (40, 1504, 1504)),
        ((0.1, 0.1, 0.2), (-200, -200, -20, 200, 200, 20), (200, 4000, 4000)),
        ((0.16, 0.16, 4), (0, -39.68, -3, 69.12, 39.68, 1), (1, 496, 432)),
    ],
)
def test_the_grid_of_every_public_preset(size: tuple, limits: tuple, cells: tuple) -> None:
    grid = fixed_grid(VoxelSpec(size, limits, spatial_shape_extra=(1, 0, 0)))
    assert grid.cells == cells
    assert grid.spatial_shape == (cells[0] + 1, *cells[1:])


def test_origin_and_voxel_size_are_rounded_to_float32() -> None:
    grid = fixed_grid(KITTI)
    assert grid.origin.dtype == grid.voxel_size.dtype == np.float32
    assert grid.origin.tolist() == [0.0, -40.0, -3.0]
    assert float(grid.voxel_size[0]) == float(np.float32(0.05)) != 0.05


@pytest.mark.parametrize("limits", [(0, 0, 0, 0, 1, 1), (0, 0, 0, 1, -1, 1), (-1e9, 0, 0, 1e9, 1, 1)])
def test_a_range_without_cells_or_with_too_many_is_a_configuration_error(limits: tuple) -> None:
    with pytest.raises(ConfigError, match=r"voxelize\.point_cloud_range"):
        fixed_grid(VoxelSpec((0.05, 0.05, 0.1), limits))


def test_without_a_range_the_grid_starts_at_a_multiple_of_the_voxel_size() -> None:
    low, high = np.array([-1.23, 0.5, 0.0], np.float32), np.array([1.0, 0.5, 0.31], np.float32)
    grid = grid_around(low, high, VoxelSpec((0.5, 0.5, 0.1)))
    assert grid.origin.tolist() == [-1.5, 0.5, 0.0]
    assert grid.cells == grid.spatial_shape == (4, 1, 6)


def test_a_scan_too_wide_for_its_voxels_is_a_configuration_error() -> None:
    far = np.array([3e9, 0, 0], np.float32)
    with pytest.raises(ConfigError, match="larger voxel_size"):
        grid_around(np.zeros(3, np.float32), far, VoxelSpec((0.5, 0.5, 0.5)))


def test_the_lowest_point_is_always_inside_its_own_grid() -> None:
    """`size * floor(low / size)` can round to above `low`; the origin is then one step further down."""
    rng = np.random.default_rng(0)
    size = np.float32(0.05)
    lows = (rng.integers(-80_000, 80_000, 20_000) / 1000).astype(np.float32)
    above = [low for low in lows if np.floor(low / size) * size > low]
    spec = VoxelSpec((0.05, 0.05, 0.05))
    for low in [*above[:50], *lows[:50]]:
        corner = np.full(3, low, np.float32)
        grid = grid_around(corner, corner, spec)
        assert (grid.origin <= corner).all() and min(grid.cells) >= 1


def spec(**changes: object) -> VoxelSpec:
    return VoxelSpec(**({"voxel_size": (1.0, 1.0, 1.0), "point_cloud_range": (0, 0, 0, 4, 4, 4)} | changes))


def voxels(points: list[list[float]], **changes: object) -> oracle.Voxels:
    values = np.array(points, np.float32).reshape(len(points), -1)
    return oracle.voxelize(values, (0, 1, 2), tuple(range(values.shape[1])), spec(**changes))


THREE_POINTS = [[0.5, 0.5, 0.5, 1.0], [2.5, 0.5, 0.5, 5.0], [0.75, 0.5, 0.5, 3.0]]


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [("mean", [0.625, 0.5, 0.5, 2.0]), ("first", [0.5, 0.5, 0.5, 1.0]), ("max", [0.75, 0.5, 0.5, 3.0]),
     ("sum", [1.25, 1.0, 1.0, 4.0])],
)  # fmt: skip
def test_the_oracle_reduces_points_as_a_person_would(reduce: str, expected: list[float]) -> None:
    result = voxels(THREE_POINTS, reduce=reduce)
    assert result.sites == [(0, 0, 0, 0), (0, 0, 0, 2)]
    assert result.num_points == [2, 1] and result.point_rows == [0, 1, 0]
    assert result.features[0].tolist() == expected


def test_the_oracle_keeps_first_points_and_first_voxels_and_counts_the_rest() -> None:
    points = [[2.5, 0, 0], [0.5, 0, 0], [2.6, 0, 0], [3.5, 0, 0], [2.7, 0, 0], [0.6, 0, 0], [3.6, 0, 0], [9, 0, 0]]
    result = voxels([*points, [np.nan, 0, 0]], max_points=2, max_voxels=2)
    assert result.sites == [(0, 0, 0, 0), (0, 0, 0, 2)]
    assert result.point_rows == [1, 0, 1, -1, -1, 0, -1, -1, -1]
    assert result.counts == {
        "read": 9, "in_range": 7, "nonfinite": 1, "out_of_range": 1, "over_max_points": 1, "over_max_voxels": 2,
        "active": 2, "dropped": 1, "max_points_in_a_voxel": 3,
    }  # fmt: skip
    assert result.hard is not None and result.hard[1, :, 0].tolist() == [np.float32(2.5), np.float32(2.6)]


def test_the_lower_face_is_inside_and_the_upper_face_outside() -> None:
    result = voxels([[0, 0, 0], [4, 0, 0], [np.nextafter(np.float32(0), np.float32(-1)), 0, 0], [-0.0, 0, 0]])
    assert result.point_rows == [0, -1, -1, 0]


def test_division_in_float32_is_not_multiplication_by_the_reciprocal() -> None:
    """On a 1 mm lattice the two put points into different cells, and so does float64: only one of them is the rule."""
    x = (np.arange(70_400) / 1000).astype(np.float32)
    size = np.float32(0.05)
    exact = np.floor(x / size)
    assert (exact != np.floor(x * (np.float32(1) / size))).any()
    assert (exact != np.floor(x.astype(np.float64) / 0.05)).any()
    grid = VoxelGrid(np.zeros(3, np.float32), np.full(3, size), (1, 1, 1408), (1, 1, 1408))
    picked = x[::977]
    sites = [oracle.site_of(np.array([p, 0, 0], np.float32), grid.origin, VoxelSpec((0.05,) * 3), None) for p in picked]
    assert [site[2] for site in sites] == exact[::977].astype(int).tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(1e-40, 1, 1), (1e-60, 1, 1), (1e300, 1, 1), (1, 1, 1e-310)])
@pytest.mark.parametrize("far", [1.0, 3e38])
def test_sizes_that_overflow_are_configuration_errors_without_warnings(size: tuple, far: float) -> None:
    low, high = np.full(3, -far, np.float32), np.full(3, far, np.float32)
    with pytest.raises(ConfigError):
        grid_around(low, high, VoxelSpec(size))
    with pytest.raises(ConfigError):
        fixed_grid(VoxelSpec(size, (0, 0, 0, 1, 1, 1)))


@pytest.mark.filterwarnings("error")
def test_points_and_ranges_that_overflow_are_configuration_errors() -> None:
    far = np.full(3, 3e38, np.float32)
    with pytest.raises(ConfigError):
        grid_around(-far, far, VoxelSpec((1, 1, 1)))
    with pytest.raises(ConfigError):
        fixed_grid(VoxelSpec((1e299, 1, 1), (-1e300, 0, 0, 1e300, 1, 1)))
