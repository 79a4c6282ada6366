"""Neighbour tables: for every tap and output row the input row that the tap brings to it.

WINDOW is the geometry, as in `outputs.py`; FLAT looks at sites from above, at z = 0. Rows that are looked for in a
bitmap and in sorted keys go the same way, except for the numbers of cells: int32 in a bitmap, int64 in keys.
"""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import whole_rows
from spcli.engines.cuda.kernels.sites import key_of, load_key, lower_bound, rank_in, site_of, word_of


@triton.jit
def _windows_of(
    indices_ptr, rows, here, columns, shape_ptr,
    WINDOW: tl.constexpr, NDIM: tl.constexpr, FLAT: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """(batch, z, y, first x, whether inside the grid) `[columns, rows]` of the kernel's columns, its pairs (kz, ky).

    The x are those of the first tap, `[1, rows]`, and may lie outside the grid. LONG has all of them in int64.
    """
    KERNEL_Y: tl.constexpr = WINDOW[1][0]
    batch, z, y, x = site_of(indices_ptr, rows, here, NDIM, FLAT)
    if LONG:
        batch, z, y, x = batch.to(tl.int64), z.to(tl.int64), y.to(tl.int64), x.to(tl.int64)
    column = columns[:, None]
    z = z[None, :] * WINDOW[0][1] - WINDOW[0][2] + column // KERNEL_Y * WINDOW[0][3]
    y = y[None, :] * WINDOW[1][1] - WINDOW[1][2] + column % KERNEL_Y * WINDOW[1][3]
    x = x[None, :] * WINDOW[2][1] - WINDOW[2][2]
    inside = (z >= 0) & (z < tl.load(shape_ptr)) & (y >= 0) & (y < tl.load(shape_ptr + 1))
    inside = inside & here[None, :] & (column < WINDOW[0][0] * KERNEL_Y)
    return batch[None, :] + tl.zeros_like(z), z, y, x, inside


@triton.jit
def _write_tap(
    found, is_rule, rows, total, columns, tap_x, table_ptr, stride, counts_ptr,
    WINDOW: tl.constexpr, SCATTER: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Enters the rules of one kx in the table, counts them, and returns which rows have one as 0 and 1.

    MASKED returns the bits of the taps that each 64 rows have as well, int64 `[columns, rows / 64]`.

    Rows found are inputs of the rows that looked for them; SCATTER has them as outputs, in a table that holds -1.
    """
    is_tap = columns < WINDOW[0][0] * WINDOW[1][0]
    taps = columns * WINDOW[2][0] + tap_x
    line = table_ptr + taps.to(tl.int64)[:, None] * stride
    if SCATTER:
        tl.store(line + found, rows[None, :] + tl.zeros_like(found), mask=is_rule)
    else:
        tl.store(
            line + rows[None, :],
            tl.where(is_rule, found, -1),
            mask=is_tap[:, None] & (rows < whole_rows(total))[None, :],
        )
    rules = is_rule.to(tl.int32)
    if MASKED:
        groups = tl.sum(tl.reshape(rules, (rules.shape[0], rules.shape[1] // 64, 64)), axis=2)
        count = tl.sum(groups, axis=1)
        bits = (groups > 0).to(tl.int64) << (taps & 63)[:, None]
    else:
        count = tl.sum(rules, axis=1)
        bits = tl.zeros((rules.shape[0], 1), tl.int64)
    tl.atomic_add(counts_ptr + taps, count, mask=is_tap, sem="relaxed")
    return rules, bits


@triton.jit
def _write_masks(bits, masks_ptr, total):
    """Enters the bits of the taps that each 64 rows of this block have."""
    groups = tl.program_id(0) * bits.shape[1] + tl.arange(0, bits.shape[1])
    tl.store(masks_ptr + groups, tl.sum(bits, axis=0), mask=groups * 64 < total)


@triton.jit
def _write_fullest(rules, counts_ptr, WINDOW: tl.constexpr, SCATTER: tl.constexpr):
    """Enters the most rules of one row behind the counts of the taps."""
    VOLUME: tl.constexpr = WINDOW[0][0] * WINDOW[1][0] * WINDOW[2][0]
    if not SCATTER:
        tl.atomic_max(counts_ptr + VOLUME, tl.max(tl.sum(rules, axis=0), axis=0), sem="relaxed")


@triton.jit
def find_in_bitmap(
    indices_ptr, total_ptr, shape_ptr, found_total_ptr, words_ptr, base_ptr, table_ptr, stride, counts_ptr,
    masks_ptr, WINDOW: tl.constexpr, SCATTER: tl.constexpr, NDIM: tl.constexpr, FLAT: tl.constexpr,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Joins every row with the sites at `stride * site - padding + dilation * k`, found in a bitmap of `shape`.

    `masks` are the taps that each 64 rows have, a bit a tap; None where nobody asks.
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
    batch, z, y, x, inside = _windows_of(indices_ptr, rows, here, columns, shape_ptr, WINDOW, NDIM, FLAT, False)
    width = tl.load(shape_ptr + 2)
    found_total = tl.load(found_total_ptr)
    line = word_of(batch, z, y, tl.zeros_like(z), shape_ptr)
    MASKED: tl.constexpr = masks_ptr is not None
    rules = tl.zeros([COLUMNS, ROWS], tl.int32)
    bits = tl.zeros([COLUMNS, ROWS // 64 if MASKED else 1], tl.int64)
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
        rule, bit = _write_tap(
            found, is_rule, rows, total, columns, tap_x, table_ptr, stride, counts_ptr, WINDOW, SCATTER, MASKED
        )
        rules += rule
        bits += bit
    _write_fullest(rules, counts_ptr, WINDOW, SCATTER)
    if MASKED:
        _write_masks(bits, masks_ptr, total)


@triton.jit
def _load_word(line, x, needed, width, words_ptr, base_ptr):
    """The word that holds x, or the cell of the grid that is nearest, and the row of the word's first site."""
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    word = tl.load(words_ptr + line + (x >> 6), mask=needed, other=0)
    base = tl.load(base_ptr + line + (x >> 6), mask=word != 0, other=0)
    return word, base


@triton.jit(do_not_specialize=["steps"])
def find_in_keys(
    indices_ptr, total_ptr, shape_ptr, found_total_ptr, keys_ptr, steps, table_ptr, stride, counts_ptr,
    masks_ptr, WINDOW: tl.constexpr, SCATTER: tl.constexpr, NDIM: tl.constexpr, FLAT: tl.constexpr,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """As `find_in_bitmap`, in sorted keys: one search for each column of the kernel, then steps along x."""
    KERNEL_X: tl.constexpr = WINDOW[2][0]
    DILATION_X: tl.constexpr = WINDOW[2][3]
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    here = rows < total
    columns = tl.arange(0, COLUMNS)
    batch, z, y, x, inside = _windows_of(indices_ptr, rows, here, columns, shape_ptr, WINDOW, NDIM, FLAT, True)
    width = tl.load(shape_ptr + 2)
    found_total = tl.load(found_total_ptr)
    line = key_of(batch, z, y, tl.zeros_like(z), shape_ptr)
    found = lower_bound(keys_ptr, found_total, line + tl.maximum(x, 0), inside, steps)
    key = load_key(keys_ptr, found, inside & (found < found_total))
    MASKED: tl.constexpr = masks_ptr is not None
    rules = tl.zeros([COLUMNS, ROWS], tl.int32)
    bits = tl.zeros([COLUMNS, ROWS // 64 if MASKED else 1], tl.int64)
    for tap_x in tl.static_range(KERNEL_X):
        at = x + tap_x * DILATION_X
        for _step in range(DILATION_X if tap_x > 0 else 0):
            goes_on = inside & (key < line + at)
            found += goes_on.to(tl.int32)
            key = tl.where(goes_on, load_key(keys_ptr, found, goes_on & (found < found_total)), key)
        is_rule = inside & (at >= 0) & (at < width) & (key == line + at)
        rule, bit = _write_tap(
            found, is_rule, rows, total, columns, tap_x, table_ptr, stride, counts_ptr, WINDOW, SCATTER, MASKED
        )
        rules += rule
        bits += bit
    _write_fullest(rules, counts_ptr, WINDOW, SCATTER)
    if MASKED:
        _write_masks(bits, masks_ptr, total)


@triton.jit
def load_taps(table_ptr, stride, rows, total, VOLUME: tl.constexpr, TAPS: tl.constexpr):
    """All taps of some rows, int32 `[TAPS, rows]`, -1 for none and beyond `total`."""
    taps = tl.arange(0, TAPS)
    mask = (taps < VOLUME)[:, None] & (rows < whole_rows(total))[None, :]
    return tl.load(table_ptr + taps.to(tl.int64)[:, None] * stride + rows[None, :], mask=mask, other=-1)


@triton.jit
def count_fullest(
    table_ptr, stride, total_ptr, counts_ptr, VOLUME: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr
):
    """The most rules of one row of a table, for tables that were scattered."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    is_rule = load_taps(table_ptr, stride, rows, total, VOLUME, TAPS) >= 0
    tl.atomic_max(counts_ptr + VOLUME, tl.max(tl.sum(is_rule.to(tl.int32), axis=0), axis=0), sem="relaxed")


@triton.jit
def swap_ends(
    table_ptr, stride, total_ptr, swapped_ptr, swapped_stride,
    VOLUME: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Writes a table's rules the other way round into a table that holds -1."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    in_rows = load_taps(table_ptr, stride, rows, total, VOLUME, TAPS)
    place = tl.arange(0, TAPS).to(tl.int64)[:, None] * swapped_stride + in_rows
    tl.store(swapped_ptr + place, rows[None, :] + tl.zeros_like(in_rows), mask=in_rows >= 0)
