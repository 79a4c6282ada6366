"""Output sites of a window, listed in raster order by way of a bitmap or of sorted keys.

WINDOW holds, for the axes z, y and x in turn, (kernel, stride, padding, dilation, extra, step, inverse, reach): the
geometry, which is a constant of a network and therefore one of the code, and what follows from it for `_reached`.
FLAT looks at sites from above, at z = 0.
"""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import popcount
from spcli.engines.cuda.kernels.sites import NO_KEY, load_key, site_of


@triton.jit
def _out_size(size, WINDOW: tl.constexpr, AXIS: tl.constexpr, TRANSPOSED: tl.constexpr):
    """One axis of the output shape, int32; 0 where no window fits."""
    KERNEL: tl.constexpr = WINDOW[AXIS][0]
    STRIDE: tl.constexpr = WINDOW[AXIS][1]
    PADDING: tl.constexpr = WINDOW[AXIS][2]
    SPAN: tl.constexpr = WINDOW[AXIS][3] * (KERNEL - 1)
    if TRANSPOSED:
        out = (size.to(tl.int64) - 1) * STRIDE - 2 * PADDING + SPAN + WINDOW[AXIS][4] + 1
    else:
        left = size.to(tl.int64) + 2 * PADDING - SPAN - 1
        out = tl.where(left < 0, 0, left // STRIDE + 1)
    return tl.maximum(out, 0).to(tl.int32)


@triton.jit
def _out_shape(shape_ptr, out_shape_ptr, WINDOW: tl.constexpr, TRANSPOSED: tl.constexpr, FLAT: tl.constexpr):
    """The shape of the outputs, z, y, x; program 0 writes it down for the kernels to come."""
    depth = tl.load(shape_ptr)
    if FLAT:
        depth = tl.full([], 1, tl.int32)
    depth = _out_size(depth, WINDOW, 0, TRANSPOSED)
    height = _out_size(tl.load(shape_ptr + 1), WINDOW, 1, TRANSPOSED)
    width = _out_size(tl.load(shape_ptr + 2), WINDOW, 2, TRANSPOSED)
    if tl.program_id(0) == 0:
        tl.store(out_shape_ptr, depth)
        tl.store(out_shape_ptr + 1, height)
        tl.store(out_shape_ptr + 2, width)
    return depth, height, width


@triton.jit
def _reached(place, number, size, WINDOW: tl.constexpr, AXIS: tl.constexpr, TRANSPOSED: tl.constexpr):
    """The `number`-th output coordinate that an input coordinate may reach on one axis, and whether it does.

    Only taps with `dilation * k = place + padding (mod stride)` bring a site to an output. With g = gcd(stride,
    dilation) they are step = stride / g apart, and `inverse`, that of dilation / g modulo step, gives the first.
    """
    KERNEL: tl.constexpr = WINDOW[AXIS][0]
    STRIDE: tl.constexpr = WINDOW[AXIS][1]
    PADDING: tl.constexpr = WINDOW[AXIS][2]
    DILATION: tl.constexpr = WINDOW[AXIS][3]
    STEP: tl.constexpr = WINDOW[AXIS][5]
    INVERSE: tl.constexpr = WINDOW[AXIS][6]
    if TRANSPOSED:
        tap = number + tl.zeros_like(place)
        out = place * STRIDE - PADDING + DILATION * tap
        divides = tap >= 0
    else:
        GCD: tl.constexpr = STRIDE // STEP
        moved = place + PADDING
        tap = moved % STRIDE // GCD * INVERSE % STEP + number * STEP
        out = (moved - DILATION * tap) // STRIDE
        divides = moved % GCD == 0
    return out, divides & (tap < KERNEL) & (out >= 0) & (out < size)


@triton.jit
def _outputs_of(
    indices_ptr, total, depth, height, width, rows, numbers,
    WINDOW: tl.constexpr, TRANSPOSED: tl.constexpr, NDIM: tl.constexpr, FLAT: tl.constexpr,
):  # fmt: skip
    """(batch, z, y, x, whether there is one), int64 `[numbers, rows]`, of the outputs that rows may reach."""
    REACH_X: tl.constexpr = WINDOW[2][7]
    REACH_YX: tl.constexpr = WINDOW[1][7] * REACH_X
    here = rows < total
    batch, z, y, x = site_of(indices_ptr, rows, here, NDIM, FLAT)
    z, y, x = z.to(tl.int64)[None, :], y.to(tl.int64)[None, :], x.to(tl.int64)[None, :]
    number = numbers.to(tl.int64)[:, None]
    z, z_is = _reached(z, number // REACH_YX, depth, WINDOW, 0, TRANSPOSED)
    y, y_is = _reached(y, number % REACH_YX // REACH_X, height, WINDOW, 1, TRANSPOSED)
    x, x_is = _reached(x, number % REACH_X, width, WINDOW, 2, TRANSPOSED)
    batch = batch.to(tl.int64)[None, :] + tl.zeros_like(z)
    return batch, z, y, x, z_is & y_is & x_is & here[None, :] & (number < WINDOW[0][7] * REACH_YX)


@triton.jit
def mark_outputs(
    indices_ptr, total_ptr, shape_ptr, out_shape_ptr, words_ptr, marked_ptr,
    WINDOW: tl.constexpr, TRANSPOSED: tl.constexpr, NDIM: tl.constexpr, FLAT: tl.constexpr,
    BLOCK_WORDS: tl.constexpr, NUMBERS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sets the bit of every output site in a cleared bitmap, and counts.

    Whoever sees its bit still clear counts the site: `marked[0]` is the number of all sites, `marked[1 + i]` of those
    in the i-th block of words.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    depth, height, width = _out_shape(shape_ptr, out_shape_ptr, WINDOW, TRANSPOSED, FLAT)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    batch, z, y, x, is_site = _outputs_of(
        indices_ptr, total, depth, height, width, rows, tl.arange(0, NUMBERS), WINDOW, TRANSPOSED, NDIM, FLAT
    )
    word = ((batch * depth + z) * height + y) * ((width + 63) >> 6) + (x >> 6)
    bit = tl.full(word.shape, 1, tl.int64) << (x & 63)
    before = tl.atomic_or(words_ptr + word, bit, mask=is_site, sem="relaxed")
    is_new = is_site & ((before & bit) == 0)
    tl.atomic_add(marked_ptr + 1 + word // BLOCK_WORDS, 1, mask=is_new, sem="relaxed")
    tl.atomic_add(marked_ptr, tl.sum(tl.sum(is_new.to(tl.int32), axis=1), axis=0), sem="relaxed")


@triton.jit(do_not_specialize=["words", "capacity"])
def emit_marked(
    quarters_ptr, base_ptr, marked_ptr, shape_ptr, indices_ptr, total_ptr, words, capacity,
    NDIM: tl.constexpr, BLOCK_WORDS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Lists the sites of a bitmap in raster order and gives each word its base; one program per block of words.

    Sites of a quarter of a word are listed one after another, quarters side by side: the fullest decides how long that
    takes. Words beyond the capacity keep the rows they would have had: whoever looks one up compares it with the total.
    """
    block = tl.program_id(0)
    if block == 0:
        tl.store(total_ptr, tl.minimum(tl.load(marked_ptr), capacity))
    if tl.load(marked_ptr + 1 + block) == 0:
        return
    row = tl.zeros([], tl.int32)
    for start in range(0, block, 4 * CHUNK):
        earlier = start + tl.arange(0, 4 * CHUNK)
        row += tl.sum(tl.load(marked_ptr + 1 + earlier, mask=earlier < block, other=0), axis=0)
    for start in range(0, BLOCK_WORDS, CHUNK):
        quarter = (block * BLOCK_WORDS + start) * 4 + tl.arange(0, 4 * CHUNK)
        bits = tl.load(quarters_ptr + quarter, mask=quarter < words * 4, other=0).to(tl.int32) & 0xFFFF
        count = popcount(bits.to(tl.int64))
        first = row + tl.cumsum(count, axis=0) - count
        tl.store(base_ptr + quarter // 4, first, mask=(quarter % 4 == 0) & (quarter < words * 4))
        _emit_quarters(bits, quarter, first, tl.max(count, axis=0), shape_ptr, indices_ptr, capacity, NDIM)
        row += tl.sum(count, axis=0)


@triton.jit
def _emit_quarters(bits, quarter, first, most, shape_ptr, indices_ptr, capacity, NDIM: tl.constexpr):
    """Writes the sites of each quarter of a word from row `first` on; none has more than `most`."""
    depth, height, width = tl.load(shape_ptr), tl.load(shape_ptr + 1), tl.load(shape_ptr + 2)
    across = ((width + 63) >> 6) * 4
    line = quarter // across
    column = quarter % across * 16
    batch, z, y = line // height // depth, line // height % depth, line % height
    for step in range(most):
        row = first + step
        here = (bits != 0) & (row < capacity)
        x = column + popcount(((bits & -bits) - 1).to(tl.int64))
        _store_site(indices_ptr, row, here, batch, z, y, x, NDIM)
        bits = bits & (bits - 1)


@triton.jit
def _store_site(indices_ptr, rows, here, batch, z, y, x, NDIM: tl.constexpr):
    """Writes rows of indices."""
    first = indices_ptr + rows.to(tl.int64) * (1 + NDIM)
    tl.store(first, batch.to(tl.int32), mask=here)
    if NDIM == 3:
        tl.store(first + 1, z.to(tl.int32), mask=here)
    tl.store(first + NDIM - 1, y.to(tl.int32), mask=here)
    tl.store(first + NDIM, x.to(tl.int32), mask=here)


@triton.jit(do_not_specialize=["capacity"])
def write_candidates(
    indices_ptr, total_ptr, shape_ptr, out_shape_ptr, keys_ptr, capacity,
    WINDOW: tl.constexpr, TRANSPOSED: tl.constexpr, NDIM: tl.constexpr, FLAT: tl.constexpr,
    NUMBERS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The key of every output that every row may reach; greater than any site's where it reaches none."""
    REACH: tl.constexpr = WINDOW[0][7] * WINDOW[1][7] * WINDOW[2][7]
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    numbers = tl.arange(0, NUMBERS)
    depth, height, width = _out_shape(shape_ptr, out_shape_ptr, WINDOW, TRANSPOSED, FLAT)
    batch, z, y, x, is_site = _outputs_of(
        indices_ptr, tl.load(total_ptr), depth, height, width, rows, numbers, WINDOW, TRANSPOSED, NDIM, FLAT
    )
    key = y * width + x
    key += (batch * depth + z) * height * width
    slot = numbers.to(tl.int64)[:, None] * capacity + rows[None, :]
    mine = (numbers < REACH)[:, None] & (rows < capacity)[None, :]
    tl.store(keys_ptr + slot, tl.where(is_site, key, NO_KEY), mask=mine)


@triton.jit(do_not_specialize=["count"])
def flag_first(keys_ptr, flags_ptr, count, ROWS: tl.constexpr):
    """1 where a sorted key is a site's and differs from the key before it."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    key = load_key(keys_ptr, rows, rows < count)
    differs = (load_key(keys_ptr, rows - 1, (rows > 0) & (rows < count)) < key) | (rows == 0)
    tl.store(flags_ptr + rows, (differs & (key != NO_KEY)).to(tl.int32), mask=rows < count)


@triton.jit(do_not_specialize=["count", "capacity"])
def emit_flagged(
    keys_ptr, flags_ptr, places_ptr, shape_ptr, out_keys_ptr, indices_ptr, total_ptr, count, capacity,
    NDIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Lists the flagged keys and their sites; `places` counts the flags up to and with each key."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    if tl.program_id(0) == 0:
        true_total = tl.load(places_ptr + count - 1)
        tl.store(total_ptr, tl.minimum(true_total, capacity))
    flagged = tl.load(flags_ptr + rows, mask=rows < count, other=0) != 0
    place = tl.load(places_ptr + rows, mask=flagged, other=0) - 1
    here = flagged & (place < capacity)
    key = load_key(keys_ptr, rows, here)
    depth = tl.load(shape_ptr).to(tl.int64)
    height = tl.load(shape_ptr + 1).to(tl.int64)
    width = tl.load(shape_ptr + 2).to(tl.int64)
    tl.store(out_keys_ptr + place, key, mask=here)
    line = key // width
    plane = line // height
    _store_site(indices_ptr, place, here, plane // depth, plane % depth, line % height, key % width, NDIM)
