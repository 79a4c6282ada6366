"""Points to voxels on the CPU; the work is in voxelize.cpp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Points, Voxels
from spcli.engines.bounds import grid_of
from spcli.engines.cpu.library import Handle, address, aligned_empty, library
from spcli.engines.cpu.rulebook import own_sites
from spcli.grid import PointCounts, ScanCounts, VoxelCounts, VoxelSpec

_REDUCE = {"mean": 0, "first": 1, "max": 2, "sum": 3}


def voxelize(points: Points, spec: VoxelSpec, *, point_map: bool = False, hard: bool = False) -> Voxels:
    """Points to voxels, exactly as docs/files.md defines them.

    Raises:
        ConfigError: the grid has an axis without a cell, or with more cells than an int32 site can hold.
        ValueError: `hard` without `max_points`.
    """
    if hard and spec.max_points is None:
        raise ValueError("hard voxels need max_points")
    values = np.ascontiguousarray(points.values, np.float32)
    xyz, columns = np.array(points.xyz, np.int32), np.array(points.features, np.int32)
    count, stride, channels = len(values), values.shape[1], len(columns)
    grid = grid_of(points, spec)
    cells, shape = np.array(grid.cells, np.int64), np.array(grid.spatial_shape, np.int64)
    tally = np.zeros(7, np.int64)
    max_voxels = -1 if spec.max_voxels is None else spec.max_voxels
    handle = Handle(
        library().spcli_voxelize(
            address(values), count, stride, address(xyz), address(columns), channels, address(grid.origin),
            address(grid.voxel_size), address(cells), address(shape), max_voxels, address(tally),
        ),
        library().spcli_voxelization_free,
    )  # fmt: skip
    sites = own_sites(library().spcli_voxelization_sites(handle.pointer), grid.spatial_shape, 1)
    features = aligned_empty(sites.count, channels)
    num_points = np.empty(sites.count, np.int32)
    point_rows = np.full(count, -1, np.int32) if point_map else None
    slots = np.empty((sites.count, spec.max_points or 0, channels), np.float32) if hard else None
    over_max_points = library().spcli_voxel_features(
        handle.pointer, address(values), stride, address(columns), channels,
        -1 if spec.max_points is None else spec.max_points, _REDUCE[spec.reduce],
        address(features), address(num_points), address(point_rows), address(slots),
    )  # fmt: skip
    counts = _counts(tally, count, sites.count, over_max_points)
    return Voxels(sites, features, num_points, counts, grid, point_rows, slots)


def _counts(tally: NDArray[np.int64], read: int, active: int, over_max_points: int) -> ScanCounts:
    in_range, nonfinite, out_of_range, _, over_max_voxels, fullest, dropped = (int(n) for n in tally)
    points = PointCounts(read, in_range, nonfinite, out_of_range, over_max_points, over_max_voxels)
    return ScanCounts(points, VoxelCounts(active, dropped, fullest))
