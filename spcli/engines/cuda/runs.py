"""Points on the device sorted by cell, and the runs of points that become voxels; kernels in kernels/runs.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spcli.engines.cuda.arrays import empty
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.kernels import runs as kernels
from spcli.engines.cuda.launch import call, launch
from spcli.engines.cuda.points import DeviceGrid, DevicePoints
from spcli.grid import VoxelSpec

_NO_CAP = 2**31 - 1
_SPAN = 1024  # blocks whose counts are added at a time
_BLOCK, _SCALED_BLOCK = 1024, 65536  # points of one program


@dataclass(frozen=True)
class VoxelOptions:
    """What is wanted beside the voxels: each point's row, and the points of each voxel in slots."""

    point_map: bool = False
    hard: bool = False


@dataclass(frozen=True)
class VoxelTask:
    """What is to be done."""

    points: DevicePoints
    grid: DeviceGrid
    spec: VoxelSpec
    dtype: str
    options: VoxelOptions

    @property
    def capacity(self) -> int:
        """Points that there is space for."""
        return self.points.capacity

    @property
    def max_points(self) -> int:
        """Points of a voxel that count."""
        return _NO_CAP if self.spec.max_points is None else self.spec.max_points

    @property
    def max_voxels(self) -> int | None:
        """None where the cap cannot be reached."""
        cap = self.spec.max_voxels
        return None if cap is None or cap >= self.capacity else cap

    @property
    def places_points(self) -> bool:
        """Whether it matters which voxel a point went to."""
        return self.options.point_map or self.options.hard


@dataclass(frozen=True)
class SortedPoints:
    """Points in the order of their cells.

    Attributes:
        keys: int32 or int64 `[points]`, rising; `last` for points in no cell.
        order: int64 `[points]`, the file index of each.
    """

    keys: Tensor
    order: Tensor

    @property
    def last(self) -> int:
        """The key of points in no cell."""
        return int(torch.iinfo(self.keys.dtype).max)


@dataclass(frozen=True)
class VoxelRuns:
    """The sorted positions of each voxel's points, before the cap of voxels and after it.

    Attributes:
        start, stop: int32 `[points]`, first position and the one after the last, by run.
        run: int32 `[points]`, the run of each sorted position.
        kept_start, kept_stop: the same by row.
        row: int32 `[points]`, the row of each run, -1 where it is left out; None where all runs are rows.
    """

    start: Tensor
    stop: Tensor
    run: Tensor
    kept_start: Tensor
    kept_stop: Tensor
    row: Tensor | None


def sorted_points(task: VoxelTask, tally: Tensor) -> SortedPoints:
    """Points by cell; those that are not finite or out of range are counted in `tally`."""
    points, grid, capacity = task.points, task.grid, task.capacity
    keys = empty(capacity, grid.key_type)
    used = tuple(sorted({*points.xyz, *points.features}))
    launch(
        kernels.locate, programs(capacity), points.values, points.total, grid.origin, grid.voxel_size, grid.cells,
        keys, tally, capacity, STRIDE=points.values.shape[1], XYZ=points.xyz, USED=used, USED_COUNT=len(used),
        LAST=torch.iinfo(keys.dtype).max, BLOCK=block_points(),
    )  # fmt: skip
    return SortedPoints(*_sorted(keys))


def _sorted(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rising keys and their places before; equal ones in the order of their places."""
    found, places = torch.empty_like(keys), torch.empty_like(keys, dtype=torch.int64)
    call(torch.sort, keys, stable=True, dim=0, descending=False, out=(found, places))
    return found, places


def _running_sum(values: Tensor) -> Tensor:
    sums = torch.empty_like(values)
    call(torch.cumsum, values, 0, dtype=torch.int32, out=sums)
    return sums


def all_runs(task: VoxelTask, order: SortedPoints, found: Tensor, seen: Tensor | None = None) -> VoxelRuns:
    """Runs of equal keys, their number added to `found`; with `seen`, which points begin one, in file order."""
    capacity = task.capacity
    start, stop = _integers(capacity), _integers(capacity)
    run = _integers(capacity) if task.places_points else start
    grid = programs(capacity)
    blocks = _integers(grid[0])
    launch(kernels.count_runs, grid, order.keys, blocks, found, capacity, LAST=order.last, BLOCK=block_points())
    launch(
        kernels.number_runs, grid, order.keys, order.order, blocks, start, stop, run,
        start if seen is None else seen, capacity, LAST=order.last, RUN_OF_EACH=task.places_points,
        SEEN=seen is not None, BLOCK=block_points(), SPAN=_SPAN,
    )  # fmt: skip
    return VoxelRuns(start, stop, run, start, stop, None)


def first_seen_runs(task: VoxelTask, order: SortedPoints, tally: Tensor, found: Tensor) -> VoxelRuns:
    """Runs of which only those of the `max_voxels` voxels that come first in the file become rows."""
    capacity, grid = task.capacity, programs(task.capacity)
    seen, kept, row, kept_start, kept_stop = (_integers(capacity) for _ in range(5))
    runs = all_runs(task, order, found, seen)
    ordinal = _running_sum(seen)
    launch(
        kernels.keep_first_seen, grid, runs.start, order.order, ordinal, found, kept, tally, capacity,
        task.max_voxels, BLOCK=block_points(),
    )  # fmt: skip
    rank = _running_sum(kept)
    launch(
        kernels.move_kept, grid, runs.start, runs.stop, kept, rank, found, row, kept_start, kept_stop, tally,
        BLOCK=block_points(),
    )  # fmt: skip
    return VoxelRuns(runs.start, runs.stop, runs.run, kept_start, kept_stop, row)


def block_points() -> int:
    """Points of one program."""
    return _SCALED_BLOCK if scaled() else _BLOCK


def programs(rows: int) -> tuple[int]:
    """The grid of programs over so many points."""
    return (-(-rows // block_points()),)


def _integers(count: int) -> Tensor:
    """Uninitialised int32 `[count]`."""
    return empty(count, torch.int32)
