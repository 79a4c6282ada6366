"""Points to voxels on the device; the work is in kernels/voxelize.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.base import Points, Voxels
from spcli.engines.cpu.voxelize import grid_of
from spcli.engines.cuda.arrays import STORAGE, download, empty, upload
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.capacity import Room
from spcli.engines.cuda.kernels import voxelize as kernels
from spcli.engines.cuda.launch import call, launch
from spcli.engines.cuda.sites import CudaSites, is_wide
from spcli.grid import PointCounts, ScanCounts, VoxelCounts, VoxelGrid, VoxelSpec

TALLY = 7  # active, nonfinite, out_of_range, over_max_points, over_max_voxels, fullest, dropped
_NO_CAP = 2**31 - 1
_SHORT = 64  # points of a voxel that are reduced one after another; above it many at once
_SPAN = 1024  # blocks whose counts are added at a time
_PROMISED_CELLS = 2**40  # of every grid of a recording that serves many, so that maps over larger grids have room
_UNROLL = 4  # points of a voxel that are loaded together


@dataclass(frozen=True)
class _Blocks:
    """How much one program does: `points`; voxels times channels; points of a crowded voxel times channels."""

    points: int
    rows: int
    chunk: int


_DEVICE = _Blocks(1024, 512, 2048)
_SCALED = _Blocks(65536, 65536, 65536)


@dataclass(frozen=True)
class Extras:
    """What is wanted beside the voxels: each point's row, and the points of each voxel in slots."""

    point_map: bool = False
    hard: bool = False


@dataclass(frozen=True)
class DevicePoints:
    """Points on the device.

    Attributes:
        values: float32 `[capacity, C]`, contiguous; rows from `total` on may hold anything.
        total: int32 `[1]`.
        xyz, features: numbers of the columns.
    """

    values: Tensor
    total: Tensor
    xyz: tuple[int, int, int]
    features: tuple[int, ...]

    @property
    def capacity(self) -> int:
        """Rows that are allocated."""
        return len(self.values)

    @property
    def layout(self) -> dict[str, object]:
        """How the kernels find the features."""
        first, channels = self.features[0] if self.features else 0, len(self.features)
        return {
            "STRIDE": self.values.shape[1],
            "COLUMNS": self.features,
            "CHANNELS": channels,
            "CONSECUTIVE": channels > 0 and self.features == tuple(range(first, first + channels)),
        }


@dataclass(frozen=True)
class DeviceGrid:
    """A grid on the device.

    Attributes:
        origin, voxel_size: float32 `[3]`, x, y, z.
        cells, shape: int32 `[3]`, z, y, x: cells a point can fall into, and cells of the sparse tensor.
        host_cells, spatial_shape: the same as the host knew them when the grid was made.
        grows: whether frames of one graph may bring other shapes; then only the device's values are right.
    """

    origin: Tensor
    voxel_size: Tensor
    cells: Tensor
    shape: Tensor
    host_cells: tuple[int, int, int]
    spatial_shape: tuple[int, ...]
    grows: bool = False

    @property
    def wide(self) -> bool:
        """Whether a cell's number does not fit an int64, so that a key has two parts."""
        return wide_keys(self.host_cells) if self.grows else is_wide(math.prod(self.host_cells))

    @property
    def key_type(self) -> torch.dtype:
        """What a cell's number fits; its largest value is left for points in no cell."""
        return torch.int64 if self.grows or math.prod(self.host_cells) >= _NO_CAP else torch.int32


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


def wide_keys(cells: tuple[int, int, int]) -> bool:
    """Whether a grid has so many cells that a recording for others does not serve it."""
    return math.prod(cells) > _PROMISED_CELLS


def device_grid(grid: VoxelGrid) -> DeviceGrid:
    """A grid uploaded."""
    cells, shape = (upload(np.array(sizes, np.int32)) for sizes in (grid.cells, grid.spatial_shape))
    return DeviceGrid(upload(grid.origin), upload(grid.voxel_size), cells, shape, grid.cells, grid.spatial_shape)


def voxelize(points: Points, spec: VoxelSpec, room: Room, dtype: str, extras: Extras) -> Voxels:
    """Points to voxels, exactly as CONTRACT section 3 has it.

    Raises:
        ConfigError: the grid has an axis without a cell, or with more cells than an int32 site can hold.
        ValueError: `hard` without `max_points`.
    """
    grid = grid_of(points, spec)
    read = len(points.values)
    values = upload(np.asarray(points.values, np.float32))
    device_points = DevicePoints(values, upload(np.array([read], np.int32)), points.xyz, points.features)
    made = record(device_points, device_grid(grid), spec, room, dtype, extras)
    counts = scan_counts(download(made.tally), read)
    return Voxels(made.sites, made.features, made.num_points, counts, grid, made.point_rows, made.points)


def scan_counts(tally: NDArray[np.int32], read: int) -> ScanCounts:
    """What became of `read` points, from a downloaded tally."""
    active, nonfinite, out_of_range, over_max_points, over_max_voxels, fullest, dropped = (int(n) for n in tally)
    in_range = read - nonfinite - out_of_range
    points = PointCounts(read, in_range, nonfinite, out_of_range, over_max_points, over_max_voxels)
    return ScanCounts(points, VoxelCounts(active, dropped, fullest))


@dataclass(frozen=True)
class _Order:
    """Points in the order of their cells: sorted keys (`high` is `low` unless keys are wide) and file indices."""

    low: Tensor
    high: Tensor
    order: Tensor
    keys: dict[str, int]


@dataclass(frozen=True)
class _Runs:
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


@dataclass(frozen=True)
class _Task:
    """What is to be done."""

    points: DevicePoints
    grid: DeviceGrid
    spec: VoxelSpec
    dtype: str
    extras: Extras

    @property
    def capacity(self) -> int:
        return self.points.capacity

    @property
    def max_points(self) -> int:
        return _NO_CAP if self.spec.max_points is None else self.spec.max_points

    @property
    def crowded(self) -> bool:
        """Whether a voxel may hold too many values to be joined one after another."""
        return self.spec.reduce != "first" and self.max_points > _SHORT

    @property
    def max_voxels(self) -> int | None:
        """None where the cap cannot be reached."""
        cap = self.spec.max_voxels
        return None if cap is None or cap >= self.capacity else cap

    @property
    def places_points(self) -> bool:
        return self.extras.point_map or self.extras.hard


def record(
    points: DevicePoints, grid: DeviceGrid, spec: VoxelSpec, room: Room, dtype: str, extras: Extras
) -> DeviceVoxels:
    """Starts the voxelization of however many points there are.

    Raises:
        ValueError: `extras.hard` without `max_points`.
    """
    if extras.hard and spec.max_points is None:
        raise ValueError("hard voxels need max_points")
    task = _Task(points, grid, spec, dtype, extras)
    counters = empty(TALLY + 2, torch.int32)
    call(counters.zero_)
    tally, found, total = counters[:TALLY], counters[TALLY : TALLY + 1], counters[TALLY + 1 :]
    order = _order(task, tally)
    runs = _runs(task, order, tally[:1]) if task.max_voxels is None else _first_seen(task, order, tally, found)
    voxels = _rows(task, order, runs, (tally, total), room.rows(tally[:1]))
    return _placed(task, order, runs, voxels) if task.places_points else voxels


def _order(task: _Task, tally: Tensor) -> _Order:
    points, grid, capacity = task.points, task.grid, task.capacity
    key_type, wide = grid.key_type, grid.wide
    low = empty(capacity, key_type)
    high = empty(capacity, key_type) if wide else low
    keys = {"LAST": torch.iinfo(key_type).max, "WIDE": wide}
    used = tuple(sorted({*points.xyz, *points.features}))
    launch(
        kernels.locate, _programs(capacity), points.values, points.total, grid.origin, grid.voxel_size, grid.cells,
        low, high, tally, capacity, STRIDE=points.values.shape[1], XYZ=points.xyz, USED=used, USED_COUNT=len(used),
        BLOCK=_blocks().points, **keys,
    )  # fmt: skip
    low_sorted, order = _sorted(low)
    if not wide:
        return _Order(low_sorted, low_sorted, order, keys)
    high_sorted, again = _sorted(_taken(high, order))
    return _Order(_taken(low_sorted, again), high_sorted, _taken(order, again), keys)


def _sorted(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rising keys and their places before; equal ones in the order of their places."""
    found, places = torch.empty_like(keys), torch.empty_like(keys, dtype=torch.int64)
    call(torch.sort, keys, stable=True, dim=0, descending=False, out=(found, places))
    return found, places


def _taken(values: Tensor, places: Tensor) -> Tensor:
    taken = torch.empty_like(values)
    call(torch.index_select, values, 0, places, out=taken)
    return taken


def _running_sum(values: Tensor) -> Tensor:
    sums = torch.empty_like(values)
    call(torch.cumsum, values, 0, dtype=torch.int32, out=sums)
    return sums


def _runs(task: _Task, order: _Order, found: Tensor, seen: Tensor | None = None) -> _Runs:
    """Runs of equal keys, their number added to `found`; with `seen`, which points begin one, in file order."""
    capacity, block = task.capacity, _blocks().points
    start, stop = _integers(capacity), _integers(capacity)
    run = _integers(capacity) if task.places_points else start
    grid = _programs(capacity)
    blocks = _integers(grid[0])
    launch(kernels.count_runs, grid, order.low, order.high, blocks, found, capacity, BLOCK=block, **order.keys)
    launch(
        kernels.number_runs, grid, order.low, order.high, order.order, blocks, start, stop, run,
        start if seen is None else seen, capacity, RUN_OF_EACH=task.places_points, SEEN=seen is not None, BLOCK=block,
        SPAN=_SPAN, **order.keys,
    )  # fmt: skip
    return _Runs(start, stop, run, start, stop, None)


def _first_seen(task: _Task, order: _Order, tally: Tensor, found: Tensor) -> _Runs:
    """Runs of which only those of the `max_voxels` voxels that come first in the file become rows."""
    capacity, grid = task.capacity, _programs(task.capacity)
    seen, kept, row, kept_start, kept_stop = (_integers(capacity) for _ in range(5))
    runs = _runs(task, order, found, seen)
    ordinal = _running_sum(seen)
    launch(
        kernels.keep_first_seen, grid, runs.start, order.order, ordinal, found, kept, tally, capacity,
        task.max_voxels, BLOCK=_blocks().points,
    )  # fmt: skip
    rank = _running_sum(kept)
    launch(
        kernels.move_kept, grid, runs.start, runs.stop, kept, rank, found, row, kept_start, kept_stop, tally,
        BLOCK=_blocks().points,
    )  # fmt: skip
    return _Runs(runs.start, runs.stop, runs.run, kept_start, kept_stop, row)


def _rows(task: _Task, order: _Order, runs: _Runs, counts: tuple[Tensor, Tensor], rows: int) -> DeviceVoxels:
    points, grid, channels = task.points, task.grid, len(task.points.features)
    indices, num_points = empty((rows, 4), torch.int32), _integers(rows)
    features = empty((rows, channels), STORAGE[task.dtype])
    tally, total = counts
    lanes = _power_of_two(channels)
    block, chunk = (max(size // lanes, 1) for size in (_blocks().rows, _blocks().chunk))
    launch(
        kernels.make_rows, (-(-rows // block),), points.values, order.low, order.high, order.order, runs.kept_start,
        runs.kept_stop, grid.cells, tally, total, indices, features, num_points, rows, task.max_points,
        REDUCE=task.spec.reduce, LONGEST=_SHORT if task.crowded else 0, TF32=task.dtype == "tf32",
        WIDE=grid.wide, BLOCK=block, LANES=lanes, CHUNK=chunk, UNROLL=_UNROLL, **points.layout,
    )  # fmt: skip
    # A cell or more an axis: the extra ones multiply their number by one more than theirs at most.
    most_cells = _PROMISED_CELLS * math.prod(1 + extra for extra in task.spec.spatial_shape_extra)
    sites = CudaSites(grid.spatial_shape, 1, indices, total, grid.shape, grid.grows, None if grid.wide else most_cells)
    return DeviceVoxels(sites, features, num_points, tally, None, None)


def _placed(task: _Task, order: _Order, runs: _Runs, voxels: DeviceVoxels) -> DeviceVoxels:
    points, rows, extras = task.points, len(voxels.num_points), task.extras
    point_rows = _integers(task.capacity) if extras.point_map else None
    slots = None
    if extras.hard:
        slots = empty((rows, task.max_points, len(points.features)), torch.float32)
        call(slots.zero_)
    nowhere = runs.start
    launch(
        kernels.place_points, _programs(task.capacity), points.values, order.low, order.order, runs.run, runs.start,
        nowhere if runs.row is None else runs.row, nowhere if point_rows is None else point_rows,
        points.values if slots is None else slots, task.capacity, rows, task.max_points, CAPPED=runs.row is not None,
        POINT_MAP=point_rows is not None, HARD=slots is not None, LAST=order.keys["LAST"], BLOCK=_blocks().points,
        STRIDE=points.values.shape[1], COLUMNS=points.features, CHANNELS=len(points.features),
    )  # fmt: skip
    return replace(voxels, point_rows=point_rows, points=slots)


def _blocks() -> _Blocks:
    return _SCALED if scaled() else _DEVICE


def _programs(rows: int) -> tuple[int]:
    return (-(-rows // _blocks().points),)


def _integers(count: int) -> Tensor:
    return empty(count, torch.int32)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()
