"""Sorted points to voxels: sites, features and numbers of points, and where each point went.

`runs.py` gives the sorted points. Sums are in float64 and in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import round_tf32
from spcli.engines.cuda.kernels.runs import ACTIVE, FULLEST, OVER_MAX_POINTS, add_to, in_voxels

_MEAN = tl.constexpr("mean")
_FIRST = tl.constexpr("first")
_MAX = tl.constexpr("max")


@triton.jit
def _columns(channel, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, CONSECUTIVE: tl.constexpr):
    """The column of each channel. Consecutive ones are a case of their own so that a row is read in one piece."""
    if CONSECUTIVE:
        return channel + COLUMNS[0]
    else:
        column = tl.zeros_like(channel)
        for n in tl.static_range(CHANNELS):
            column = tl.where(channel == n, COLUMNS[n], column)
        return column


@triton.jit
def _values_of(
    values_ptr, order_ptr, position, wanted, channel, column, CHANNELS: tl.constexpr, STRIDE: tl.constexpr, missing
):
    """Feature values `[positions, channels]` of the points at sorted positions."""
    point = tl.load(order_ptr + position, mask=wanted, other=0)
    pointers = values_ptr + point[:, None] * STRIDE + column[None, :]
    return tl.load(pointers, mask=wanted[:, None] & (channel < CHANNELS)[None, :], other=missing)


@triton.jit
def _joined(so_far, value, REDUCE: tl.constexpr):
    """One more value. Of equal ones the maximum keeps the earlier, as zeros of both signs are equal."""
    if REDUCE == _MAX:
        return tl.where(value > so_far, value, so_far)
    else:
        return so_far + value


@triton.jit
def _long_run(
    values_ptr, order_ptr, start, count, channel, column, missing,
    CHANNELS: tl.constexpr, STRIDE: tl.constexpr, REDUCE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """One voxel with many points: lane n joins points n, n + CHUNK, ... in file order, then the lanes are joined."""
    position = tl.arange(0, CHUNK)
    lanes = _values_of(
        values_ptr, order_ptr, start + position, position < count, channel, column, CHANNELS, STRIDE, missing
    )
    if REDUCE != _MAX:
        lanes = lanes.to(tl.float64)
    for first in range(CHUNK, count, CHUNK):
        position = first + tl.arange(0, CHUNK)
        value = _values_of(
            values_ptr, order_ptr, start + position, position < count, channel, column, CHANNELS, STRIDE, missing
        )
        lanes = _joined(lanes, value, REDUCE)
    if REDUCE == _MAX:
        return tl.max(lanes, 0)
    else:
        return tl.sum(lanes, 0)


@triton.jit
def _short_runs(
    values_ptr, order_ptr, start, count, channel, column, missing,
    CHANNELS: tl.constexpr, STRIDE: tl.constexpr, REDUCE: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Voxels with few points, side by side, each in file order."""
    reduced = _values_of(values_ptr, order_ptr, start, count > 0, channel, column, CHANNELS, STRIDE, missing)
    if REDUCE != _FIRST:
        if REDUCE != _MAX:
            reduced = 0.0 + reduced.to(tl.float64)
        # The loads of one turn do not wait for each other.
        for first in range(1, tl.max(count), UNROLL):
            for n in tl.static_range(UNROLL):
                number = first + n
                value = _values_of(
                    values_ptr, order_ptr, start + number, number < count, channel, column, CHANNELS, STRIDE, missing
                )
                reduced = _joined(reduced, value, REDUCE)
    return reduced


@triton.jit
def _all_long_runs(
    reduced, values_ptr, order_ptr, start_ptr, stop_ptr, row, long, max_points, channel, column, missing,
    CHANNELS: tl.constexpr, STRIDE: tl.constexpr, REDUCE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """`reduced` with the rows of the voxels that are `long` put in, one voxel after another."""
    for _ in range(tl.sum(long.to(tl.int32))):
        one = tl.min(tl.where(long, row, 2147483647))
        begin = tl.load(start_ptr + one)
        points = tl.minimum(tl.load(stop_ptr + one) - begin, max_points)
        value = _long_run(
            values_ptr, order_ptr, begin, points, channel, column, missing, CHANNELS, STRIDE, REDUCE, CHUNK
        )
        reduced = tl.where((row == one)[:, None], value[None, :], reduced)
        long = long & (row != one)
    return reduced


@triton.jit
def _write_sites(keys_ptr, cells_ptr, indices_ptr, row, start, real):
    """Index rows (0, z, y, x) from the keys."""
    key = tl.load(keys_ptr + start, mask=real, other=0)
    width = tl.load(cells_ptr + 2).to(key.dtype)
    line = key // width
    height = tl.load(cells_ptr + 1).to(key.dtype)
    z = line // height
    y = line - z * height
    site_ptrs = indices_ptr + row.to(tl.int64) * 4
    tl.store(site_ptrs, tl.zeros_like(row), mask=real)
    tl.store(site_ptrs + 1, z.to(tl.int32), mask=real)
    tl.store(site_ptrs + 2, y.to(tl.int32), mask=real)
    tl.store(site_ptrs + 3, (key - line * width).to(tl.int32), mask=real)


@triton.jit(do_not_specialize=["rows", "max_points"])
def make_rows(
    values_ptr, keys_ptr, order_ptr, start_ptr, stop_ptr, cells_ptr, tally_ptr, total_ptr, indices_ptr, features_ptr,
    num_points_ptr, rows, max_points,
    STRIDE: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, CONSECUTIVE: tl.constexpr,
    REDUCE: tl.constexpr, LONGEST: tl.constexpr, TF32: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr,
    CHUNK: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Index row, features and number of points of each voxel.

    Voxels of more than LONGEST points are reduced one at a time; LONGEST 0 says that there are none.
    """
    total = tl.minimum(tl.load(tally_ptr + ACTIVE), rows)
    first = tl.program_id(0) * BLOCK
    if first == 0:
        tl.store(total_ptr, total)
    if first >= total:
        return
    row = first + tl.arange(0, BLOCK)
    real = row < total
    start = tl.load(start_ptr + row, mask=real, other=0)
    found = tl.load(stop_ptr + row, mask=real, other=0) - start
    count = tl.minimum(found, max_points)
    tl.atomic_max(tally_ptr + FULLEST, tl.max(found), sem="relaxed")
    add_to(tally_ptr + OVER_MAX_POINTS, tl.sum(found - count))
    tl.store(num_points_ptr + row, count, mask=real)
    _write_sites(keys_ptr, cells_ptr, indices_ptr, row, start, real)

    channel = tl.arange(0, LANES)
    column = _columns(channel, COLUMNS, CHANNELS, CONSECUTIVE)
    missing = float("-inf") if REDUCE == _MAX else 0.0
    short = tl.where(count > LONGEST, 0, count) if LONGEST > 0 else count
    reduced = _short_runs(
        values_ptr, order_ptr, start, short, channel, column, missing, CHANNELS, STRIDE, REDUCE, UNROLL
    )
    if LONGEST > 0:
        reduced = _all_long_runs(
            reduced, values_ptr, order_ptr, start_ptr, stop_ptr, row, count > LONGEST, max_points, channel, column,
            missing, CHANNELS, STRIDE, REDUCE, CHUNK,
        )  # fmt: skip
    if REDUCE == _MEAN:
        reduced = reduced / tl.maximum(count, 1).to(tl.float64)[:, None]
    features = features_ptr + row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    reduced = reduced.to(tl.float32)
    if TF32:
        reduced = round_tf32(reduced)
    tl.store(features, reduced.to(features_ptr.dtype.element_ty), mask=real[:, None] & (channel < CHANNELS)[None, :])


@triton.jit(do_not_specialize=["capacity", "rows", "max_points"])
def place_points(
    values_ptr, keys_ptr, order_ptr, run_ptr, start_ptr, row_of_run_ptr, point_rows_ptr, points_ptr,
    capacity, rows, max_points,
    STRIDE: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, CAPPED: tl.constexpr,
    POINT_MAP: tl.constexpr, HARD: tl.constexpr, LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each point's row, -1 where it is left out, and with HARD its values in its voxel's slots."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = in_voxels(keys_ptr, at, capacity, LAST)
    point = tl.load(order_ptr + at, mask=at < capacity, other=0)
    run = tl.load(run_ptr + at, mask=inside, other=0)
    slot = at - tl.load(start_ptr + run, mask=inside, other=0)
    row = run
    if CAPPED:
        row = tl.load(row_of_run_ptr + run, mask=inside, other=-1)
    placed = inside & (row >= 0) & (row < rows) & (slot < max_points)
    if POINT_MAP:
        tl.store(point_rows_ptr + point, tl.where(placed, row, -1), mask=at < capacity)
    if HARD:
        target = points_ptr + (row.to(tl.int64) * max_points + slot) * CHANNELS
        for n in tl.static_range(CHANNELS):
            value = tl.load(values_ptr + point * STRIDE + COLUMNS[n], mask=placed, other=0.0)
            tl.store(target + n, value, mask=placed)
