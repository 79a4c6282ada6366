"""Pooling over the active sites of each output's window, and over all sites of each scan."""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import round_tf32


@triton.jit
def larger(kept, value):
    """The maximum, element by element; a NaN on either side stays, as in torch."""
    return tl.where((value < kept) | (kept != kept), kept, value)


@triton.jit
def pool(
    in_ptr, in_stride, table_ptr, table_stride, total_ptr, out_ptr, out_stride, channels, taps,
    MEAN: tl.constexpr, TF32: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out `[total, channels]`: maximum (or mean) of the input rows in `table[:, row]`, tap after tap."""
    total = tl.load(total_ptr)
    first = tl.program_id(0) * ROWS
    if first >= total:
        return
    rows = first + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = rows < total
    wanted = columns < channels
    NEUTRAL: tl.constexpr = 0.0 if MEAN else float("-inf")
    result = tl.full([ROWS, COLUMNS], NEUTRAL, tl.float32)
    degree = tl.zeros([ROWS], tl.int32)
    sources = table_ptr + rows
    for _ in range(taps):
        source = tl.load(sources, mask=inside, other=-1)
        sources += table_stride
        present = source >= 0
        places = in_ptr + source.to(tl.int64)[:, None] * in_stride + columns[None, :]
        value = tl.load(places, mask=present[:, None] & wanted[None, :], other=NEUTRAL).to(tl.float32)
        if MEAN:
            result += value
            degree += present.to(tl.int32)
        else:
            result = larger(result, value)
    if MEAN:
        divisor = tl.maximum(degree, 1).to(tl.float32)[:, None]
        result = tl.math.div_rn(result, tl.broadcast_to(divisor, [ROWS, COLUMNS]))
        if TF32:
            result = round_tf32(result)
    places = out_ptr + rows.to(tl.int64)[:, None] * out_stride + columns[None, :]
    tl.store(places, result, mask=inside[:, None] & wanted[None, :])


@triton.jit
def first_row(indices_ptr, stride, total, scan, WAYS: tl.constexpr):
    """The number of rows whose scan comes before `scan`. Rows rise by scan; each step looks at `WAYS` of them."""
    low = total * 0
    high = total
    while low < high:
        step = (high - low + WAYS - 1) // WAYS
        rows = low + tl.arange(0, WAYS) * step
        before = tl.load(indices_ptr + rows.to(tl.int64) * stride, mask=rows < high, other=scan) < scan
        passed = tl.sum(before.to(tl.int32), axis=0)
        high = tl.minimum(high, low + passed * step)
        low = tl.where(passed > 0, low + (passed - 1) * step + 1, low)
    return low


@triton.jit
def pool_parts(
    in_ptr, in_stride, indices_ptr, indices_stride, total_ptr, counts_ptr, parts_ptr, channels,
    MEAN: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The rows of each scan in `PARTS` runs of equal length: the sum (or maximum) of each in float64, and their number.

    How rows are divided depends on their number alone, so that sums are the same in buffers of every capacity.
    """
    scan = tl.program_id(0) // PARTS
    part = tl.program_id(0) % PARTS
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    wanted = columns < channels
    total = tl.load(total_ptr)
    begin = first_row(indices_ptr, indices_stride, total, scan, 128)
    end = first_row(indices_ptr, indices_stride, total, scan + 1, 128)
    tl.store(counts_ptr + scan, end - begin)
    length = (end - begin + PARTS - 1) // PARTS
    begin += part * length
    end = tl.minimum(end, begin + length)
    NEUTRAL: tl.constexpr = 0.0 if MEAN else float("-inf")
    result = tl.full([ROWS, COLUMNS], NEUTRAL, tl.float64)
    odd = tl.zeros([ROWS, COLUMNS], tl.int32)
    for first in range(begin, end, ROWS):
        rows = first + tl.arange(0, ROWS)
        places = in_ptr + rows.to(tl.int64)[:, None] * in_stride + columns[None, :]
        value = tl.load(places, mask=(rows < end)[:, None] & wanted[None, :], other=NEUTRAL)
        value = value.to(tl.float32).to(tl.float64)
        if MEAN:
            result += value
        else:
            odd |= (value != value).to(tl.int32)
            result = tl.where(value > result, value, result)
    if MEAN:
        result = tl.sum(result, axis=0)
    else:
        result = tl.where(tl.max(odd, axis=0) > 0, float("nan"), tl.max(result, axis=0))
    tl.store(parts_ptr + tl.program_id(0).to(tl.int64) * channels + columns, result, mask=wanted)


@triton.jit
def join_parts(
    parts_ptr, counts_ptr, out_ptr, channels,
    MEAN: tl.constexpr, TF32: tl.constexpr, PARTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out `[B, channels]` from the parts of each scan, from the first to the last; zeros for a scan without rows."""
    scan = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    wanted = columns < channels
    count = tl.load(counts_ptr + scan)
    places = parts_ptr + scan.to(tl.int64) * PARTS * channels + columns
    result = tl.load(places, mask=wanted, other=0.0)
    for part in range(1, PARTS):
        value = tl.load(places + part * channels, mask=wanted, other=0.0)
        result = result + value if MEAN else larger(result, value)
    if MEAN:
        result = result / tl.maximum(count, 1)
    result = tl.where(count > 0, result, 0.0).to(tl.float32)
    if TF32:
        result = round_tf32(result)
    tl.store(out_ptr + scan.to(tl.int64) * channels + columns, result, mask=wanted)
