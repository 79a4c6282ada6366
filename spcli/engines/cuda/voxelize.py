"""Points to voxels on the device; the work is in kernels/runs.py and kernels/voxelize.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from triton import next_power_of_2

from spcli.engines.base import Points, Voxels
from spcli.engines.bounds import grid_of
from spcli.engines.cuda.arrays import download, empty, upload, zeroed
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.capacity import Capacity
from spcli.engines.cuda.kernels import voxelize as kernels
from spcli.engines.cuda.launch import launch
from spcli.engines.cuda.points import DeviceGrid, DevicePoints, device_grid
from spcli.engines.cuda.runs import (
    SortedPoints,
    VoxelOptions,
    VoxelRuns,
    VoxelTask,
    all_runs,
    block_points,
    first_seen_runs,
    programs,
    sorted_points,
)
from spcli.engines.cuda.sites import CudaSites, check_cells
from spcli.engines.tensors import STORAGE
from spcli.grid import PointCounts, ScanCounts, VoxelCounts, VoxelSpec

TALLY = 7  # active, nonfinite, out_of_range, over_max_points, over_max_voxels, fullest, dropped
_SHORT = 64  # points of a voxel that are reduced one after another; above it many at once
_UNROLL = 4  # points of a voxel that are loaded together
# What one program does: voxels times channels; points of a crowded voxel times channels.
_DEVICE, _SCALED = (512, 2048), (65536, 65536)


@dataclass(frozen=True)
class DeviceVoxels:
    """Voxels whose number only the device knows.

    Attributes:
        sites: the active sites.
        features: `[capacity, C]` in the engine's format.
        num_points: int32 `[capacity]`.
        tally: int32 `[TALLY]`; the first is the true number of voxels, which may pass the capacity.
        point_rows: int32 `[capacity of the points]` or None.
        points: float32 `[capacity, max_points, C]` or None.
    """

    sites: CudaSites
    features: Tensor
    num_points: Tensor
    tally: Tensor
    point_rows: Tensor | None
    points: Tensor | None


def voxelize(points: Points, spec: VoxelSpec, capacity: Capacity, dtype: str, options: VoxelOptions) -> Voxels:
    """Points to voxels, exactly as docs/files.md defines them.

    Raises:
        ConfigError: the grid has an axis without a cell or with more cells than an int32 site can hold, or more cells
            than a key can number.
        ValueError: `hard` without `max_points`.
    """
    grid = grid_of(points, spec)
    read = len(points.values)
    values = upload(np.asarray(points.values, np.float32))
    device_points = DevicePoints(values, upload(np.array([read], np.int32)), points.xyz, points.features)
    made = record(device_points, device_grid(grid), spec, capacity, dtype, options)
    counts = scan_counts(download(made.tally), read)
    return Voxels(made.sites, made.features, made.num_points, counts, grid, made.point_rows, made.points)


def scan_counts(tally: NDArray[np.int32], read: int) -> ScanCounts:
    """What became of `read` points, from a downloaded tally."""
    active, nonfinite, out_of_range, over_max_points, over_max_voxels, fullest, dropped = (int(n) for n in tally)
    in_range = read - nonfinite - out_of_range
    points = PointCounts(read, in_range, nonfinite, out_of_range, over_max_points, over_max_voxels)
    return ScanCounts(points, VoxelCounts(active, dropped, fullest))


def record(
    points: DevicePoints, grid: DeviceGrid, spec: VoxelSpec, capacity: Capacity, dtype: str, options: VoxelOptions
) -> DeviceVoxels:
    """Starts the voxelization of however many points there are.

    Raises:
        ConfigError: the grid has more cells than a key can number.
        ValueError: `options.hard` without `max_points`.
    """
    if options.hard and spec.max_points is None:
        raise ValueError("hard voxels need max_points")
    check_cells(grid.spatial_shape, 1)
    task = VoxelTask(points, grid, spec, dtype, options)
    counters = zeroed(TALLY + 2, torch.int32)
    tally, found, total = counters[:TALLY], counters[TALLY : TALLY + 1], counters[TALLY + 1 :]
    order = sorted_points(task, tally)
    capped = task.max_voxels is not None
    runs = first_seen_runs(task, order, tally, found) if capped else all_runs(task, order, tally[:1])
    voxels = _rows(task, order, runs, (tally, total), capacity.rows(tally[:1]))
    return _placed(task, order, runs, voxels) if task.places_points else voxels


def _rows(
    task: VoxelTask, order: SortedPoints, runs: VoxelRuns, counts: tuple[Tensor, Tensor], rows: int
) -> DeviceVoxels:
    points, grid, channels = task.points, task.grid, len(task.points.features)
    indices, num_points = empty((rows, 4), torch.int32), empty(rows, torch.int32)
    features = empty((rows, channels), STORAGE[task.dtype])
    tally, total = counts
    lanes = next_power_of_2(max(channels, 1))
    crowded = task.spec.reduce != "first" and task.max_points > _SHORT
    block, chunk = (max(size // lanes, 1) for size in (_SCALED if scaled() else _DEVICE))
    launch(
        kernels.make_rows, (-(-rows // block),), points.values, order.keys, order.order, runs.kept_start,
        runs.kept_stop, grid.cells, tally, total, indices, features, num_points, rows, task.max_points,
        REDUCE=task.spec.reduce, LONGEST=_SHORT if crowded else 0, TF32=task.dtype == "tf32", BLOCK=block,
        LANES=lanes, CHUNK=chunk, UNROLL=_UNROLL, **points.layout,
    )  # fmt: skip
    sites = CudaSites(grid.spatial_shape, 1, indices, total, grid.shape, grid.grows)
    return DeviceVoxels(sites, features, num_points, tally, None, None)


def _placed(task: VoxelTask, order: SortedPoints, runs: VoxelRuns, voxels: DeviceVoxels) -> DeviceVoxels:
    points, rows, options = task.points, len(voxels.num_points), task.options
    point_rows = empty(task.capacity, torch.int32) if options.point_map else None
    slots = zeroed((rows, task.max_points, len(points.features)), torch.float32) if options.hard else None
    nowhere = runs.start
    launch(
        kernels.place_points, programs(task.capacity), points.values, order.keys, order.order, runs.run, runs.start,
        nowhere if runs.row is None else runs.row, nowhere if point_rows is None else point_rows,
        points.values if slots is None else slots, task.capacity, rows, task.max_points, CAPPED=runs.row is not None,
        POINT_MAP=point_rows is not None, HARD=slots is not None, LAST=order.last, BLOCK=block_points(),
        STRIDE=points.values.shape[1], COLUMNS=points.features, CHANNELS=len(points.features),
    )  # fmt: skip
    return replace(voxels, point_rows=point_rows, points=slots)
