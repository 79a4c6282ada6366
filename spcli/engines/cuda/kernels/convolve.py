"""Output-stationary implicit GEMM: one program owns a block of output rows and columns and sums over the taps it has.

Nothing is added atomically and taps are summed in ascending order, so the bits are the same in every run. Strides of
feature rows come divided by a constant (`*_UNIT`) so that the compiler knows what divides them and loads 16 bytes at
once, without a compilation for every stride. IN_CHANNELS and OUT_CHANNELS are 0 where they fill whole blocks. Lines
that load weights name `weight_ptr`: the compile table reads that.
"""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import activate, popcount, round_tf32

_SIZES = ["x_units", "add_units", "out_units", "column_blocks"]


@triton.jit
def _stride(units, UNIT: tl.constexpr, LONG: tl.constexpr):
    """The distance of two rows; as int64 where an offset may pass 2^31, and offsets with it."""
    stride = units * UNIT
    return stride.to(tl.int64) if LONG else stride


@triton.jit
def _multiply(a, b, sums, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """`sums + a @ b.T` in float32; UPCAST is for the interpreter, which cannot multiply bfloat16."""
    if UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, tl.trans(b), sums, input_precision=PRECISION)


@triton.jit
def _finish(
    sums, rows, live, columns, shift_ptr, add_ptr, out_ptr, add_stride, out_stride, slope,
    ACTIVATION: tl.constexpr, TF32: tl.constexpr, OUT_CHANNELS: tl.constexpr,
):  # fmt: skip
    """Shift, residual and activation, then the store."""
    sums += tl.load(shift_ptr + columns)[None, :]
    mask = live[:, None]
    if OUT_CHANNELS:
        mask = mask & (columns < OUT_CHANNELS)[None, :]
    if add_ptr is not None:
        sums += tl.load(add_ptr + rows[:, None] * add_stride + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    sums = activate(sums, slope, ACTIVATION)
    if TF32:
        sums = round_tf32(sums)
    tl.store(out_ptr + rows[:, None] * out_stride + columns[None, :], sums.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _lowest(bits):
    """Number of the lowest bit that is set, 64 where none is."""
    return popcount((bits & -bits) - 1)


@triton.jit
def _lowest_ones(bits, COUNT: tl.constexpr):
    """Numbers of the COUNT lowest bits that are set, -1 where there are fewer, and the bits without them."""
    places = tl.arange(0, COUNT)
    numbers = tl.full((COUNT,), -1, tl.int32)
    for place in tl.static_range(COUNT):
        numbers = tl.where((places == place) & (bits != 0), _lowest(bits), numbers)
        bits = bits & (bits - 1)
    return numbers, bits


@triton.jit
def _masked_taps(masks_ptr, tile, total, ROWS: tl.constexpr):
    """The taps of a block, a bit a tap: those of its groups of 64 rows together."""
    bits = tl.zeros([], tl.int64)
    for place in tl.static_range(ROWS // 64):
        group = tile * (ROWS // 64) + place
        bits |= tl.load(masks_ptr + group, mask=group * 64 < total, other=0)
    return bits


@triton.jit
def _sum_wide(
    x_ptr, table_ptr, list_ptr, bits, weight_ptr, rows, live, count, x_stride, table_stride, tap_size,
    sums, DEPTH: tl.constexpr, BLOCKS: tl.constexpr, IN_CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """Adds the taps listed, one tap and DEPTH of its channels a step."""
    channels = tl.arange(0, DEPTH)
    if list_ptr is None:
        tap = _lowest(bits)
    else:
        tap = tl.load(list_ptr, mask=count > 0, other=0)
    for step in range(count * BLOCKS):
        first, following = step % BLOCKS * DEPTH, (step + 1) // BLOCKS
        source = tl.load(table_ptr + tap * table_stride + rows, mask=live, other=-1)
        mask = (source >= 0)[:, None]
        if IN_CHANNELS:
            mask = mask & (first + channels < IN_CHANNELS)[None, :]
        a_ptr = x_ptr + source[:, None] * x_stride + first + channels[None, :]
        a = tl.load(a_ptr, mask=mask, other=0.0)
        b = tl.load(weight_ptr + tap * tap_size + first)
        if list_ptr is None:
            bits = tl.where((step + 1) % BLOCKS == 0, bits & (bits - 1), bits)
            tap = _lowest(bits)
        else:
            tap = tl.load(list_ptr + following, mask=following < count, other=0)
        sums = _multiply(a, b, sums, PRECISION, UPCAST)
    return sums


@triton.jit
def _sum_narrow(
    x_ptr, table_ptr, list_ptr, bits, weight_ptr, rows, live, count, x_stride, table_stride, tap_size,
    sums, DEPTH: tl.constexpr, TAPS: tl.constexpr, IN_CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """Adds the taps listed, all DEPTH channels of TAPS taps a step."""
    channels = tl.arange(0, DEPTH)[None, None, :]
    listed = tl.arange(0, TAPS)
    if list_ptr is None:
        taps, bits = _lowest_ones(bits, TAPS)
    else:
        taps = tl.load(list_ptr + listed, mask=listed < count, other=-1)
    for following in range(TAPS, count + TAPS, TAPS):
        source_ptr = table_ptr + (taps * table_stride)[None, :] + rows[:, None]
        sources = tl.load(source_ptr, mask=live[:, None] & (taps >= 0)[None, :], other=-1)
        mask = (sources >= 0)[:, :, None]
        if IN_CHANNELS:
            mask = mask & (channels < IN_CHANNELS)
        a = tl.load(x_ptr + sources[:, :, None] * x_stride + channels, mask=mask, other=0.0)
        b = tl.load(weight_ptr + (tl.maximum(taps, 0) * tap_size)[None, :, None])
        if list_ptr is None:
            taps, bits = _lowest_ones(bits, TAPS)
        else:
            taps = tl.load(list_ptr + following + listed, mask=following + listed < count, other=-1)
        a = tl.reshape(a, (a.shape[0], TAPS * DEPTH))
        b = tl.reshape(b, (b.shape[0], TAPS * DEPTH))
        sums = _multiply(a, b, sums, PRECISION, UPCAST)
    return sums


@triton.jit(do_not_specialize=["table_units", "volume", *_SIZES])
def convolve(
    x_ptr, table_ptr, order_ptr, taps_ptr, counts_ptr, masks_ptr, total_ptr, weight_ptr, shift_ptr, add_ptr, out_ptr,
    table_units, volume, x_units, add_units, out_units, column_blocks, slope,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, TAPS: tl.constexpr, BLOCKS: tl.constexpr,
    X_UNIT: tl.constexpr, ADD_UNIT: tl.constexpr, OUT_UNIT: tl.constexpr, IN_CHANNELS: tl.constexpr,
    OUT_CHANNELS: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    LONG: tl.constexpr,
):  # fmt: skip
    """A block `[ROWS, COLUMNS]` of outputs, from the taps of its rows.

    They stand in `masks`, a bit a tap for each 64 rows, or where that is None, in the lists `taps`.

    One dot sums DEPTH channels (of BLOCKS * DEPTH, the padded width of a weight's rows) of TAPS taps. Only narrow
    layers have TAPS > 1, and then BLOCKS is 1. The number of a tap is found a step before it is used: the compiler
    then prefetches rows farther ahead, because the chain tap, source, row has one link less in a step.
    """
    tile, column_block = tl.program_id(0) // column_blocks, tl.program_id(0) % column_blocks
    total = tl.load(total_ptr)
    if tile * ROWS >= total:
        return
    place = tile * ROWS + tl.arange(0, ROWS)
    live = place < total
    rows = place if order_ptr is None else tl.load(order_ptr + place, mask=live, other=0)
    columns = column_block * COLUMNS + tl.arange(0, COLUMNS)
    if masks_ptr is None:
        count = tl.load(counts_ptr + tile)
        list_ptr = taps_ptr + tile.to(tl.int64) * volume
        bits = tl.zeros([], tl.int64)
    else:
        bits = _masked_taps(masks_ptr, tile, total, ROWS)
        count = popcount(bits)
        list_ptr = None
    x_stride, table_stride = _stride(x_units, X_UNIT, LONG), _stride(table_units, 128, LONG)
    tap_size = column_blocks * (COLUMNS * BLOCKS * DEPTH)
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    if TAPS == 1:
        weight_ptr += columns[:, None] * (BLOCKS * DEPTH) + tl.arange(0, DEPTH)[None, :]
        sums = _sum_wide(
            x_ptr, table_ptr, list_ptr, bits, weight_ptr, rows, live, count, x_stride, table_stride, tap_size,
            sums, DEPTH, BLOCKS, IN_CHANNELS, PRECISION, UPCAST,
        )  # fmt: skip
    else:
        weight_ptr += columns[:, None, None] * DEPTH + tl.arange(0, DEPTH)[None, None, :]
        sums = _sum_narrow(
            x_ptr, table_ptr, list_ptr, bits, weight_ptr, rows, live, count, x_stride, table_stride, tap_size,
            sums, DEPTH, TAPS, IN_CHANNELS, PRECISION, UPCAST,
        )  # fmt: skip
    _finish(
        sums, rows, live, columns, shift_ptr, add_ptr, out_ptr,
        _stride(add_units, ADD_UNIT, LONG), _stride(out_units, OUT_UNIT, LONG),
        slope, ACTIVATION, PRECISION == "tf32", OUT_CHANNELS,
    )  # fmt: skip


@triton.jit(do_not_specialize=["total", "steps", *_SIZES])
def linear(
    x_ptr, weight_ptr, shift_ptr, add_ptr, out_ptr,
    total, steps, x_units, add_units, out_units, column_blocks, slope,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, BLOCKS: tl.constexpr,
    X_UNIT: tl.constexpr, ADD_UNIT: tl.constexpr, OUT_UNIT: tl.constexpr, IN_CHANNELS: tl.constexpr,
    OUT_CHANNELS: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    LONG: tl.constexpr,
):  # fmt: skip
    """A block `[ROWS, COLUMNS]` of a plain matrix product: each output row comes from the input row of its number.

    `steps` is BLOCKS again: a loop whose length the compiler knew would be unrolled whole.
    """
    tile, column_block = tl.program_id(0) // column_blocks, tl.program_id(0) % column_blocks
    rows = tile * ROWS + tl.arange(0, ROWS)
    live = rows < total
    columns = column_block * COLUMNS + tl.arange(0, COLUMNS)
    channels = tl.arange(0, DEPTH)
    x_ptr += rows[:, None] * _stride(x_units, X_UNIT, LONG) + channels[None, :]
    weight_ptr += columns[:, None] * (BLOCKS * DEPTH) + channels[None, :]
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(steps):
        first = step * DEPTH
        mask = live[:, None]
        if IN_CHANNELS:
            mask = mask & (first + channels < IN_CHANNELS)[None, :]
        a = tl.load(x_ptr + first, mask=mask, other=0.0)
        b = tl.load(weight_ptr + first)
        sums = _multiply(a, b, sums, PRECISION, UPCAST)
    _finish(
        sums, rows, live, columns, shift_ptr, add_ptr, out_ptr,
        _stride(add_units, ADD_UNIT, LONG), _stride(out_units, OUT_UNIT, LONG),
        slope, ACTIVATION, PRECISION == "tf32", OUT_CHANNELS,
    )  # fmt: skip
