"""Points to voxels. Points are sorted by cell, so that each voxel is a run of sorted positions in file order.

A key is a cell's number in raster order; where the grid has too many cells for that it is two numbers, z and y * X + x.
What is left out (and what lies behind the last point of a buffer) has the key LAST, which no cell has. Keys are
int32 or int64, whatever their tensors are. Counts are added up with integer atomics, sums in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import round_tf32

# Places in the tally.
_ACTIVE = tl.constexpr(0)
_NONFINITE = tl.constexpr(1)
_OUT_OF_RANGE = tl.constexpr(2)
_OVER_MAX_POINTS = tl.constexpr(3)
_OVER_MAX_VOXELS = tl.constexpr(4)
_FULLEST = tl.constexpr(5)
_DROPPED = tl.constexpr(6)

_LARGEST_FLOAT = tl.constexpr(3.4028234663852886e38)
_MEAN = tl.constexpr("mean")
_FIRST = tl.constexpr("first")
_MAX = tl.constexpr("max")


@triton.jit
def _add_to(pointer, number):
    tl.atomic_add(pointer, number, sem="relaxed")


@triton.jit
def _cell(row_ptrs, usable, origin_ptr, size_ptr, cells_ptr, COLUMN: tl.constexpr, AXIS: tl.constexpr):
    """Each point's cell on one axis (0 for x) as a float, 0 where outside, and whether it lies in the grid."""
    metres = tl.load(row_ptrs + COLUMN, mask=usable, other=0.0)
    steps = tl.math.div_rn(metres - tl.load(origin_ptr + AXIS), tl.load(size_ptr + AXIS))
    cell = tl.floor(steps)
    cells = tl.load(cells_ptr + 2 - AXIS)
    # Below is asked of `steps`: the device's floor takes tiny numbers below 0 for 0. Above is asked in doubles:
    # float(cells) may round up past the grid.
    inside = (steps >= 0.0) & (cell.to(tl.float64) < cells.to(tl.float64))
    return tl.where(inside, cell, 0.0), inside


@triton.jit(do_not_specialize=["capacity"])
def locate(
    values_ptr,
    total_ptr,
    origin_ptr,
    size_ptr,
    cells_ptr,
    low_ptr,
    high_ptr,
    tally_ptr,
    capacity,
    STRIDE: tl.constexpr,
    XYZ: tl.constexpr,
    USED: tl.constexpr,
    USED_COUNT: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The key of every row of the buffer, LAST for those that are no point of a voxel, and how many those are."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    present = at < tl.minimum(tl.load(total_ptr), capacity)
    row_ptrs = values_ptr + at.to(tl.int64) * STRIDE
    finite = present
    for n in tl.static_range(USED_COUNT):
        value = tl.load(row_ptrs + USED[n], mask=present, other=0.0)
        finite = finite & (tl.abs(value) <= _LARGEST_FLOAT)
    x, inside_x = _cell(row_ptrs, finite, origin_ptr, size_ptr, cells_ptr, XYZ[0], 0)
    y, inside_y = _cell(row_ptrs, finite, origin_ptr, size_ptr, cells_ptr, XYZ[1], 1)
    z, inside_z = _cell(row_ptrs, finite, origin_ptr, size_ptr, cells_ptr, XYZ[2], 2)
    inside = finite & inside_x & inside_y & inside_z
    key_type: tl.constexpr = low_ptr.dtype.element_ty
    width = tl.load(cells_ptr + 2).to(key_type)
    low = y.to(key_type) * width + x.to(key_type)
    plane = z.to(key_type)
    if WIDE:
        tl.store(high_ptr + at, tl.where(inside, plane, LAST), mask=at < capacity)
    else:
        low += plane * (tl.load(cells_ptr + 1).to(key_type) * width)
    tl.store(low_ptr + at, tl.where(inside, low, LAST), mask=at < capacity)
    _add_to(tally_ptr + _NONFINITE, tl.sum((present & ~finite).to(tl.int32)))
    _add_to(tally_ptr + _OUT_OF_RANGE, tl.sum((finite & ~inside).to(tl.int32)))


@triton.jit
def _same_cell(low_ptr, high_ptr, at, other, among, WIDE: tl.constexpr):
    """Whether two sorted positions hold points of one cell; false where `among` is."""
    same = among & (tl.load(low_ptr + at, mask=among, other=0) == tl.load(low_ptr + other, mask=among, other=0))
    if WIDE:
        same = same & (tl.load(high_ptr + at, mask=same, other=0) == tl.load(high_ptr + other, mask=same, other=0))
    return same


@triton.jit
def _in_voxels(low_ptr, at, capacity, LAST: tl.constexpr):
    """Whether a sorted position holds a point of a voxel; the low key alone tells."""
    return tl.load(low_ptr + at, mask=at < capacity, other=LAST) != LAST


@triton.jit(do_not_specialize=["capacity"])
def count_runs(
    low_ptr,
    high_ptr,
    blocks_ptr,
    found_ptr,
    capacity,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """How many voxels begin in each block of sorted positions, and in all."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = _in_voxels(low_ptr, at, capacity, LAST)
    begins = inside & ~_same_cell(low_ptr, high_ptr, at, at - 1, inside & (at > 0), WIDE)
    here = tl.sum(begins.to(tl.int32))
    tl.store(blocks_ptr + tl.program_id(0), here)
    _add_to(found_ptr, here)


@triton.jit
def _sum_before(blocks_ptr, program, SPAN: tl.constexpr):
    """What the blocks before this one counted."""
    before = tl.zeros([SPAN], tl.int32)
    for first in range(0, program, SPAN):
        block = first + tl.arange(0, SPAN)
        before += tl.load(blocks_ptr + block, mask=block < program, other=0)
    return tl.sum(before)


@triton.jit(do_not_specialize=["capacity"])
def number_runs(
    low_ptr,
    high_ptr,
    order_ptr,
    blocks_ptr,
    start_ptr,
    stop_ptr,
    run_ptr,
    seen_ptr,
    capacity,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    RUN_OF_EACH: tl.constexpr,
    SEEN: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Where each run of one voxel's points starts and stops.

    With RUN_OF_EACH the run of every sorted position, and with SEEN whether a point of the file is the first of its
    voxel.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = _in_voxels(low_ptr, at, capacity, LAST)
    begins = inside & ~_same_cell(low_ptr, high_ptr, at, at - 1, inside & (at > 0), WIDE)
    ends = inside & ~_same_cell(low_ptr, high_ptr, at, at + 1, inside & (at + 1 < capacity), WIDE)
    run = _sum_before(blocks_ptr, tl.program_id(0), SPAN) + tl.cumsum(begins.to(tl.int32), 0) - 1
    tl.store(start_ptr + run, at, mask=begins)
    tl.store(stop_ptr + run, at + 1, mask=ends)
    if RUN_OF_EACH:
        tl.store(run_ptr + at, run, mask=inside)
    if SEEN:
        point = tl.load(order_ptr + at, mask=at < capacity, other=0)
        tl.store(seen_ptr + point, begins.to(tl.int32), mask=at < capacity)


@triton.jit(do_not_specialize=["capacity", "max_voxels"])
def keep_first_seen(
    start_ptr,
    order_ptr,
    ordinal_ptr,
    found_ptr,
    kept_ptr,
    tally_ptr,
    capacity,
    max_voxels,
    BLOCK: tl.constexpr,
):
    """1 for each run whose voxel is among the `max_voxels` first seen in the file, else 0."""
    run = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    found = tl.load(found_ptr)
    real = run < found
    start = tl.load(start_ptr + run, mask=real, other=0)
    point = tl.load(order_ptr + start, mask=real, other=0)
    kept = real & (tl.load(ordinal_ptr + point, mask=real, other=0) <= max_voxels)
    tl.store(kept_ptr + run, kept.to(tl.int32), mask=run < capacity)
    if tl.program_id(0) == 0:
        active = tl.minimum(found, max_voxels)
        tl.store(tally_ptr + _ACTIVE, active)
        tl.store(tally_ptr + _DROPPED, found - active)


@triton.jit
def move_kept(
    start_ptr,
    stop_ptr,
    kept_ptr,
    rank_ptr,
    found_ptr,
    row_ptr,
    kept_start_ptr,
    kept_stop_ptr,
    tally_ptr,
    BLOCK: tl.constexpr,
):
    """The row of each run, -1 where its voxel is left out, and the runs of each row."""
    run = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = run < tl.load(found_ptr)
    start = tl.load(start_ptr + run, mask=real, other=0)
    stop = tl.load(stop_ptr + run, mask=real, other=0)
    kept = tl.load(kept_ptr + run, mask=real, other=0) != 0
    row = tl.load(rank_ptr + run, mask=kept, other=0) - 1
    tl.store(row_ptr + run, row, mask=real)
    tl.store(kept_start_ptr + row, start, mask=kept)
    tl.store(kept_stop_ptr + row, stop, mask=kept)
    # The fullest voxel is looked for before any cap.
    tl.atomic_max(tally_ptr + _FULLEST, tl.max(stop - start), sem="relaxed")
    _add_to(tally_ptr + _OVER_MAX_VOXELS, tl.sum(tl.where(kept, 0, stop - start)))


@triton.jit
def _columns(channel, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, CONSECUTIVE: tl.constexpr):
    """The column of each channel. Consecutive ones are told apart so that a row is read in one piece."""
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
    values_ptr,
    order_ptr,
    start,
    count,
    channel,
    column,
    CHANNELS: tl.constexpr,
    STRIDE: tl.constexpr,
    REDUCE: tl.constexpr,
    CHUNK: tl.constexpr,
    missing,
):
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
    values_ptr,
    order_ptr,
    start,
    count,
    channel,
    column,
    CHANNELS: tl.constexpr,
    STRIDE: tl.constexpr,
    REDUCE: tl.constexpr,
    UNROLL: tl.constexpr,
    missing,
):
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
def _write_sites(low_ptr, high_ptr, cells_ptr, indices_ptr, row, start, real, WIDE: tl.constexpr):
    """Index rows (0, z, y, x) from the keys."""
    low = tl.load(low_ptr + start, mask=real, other=0)
    width = tl.load(cells_ptr + 2).to(low.dtype)
    line = low // width
    if WIDE:
        z = tl.load(high_ptr + start, mask=real, other=0)
        y = line
    else:
        height = tl.load(cells_ptr + 1).to(low.dtype)
        z = line // height
        y = line - z * height
    site_ptrs = indices_ptr + row.to(tl.int64) * 4
    tl.store(site_ptrs, tl.zeros_like(row), mask=real)
    tl.store(site_ptrs + 1, z.to(tl.int32), mask=real)
    tl.store(site_ptrs + 2, y.to(tl.int32), mask=real)
    tl.store(site_ptrs + 3, (low - line * width).to(tl.int32), mask=real)


@triton.jit(do_not_specialize=["rows", "max_points"])
def make_rows(
    values_ptr,
    low_ptr,
    high_ptr,
    order_ptr,
    start_ptr,
    stop_ptr,
    cells_ptr,
    tally_ptr,
    total_ptr,
    indices_ptr,
    features_ptr,
    num_points_ptr,
    rows,
    max_points,
    STRIDE: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    CONSECUTIVE: tl.constexpr,
    REDUCE: tl.constexpr,
    LONGEST: tl.constexpr,
    TF32: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
    CHUNK: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Index row, features and number of points of each voxel.

    Voxels of more than LONGEST points are reduced one at a time; LONGEST 0 says that there are none.
    """
    total = tl.minimum(tl.load(tally_ptr + _ACTIVE), rows)
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
    tl.atomic_max(tally_ptr + _FULLEST, tl.max(found), sem="relaxed")
    _add_to(tally_ptr + _OVER_MAX_POINTS, tl.sum(found - count))
    tl.store(num_points_ptr + row, count, mask=real)
    _write_sites(low_ptr, high_ptr, cells_ptr, indices_ptr, row, start, real, WIDE)

    channel = tl.arange(0, LANES)
    column = _columns(channel, COLUMNS, CHANNELS, CONSECUTIVE)
    missing = float("-inf") if REDUCE == _MAX else 0.0
    short = count
    if LONGEST > 0:
        short = tl.where(count > LONGEST, 0, count)
    reduced = _short_runs(
        values_ptr, order_ptr, start, short, channel, column, CHANNELS, STRIDE, REDUCE, UNROLL, missing
    )
    if LONGEST > 0:
        long = count > LONGEST
        for _ in range(tl.sum(long.to(tl.int32))):
            one = tl.min(tl.where(long, row, 2147483647))
            begin = tl.load(start_ptr + one)
            points = tl.minimum(tl.load(stop_ptr + one) - begin, max_points)
            value = _long_run(
                values_ptr, order_ptr, begin, points, channel, column, CHANNELS, STRIDE, REDUCE, CHUNK, missing
            )
            reduced = tl.where((row == one)[:, None], value[None, :], reduced)
            long = long & (row != one)
    if REDUCE == _MEAN:
        reduced = reduced / tl.maximum(count, 1).to(tl.float64)[:, None]
    features = features_ptr + row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    reduced = reduced.to(tl.float32)
    if TF32:
        reduced = round_tf32(reduced)
    tl.store(features, reduced.to(features_ptr.dtype.element_ty), mask=real[:, None] & (channel < CHANNELS)[None, :])


@triton.jit(do_not_specialize=["capacity", "rows", "max_points"])
def place_points(
    values_ptr,
    low_ptr,
    order_ptr,
    run_ptr,
    start_ptr,
    row_of_run_ptr,
    point_rows_ptr,
    points_ptr,
    capacity,
    rows,
    max_points,
    STRIDE: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    CAPPED: tl.constexpr,
    POINT_MAP: tl.constexpr,
    HARD: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each point's row, -1 where it is left out, and with HARD its values in its voxel's slots."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = _in_voxels(low_ptr, at, capacity, LAST)
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
