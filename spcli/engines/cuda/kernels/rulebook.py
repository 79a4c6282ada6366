"""Output sites, neighbour tables and lists of rules.

WINDOW holds, for the axes z, y and x in turn, (kernel, stride, padding, dilation, extra, step, inverse, reach): the
geometry, which is a constant of a network and therefore one of the code, and what follows from it for `_reached`.
FLAT looks at sites from above, at z = 0.
"""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import popcount
from spcli.engines.cuda.kernels.sites import is_before, key_of, load_key, lower_bound, rank_in, site_of, word_of


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
        room = size.to(tl.int64) + 2 * PADDING - SPAN - 1
        out = tl.where(room < 0, 0, room // STRIDE + 1)
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
    indices_ptr,
    total,
    depth,
    height,
    width,
    rows,
    numbers,
    WINDOW: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    NDIM: tl.constexpr,
    FLAT: tl.constexpr,
):
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
    indices_ptr,
    total_ptr,
    shape_ptr,
    out_shape_ptr,
    words_ptr,
    marked_ptr,
    WINDOW: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    NDIM: tl.constexpr,
    FLAT: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
    NUMBERS: tl.constexpr,
    ROWS: tl.constexpr,
):
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
    words_ptr,
    base_ptr,
    marked_ptr,
    shape_ptr,
    indices_ptr,
    total_ptr,
    words,
    capacity,
    NDIM: tl.constexpr,
    BLOCK_WORDS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Lists the sites of a bitmap in raster order and gives each word its base; one program a block of words.

    Words beyond the capacity keep the rows they would have had: whoever looks one up compares it with the total.
    """
    block = tl.program_id(0)
    if block == 0:
        tl.store(total_ptr, tl.minimum(tl.load(marked_ptr), capacity))
    if tl.load(marked_ptr + 1 + block) == 0:
        return
    row = tl.zeros([], tl.int32)
    for start in range(0, block, CHUNK):
        earlier = start + tl.arange(0, CHUNK)
        row += tl.sum(tl.load(marked_ptr + 1 + earlier, mask=earlier < block, other=0), axis=0)
    for start in range(0, BLOCK_WORDS, CHUNK):
        number = block * BLOCK_WORDS + start + tl.arange(0, CHUNK)
        word = tl.load(words_ptr + number, mask=number < words, other=0)
        count = popcount(word)
        first = row + tl.cumsum(count, axis=0) - count
        tl.store(base_ptr + number, first, mask=word != 0)
        _emit_words(word, number, first, tl.max(count, axis=0), shape_ptr, indices_ptr, capacity, NDIM)
        row += tl.sum(count, axis=0)


@triton.jit
def _emit_words(word, number, first, most, shape_ptr, indices_ptr, capacity, NDIM: tl.constexpr):
    """Writes the sites of each word from row `first` on; no word has more than `most`."""
    depth, height, width = tl.load(shape_ptr), tl.load(shape_ptr + 1), tl.load(shape_ptr + 2)
    across = (width + 63) >> 6
    line = number // across
    column = number % across * 64
    for step in range(most):
        row = first + step
        here = (word != 0) & (row < capacity)
        x = column + popcount((word & -word) - 1)
        _store_site(indices_ptr, row, here, line // height // depth, line // height % depth, line % height, x, NDIM)
        word = word & (word - 1)


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
    indices_ptr,
    total_ptr,
    shape_ptr,
    out_shape_ptr,
    high_ptr,
    low_ptr,
    capacity,
    WINDOW: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    NDIM: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    NUMBERS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The key of every output that every row may reach; greater than any site's where it reaches none."""
    REACH: tl.constexpr = WINDOW[0][7] * WINDOW[1][7] * WINDOW[2][7]
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    numbers = tl.arange(0, NUMBERS)
    depth, height, width = _out_shape(shape_ptr, out_shape_ptr, WINDOW, TRANSPOSED, FLAT)
    batch, z, y, x, is_site = _outputs_of(
        indices_ptr, tl.load(total_ptr), depth, height, width, rows, numbers, WINDOW, TRANSPOSED, NDIM, FLAT
    )
    plane = batch * depth + z
    low = y * width + x
    if not WIDE:
        low += plane * height * width
    slot = numbers.to(tl.int64)[:, None] * capacity + rows[None, :]
    mine = (numbers < REACH)[:, None] & (rows < capacity)[None, :]
    tl.store(low_ptr + slot, tl.where(is_site, low, 0x7FFFFFFFFFFFFFFF), mask=mine)
    if WIDE:
        tl.store(high_ptr + slot, tl.where(is_site, plane, 0x7FFFFFFFFFFFFFFF), mask=mine)


@triton.jit(do_not_specialize=["count"])
def flag_first(high_ptr, low_ptr, flags_ptr, count, WIDE: tl.constexpr, ROWS: tl.constexpr):
    """1 where a sorted key is a site's and differs from the key before it."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    high, low = load_key(high_ptr, low_ptr, rows, rows < count, WIDE)
    before_high, before_low = load_key(high_ptr, low_ptr, rows - 1, (rows > 0) & (rows < count), WIDE)
    differs = is_before(before_high, before_low, high, low, WIDE) | (rows == 0)
    tl.store(flags_ptr + rows, (differs & (low != 0x7FFFFFFFFFFFFFFF)).to(tl.int32), mask=rows < count)


@triton.jit(do_not_specialize=["count", "capacity"])
def emit_flagged(
    high_ptr,
    low_ptr,
    flags_ptr,
    places_ptr,
    shape_ptr,
    out_high_ptr,
    out_low_ptr,
    indices_ptr,
    total_ptr,
    count,
    capacity,
    NDIM: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Lists the flagged keys and their sites; `places` counts the flags up to and with each key."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    if tl.program_id(0) == 0:
        true_total = tl.load(places_ptr + count - 1)
        tl.store(total_ptr, tl.minimum(true_total, capacity))
    flagged = tl.load(flags_ptr + rows, mask=rows < count, other=0) != 0
    place = tl.load(places_ptr + rows, mask=flagged, other=0) - 1
    here = flagged & (place < capacity)
    high, low = load_key(high_ptr, low_ptr, rows, here, WIDE)
    depth = tl.load(shape_ptr).to(tl.int64)
    height = tl.load(shape_ptr + 1).to(tl.int64)
    width = tl.load(shape_ptr + 2).to(tl.int64)
    tl.store(out_low_ptr + place, low, mask=here)
    if WIDE:
        tl.store(out_high_ptr + place, high, mask=here)
    else:
        high = low // width // height
    y = low // width % height
    _store_site(indices_ptr, place, here, high // depth, high % depth, y, low % width, NDIM)


@triton.jit
def _column_of(batch, z, y, here, columns, shape_ptr, WINDOW: tl.constexpr):
    """(batch, z, y, whether inside the grid) `[columns, rows]` of the kernel's columns, its pairs (kz, ky)."""
    KERNEL_Y: tl.constexpr = WINDOW[1][0]
    column = columns[:, None]
    z = z[None, :] * WINDOW[0][1] - WINDOW[0][2] + column // KERNEL_Y * WINDOW[0][3]
    y = y[None, :] * WINDOW[1][1] - WINDOW[1][2] + column % KERNEL_Y * WINDOW[1][3]
    inside = (z >= 0) & (z < tl.load(shape_ptr)) & (y >= 0) & (y < tl.load(shape_ptr + 1))
    inside = inside & here[None, :] & (column < WINDOW[0][0] * KERNEL_Y)
    return batch[None, :] + tl.zeros_like(z), z, y, inside


@triton.jit
def _write_tap(
    found,
    is_rule,
    rows,
    here,
    columns,
    tap_x,
    table_ptr,
    stride,
    counts_ptr,
    WINDOW: tl.constexpr,
    SCATTER: tl.constexpr,
):
    """Enters the rules of one kx in the table and counts them.

    Rows found are inputs of the rows that looked for them; SCATTER has them as outputs, in a table that holds -1.
    """
    is_tap = columns < WINDOW[0][0] * WINDOW[1][0]
    taps = columns * WINDOW[2][0] + tap_x
    line = table_ptr + taps.to(tl.int64)[:, None] * stride
    if SCATTER:
        tl.store(line + found, rows[None, :] + tl.zeros_like(found), mask=is_rule)
    else:
        tl.store(line + rows[None, :], tl.where(is_rule, found, -1), mask=is_tap[:, None] & here[None, :])
    tl.atomic_add(counts_ptr + taps, tl.sum(is_rule.to(tl.int32), axis=1), mask=is_tap, sem="relaxed")


@triton.jit
def _count_fullest(rules, counts_ptr, WINDOW: tl.constexpr, SCATTER: tl.constexpr):
    """Notes the most rules of one row behind the counts of the taps."""
    VOLUME: tl.constexpr = WINDOW[0][0] * WINDOW[1][0] * WINDOW[2][0]
    if not SCATTER:
        tl.atomic_max(counts_ptr + VOLUME, tl.max(tl.sum(rules, axis=0), axis=0), sem="relaxed")


@triton.jit
def find_in_bitmap(
    indices_ptr,
    total_ptr,
    shape_ptr,
    found_total_ptr,
    words_ptr,
    base_ptr,
    table_ptr,
    stride,
    counts_ptr,
    WINDOW: tl.constexpr,
    SCATTER: tl.constexpr,
    NDIM: tl.constexpr,
    FLAT: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Joins every row with the sites at `stride * site - padding + dilation * k`, found in a bitmap of `shape`.

    One word or two hold all x neighbours of a column, unless the dilation spreads them over more than 64 cells.
    """
    KERNEL_X: tl.constexpr = WINDOW[2][0]
    DILATION_X: tl.constexpr = WINDOW[2][3]
    SPAN: tl.constexpr = DILATION_X * (KERNEL_X - 1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    here = rows < total
    columns = tl.arange(0, COLUMNS)
    batch, z, y, x = site_of(indices_ptr, rows, here, NDIM, FLAT)
    x = x[None, :] * WINDOW[2][1] - WINDOW[2][2]
    batch, z, y, inside = _column_of(batch, z, y, here, columns, shape_ptr, WINDOW)
    width = tl.load(shape_ptr + 2)
    found_total = tl.load(found_total_ptr)
    line = word_of(batch, z, y, tl.zeros_like(z), shape_ptr)
    rules = tl.zeros([COLUMNS, ROWS], tl.int32)
    if SPAN < 64:
        word, base = _load_word(line, x, inside, width, words_ptr, base_ptr)
        crosses = inside & ((tl.maximum(x, 0) >> 6) != ((x + SPAN) >> 6))
        next_word, next_base = _load_word(line, x + SPAN, crosses, width, words_ptr, base_ptr)
    for tap_x in tl.static_range(KERNEL_X):
        at = x + tap_x * DILATION_X
        if SPAN < 64:
            is_next = (at >> 6) != (tl.maximum(x, 0) >> 6)
            is_set, found = rank_in(tl.where(is_next, next_word, word), tl.where(is_next, next_base, base), at)
        else:
            word, base = _load_word(line, at, inside, width, words_ptr, base_ptr)
            is_set, found = rank_in(word, base, at)
        is_rule = is_set & inside & (at >= 0) & (at < width) & (found < found_total)
        _write_tap(found, is_rule, rows, here, columns, tap_x, table_ptr, stride, counts_ptr, WINDOW, SCATTER)
        rules += is_rule.to(tl.int32)
    _count_fullest(rules, counts_ptr, WINDOW, SCATTER)


@triton.jit
def _load_word(line, x, needed, width, words_ptr, base_ptr):
    """The word that holds x, or the cell of the grid that is nearest, and the row of the word's first site."""
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    word = tl.load(words_ptr + line + (x >> 6), mask=needed, other=0)
    base = tl.load(base_ptr + line + (x >> 6), mask=word != 0, other=0)
    return word, base


@triton.jit(do_not_specialize=["steps"])
def find_in_keys(
    indices_ptr,
    total_ptr,
    shape_ptr,
    found_total_ptr,
    high_ptr,
    low_ptr,
    steps,
    table_ptr,
    stride,
    counts_ptr,
    WINDOW: tl.constexpr,
    SCATTER: tl.constexpr,
    WIDE: tl.constexpr,
    NDIM: tl.constexpr,
    FLAT: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """As `find_in_bitmap`, in sorted keys: one search a column of the kernel, then steps along x."""
    KERNEL_X: tl.constexpr = WINDOW[2][0]
    DILATION_X: tl.constexpr = WINDOW[2][3]
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    here = rows < total
    columns = tl.arange(0, COLUMNS)
    batch, z, y, x = site_of(indices_ptr, rows, here, NDIM, FLAT)
    x = x.to(tl.int64)[None, :] * WINDOW[2][1] - WINDOW[2][2]
    batch, z, y, inside = _column_of(
        batch.to(tl.int64), z.to(tl.int64), y.to(tl.int64), here, columns, shape_ptr, WINDOW
    )
    width = tl.load(shape_ptr + 2)
    found_total = tl.load(found_total_ptr)
    high, line = key_of(batch, z, y, tl.zeros_like(z), shape_ptr, WIDE)
    found = lower_bound(high_ptr, low_ptr, found_total, high, line + tl.maximum(x, 0), inside, steps, WIDE)
    place = _load_place(high_ptr, low_ptr, found, inside & (found < found_total), high, WIDE)
    rules = tl.zeros([COLUMNS, ROWS], tl.int32)
    for tap_x in tl.static_range(KERNEL_X):
        at = x + tap_x * DILATION_X
        for _step in range(DILATION_X if tap_x > 0 else 0):
            goes_on = inside & (place < line + at)
            found += goes_on.to(tl.int32)
            following = _load_place(high_ptr, low_ptr, found, goes_on & (found < found_total), high, WIDE)
            place = tl.where(goes_on, following, place)
        is_rule = inside & (at >= 0) & (at < width) & (place == line + at)
        _write_tap(found, is_rule, rows, here, columns, tap_x, table_ptr, stride, counts_ptr, WINDOW, SCATTER)
        rules += is_rule.to(tl.int32)
    _count_fullest(rules, counts_ptr, WINDOW, SCATTER)


@triton.jit
def _load_place(high_ptr, low_ptr, rows, here, high, WIDE: tl.constexpr):
    """The low half of each row's key; greater than any where the high half is another, or the row is not `here`."""
    key_high, low = load_key(high_ptr, low_ptr, rows, here, WIDE)
    if WIDE:
        low = tl.where(key_high == high, low, 0x7FFFFFFFFFFFFFFF)
    return low


@triton.jit
def count_fullest(
    table_ptr, stride, total_ptr, counts_ptr, VOLUME: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr
):
    """The most rules of one row of a table, for tables that were scattered."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    is_rule = _load_taps(table_ptr, stride, rows, total, VOLUME, TAPS) >= 0
    tl.atomic_max(counts_ptr + VOLUME, tl.max(tl.sum(is_rule.to(tl.int32), axis=0), axis=0), sem="relaxed")


@triton.jit
def _load_taps(table_ptr, stride, rows, total, VOLUME: tl.constexpr, TAPS: tl.constexpr):
    """All taps of some rows, int32 `[TAPS, rows]`, -1 for none."""
    taps = tl.arange(0, TAPS)
    mask = (taps < VOLUME)[:, None] & (rows < total)[None, :]
    return tl.load(table_ptr + taps.to(tl.int64)[:, None] * stride + rows[None, :], mask=mask, other=-1)


@triton.jit
def swap_ends(
    table_ptr,
    stride,
    total_ptr,
    swapped_ptr,
    swapped_stride,
    VOLUME: tl.constexpr,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Writes a table's rules the other way round into a table that holds -1."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    in_rows = _load_taps(table_ptr, stride, rows, total, VOLUME, TAPS)
    place = tl.arange(0, TAPS).to(tl.int64)[:, None] * swapped_stride + in_rows
    tl.store(swapped_ptr + place, rows[None, :] + tl.zeros_like(in_rows), mask=in_rows >= 0)


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
    table_ptr,
    stride,
    total_ptr,
    sizes_ptr,
    VOLUME: tl.constexpr,
    REST: tl.constexpr,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Rules by tap, then by tile of rows; also of the tiles that have none."""
    tile = tl.program_id(0)
    rows = tile * ROWS + tl.arange(0, ROWS)
    taps = tl.arange(0, TAPS)
    total = tl.load(total_ptr)
    in_rows = _load_taps(table_ptr, stride, rows, total, VOLUME, TAPS)
    member = _members(in_rows, rows, total, VOLUME, TAPS, REST)
    slot = sizes_ptr + taps * tl.num_programs(0) + tile
    tl.store(slot, tl.sum(member, axis=1), mask=taps < VOLUME + (1 if REST else 0))


@triton.jit(do_not_specialize=["capacity"])
def write_rules(
    table_ptr,
    stride,
    total_ptr,
    sizes_ptr,
    ends_ptr,
    in_rows_ptr,
    out_rows_ptr,
    starts_ptr,
    capacity,
    VOLUME: tl.constexpr,
    REST: tl.constexpr,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
):
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
    in_rows = _load_taps(table_ptr, stride, rows, total, VOLUME, TAPS)
    member = _members(in_rows, rows, total, VOLUME, TAPS, REST)
    place = (end - size)[:, None] + tl.cumsum(member, axis=1) - member
    mine = (member != 0) & (place < capacity)
    tl.store(in_rows_ptr + place, in_rows, mask=mine)
    tl.store(out_rows_ptr + place, rows[None, :] + tl.zeros_like(in_rows), mask=mine)
