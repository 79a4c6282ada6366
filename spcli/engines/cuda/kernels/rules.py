"""The rules of a neighbour table as lists, by tap and then by row."""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.rulebook import load_taps


@triton.jit
def _members(in_rows, rows, total, VOLUME: tl.constexpr, TAPS: tl.constexpr, REST: tl.constexpr):
    """Which rows a tap has a rule for; with REST, tap number VOLUME has the rows that no tap has."""
    member = in_rows >= 0
    if REST:
        left_over = (tl.max(in_rows, axis=0) < 0) & (rows < total)
        member = member | ((tl.arange(0, TAPS) == VOLUME)[:, None] & left_over[None, :])
    return member.to(tl.int32)


@triton.jit
def count_rules(
    table_ptr, stride, total_ptr, sizes_ptr,
    VOLUME: tl.constexpr, REST: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Rules by tap, then by tile of rows; also of the tiles that have none."""
    tile = tl.program_id(0)
    rows = tile * ROWS + tl.arange(0, ROWS)
    taps = tl.arange(0, TAPS)
    total = tl.load(total_ptr)
    in_rows = load_taps(table_ptr, stride, rows, total, VOLUME, TAPS)
    member = _members(in_rows, rows, total, VOLUME, TAPS, REST)
    slot = sizes_ptr + taps * tl.num_programs(0) + tile
    tl.store(slot, tl.sum(member, axis=1), mask=taps < VOLUME + (1 if REST else 0))


@triton.jit(do_not_specialize=["capacity"])
def write_rules(
    table_ptr, stride, total_ptr, sizes_ptr, ends_ptr, in_rows_ptr, out_rows_ptr, starts_ptr, capacity,
    VOLUME: tl.constexpr, REST: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Lists rules by tap, then by row: `ends` are the running sums of what `count_rules` found."""
    LISTS: tl.constexpr = VOLUME + (1 if REST else 0)
    tile = tl.program_id(0)
    rows = tile * ROWS + tl.arange(0, ROWS)
    taps = tl.arange(0, TAPS)
    total = tl.load(total_ptr)
    slot = taps * tl.num_programs(0) + tile
    size = tl.load(sizes_ptr + slot, mask=taps < LISTS, other=0)
    end = tl.load(ends_ptr + slot, mask=taps < LISTS, other=0)
    if tile == 0:
        tl.store(starts_ptr + taps, end - size, mask=taps < LISTS)
        tl.store(starts_ptr + LISTS, tl.load(ends_ptr + LISTS * tl.num_programs(0) - 1))
    if tile * ROWS >= total:
        return
    in_rows = load_taps(table_ptr, stride, rows, total, VOLUME, TAPS)
    member = _members(in_rows, rows, total, VOLUME, TAPS, REST)
    place = (end - size)[:, None] + tl.cumsum(member, axis=1) - member
    mine = (member != 0) & (place < capacity)
    tl.store(in_rows_ptr + place, in_rows, mask=mine)
    tl.store(out_rows_ptr + place, rows[None, :] + tl.zeros_like(in_rows), mask=mine)
