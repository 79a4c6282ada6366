"""Points sorted by cell, so that each voxel is a run of sorted positions in file order.

A key is a cell's number in raster order, int32 or int64 as its tensor is. What is left out (and what lies behind the
last point of a buffer) has the key LAST, which no cell has. Counts are added up with integer atomics.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Places in the tally.
ACTIVE = tl.constexpr(0)
NONFINITE = tl.constexpr(1)
OUT_OF_RANGE = tl.constexpr(2)
OVER_MAX_POINTS = tl.constexpr(3)
OVER_MAX_VOXELS = tl.constexpr(4)
FULLEST = tl.constexpr(5)
DROPPED = tl.constexpr(6)

_LARGEST_FLOAT = tl.constexpr(3.4028234663852886e38)


@triton.jit
def add_to(pointer, number):
    """Adds to a counter."""
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
    values_ptr, total_ptr, origin_ptr, size_ptr, cells_ptr, keys_ptr, tally_ptr, capacity,
    STRIDE: tl.constexpr, XYZ: tl.constexpr, USED: tl.constexpr, USED_COUNT: tl.constexpr, LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
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
    key_type: tl.constexpr = keys_ptr.dtype.element_ty
    width = tl.load(cells_ptr + 2).to(key_type)
    key = y.to(key_type) * width + x.to(key_type)
    key += z.to(key_type) * (tl.load(cells_ptr + 1).to(key_type) * width)
    tl.store(keys_ptr + at, tl.where(inside, key, LAST), mask=at < capacity)
    add_to(tally_ptr + NONFINITE, tl.sum((present & ~finite).to(tl.int32)))
    add_to(tally_ptr + OUT_OF_RANGE, tl.sum((finite & ~inside).to(tl.int32)))


@triton.jit
def _same_cell(keys_ptr, at, other, among):
    """Whether two sorted positions hold points of one cell; false where `among` is."""
    return among & (tl.load(keys_ptr + at, mask=among, other=0) == tl.load(keys_ptr + other, mask=among, other=0))


@triton.jit
def in_voxels(keys_ptr, at, capacity, LAST: tl.constexpr):
    """Whether a sorted position holds a point of a voxel."""
    return tl.load(keys_ptr + at, mask=at < capacity, other=LAST) != LAST


@triton.jit(do_not_specialize=["capacity"])
def count_runs(keys_ptr, blocks_ptr, found_ptr, capacity, LAST: tl.constexpr, BLOCK: tl.constexpr):
    """How many voxels begin in each block of sorted positions, and in all."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = in_voxels(keys_ptr, at, capacity, LAST)
    begins = inside & ~_same_cell(keys_ptr, at, at - 1, inside & (at > 0))
    here = tl.sum(begins.to(tl.int32))
    tl.store(blocks_ptr + tl.program_id(0), here)
    add_to(found_ptr, here)


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
    keys_ptr, order_ptr, blocks_ptr, start_ptr, stop_ptr, run_ptr, seen_ptr, capacity,
    LAST: tl.constexpr, RUN_OF_EACH: tl.constexpr, SEEN: tl.constexpr, BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """Where each run of one voxel's points starts and stops.

    With RUN_OF_EACH the run of every sorted position, and with SEEN whether a point of the file is the first of its
    voxel.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = in_voxels(keys_ptr, at, capacity, LAST)
    begins = inside & ~_same_cell(keys_ptr, at, at - 1, inside & (at > 0))
    ends = inside & ~_same_cell(keys_ptr, at, at + 1, inside & (at + 1 < capacity))
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
    start_ptr, order_ptr, ordinal_ptr, found_ptr, kept_ptr, tally_ptr, capacity, max_voxels, BLOCK: tl.constexpr
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
        tl.store(tally_ptr + ACTIVE, active)
        tl.store(tally_ptr + DROPPED, found - active)


@triton.jit
def move_kept(
    start_ptr, stop_ptr, kept_ptr, rank_ptr, found_ptr, row_ptr, kept_start_ptr, kept_stop_ptr, tally_ptr,
    BLOCK: tl.constexpr,
):  # fmt: skip
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
    tl.atomic_max(tally_ptr + FULLEST, tl.max(stop - start), sem="relaxed")
    add_to(tally_ptr + OVER_MAX_VOXELS, tl.sum(tl.where(kept, 0, stop - start)))
