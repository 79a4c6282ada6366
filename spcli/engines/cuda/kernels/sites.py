"""Where a site stands among the active ones: a bitmap with the rank of each word, or sorted keys.

The bitmap has one bit a cell in int64 words along x, word number `((b * Z + z) * Y + y) * ceil(X / 64) + x // 64`, and
for each word that is not 0 the row of its first site: a site's row is that plus the bits below its own. A key is the
cell's number in raster order, int64.
"""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import popcount

NO_KEY = tl.constexpr(0x7FFFFFFFFFFFFFFF)  # greater than any site's


@triton.jit
def site_of(indices_ptr, rows, here, NDIM: tl.constexpr, FLAT: tl.constexpr):
    """(batch, z, y, x) of rows, int32; z is 0 in a plane, and for all rows where sites are looked at from above."""
    first = indices_ptr + rows.to(tl.int64) * (1 + NDIM)
    if NDIM == 3:
        # The four numbers of a row in one load of 16 bytes.
        numbers = tl.load(first[:, None] + tl.arange(0, 4)[None, :], mask=here[:, None], other=0)
        even, odd = tl.split(tl.reshape(numbers, (numbers.shape[0], 2, 2)))
        batch, y = tl.split(even)
        z, x = tl.split(odd)
        return batch, tl.zeros_like(z) if FLAT else z, y, x
    batch = tl.load(first, mask=here, other=0)
    y = tl.load(first + NDIM - 1, mask=here, other=0)
    x = tl.load(first + NDIM, mask=here, other=0)
    return batch, tl.zeros_like(y), y, x


@triton.jit
def key_of(batch, z, y, x, shape_ptr):
    """A cell's number in raster order, int64."""
    depth = tl.load(shape_ptr).to(tl.int64)
    height = tl.load(shape_ptr + 1).to(tl.int64)
    width = tl.load(shape_ptr + 2).to(tl.int64)
    return ((batch * depth + z) * height + y) * width + x


@triton.jit
def load_key(keys_ptr, rows, here):
    """The key of each row; greater than any site's where not `here`."""
    return tl.load(keys_ptr + rows, mask=here, other=NO_KEY)


@triton.jit
def lower_bound(keys_ptr, total, key, here, steps):
    """Number of rows whose keys are smaller, int32; `2 ** steps` is greater than the number of rows."""
    rows = tl.zeros_like(key).to(tl.int32)
    for step in range(steps):
        probe = rows + (1 << (steps - 1 - step))
        inside = here & (probe <= total)
        smaller = load_key(keys_ptr, probe - 1, inside) < key
        rows = tl.where(inside & smaller, probe, rows)
    return rows


@triton.jit
def word_of(batch, z, y, x, shape_ptr):
    """Number of the word that holds a cell, int32."""
    depth, height, width = tl.load(shape_ptr), tl.load(shape_ptr + 1), tl.load(shape_ptr + 2)
    return ((batch * depth + z) * height + y) * ((width + 63) >> 6) + (x >> 6)


@triton.jit
def rank_in(word, base, x):
    """Whether the bit of cell x is set in its word, and the row it then has."""
    bit = (x & 63).to(tl.int64)
    return ((word >> bit) & 1) != 0, base + popcount(word & ((tl.full([], 1, tl.int64) << bit) - 1))


@triton.jit
def fill_bitmap(indices_ptr, total_ptr, shape_ptr, words_ptr, base_ptr, NDIM: tl.constexpr, ROWS: tl.constexpr):
    """Enters sites in a cleared bitmap. The first site of a word gives the word's base: rows are in raster order."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    here = rows < total
    batch, z, y, x = site_of(indices_ptr, rows, here, NDIM, False)
    word = word_of(batch, z, y, x, shape_ptr)
    batch, z, y, before = site_of(indices_ptr, rows - 1, here & (rows > 0), NDIM, False)
    is_first = (rows == 0) | (word != word_of(batch, z, y, before, shape_ptr))
    bit = tl.full([ROWS], 1, tl.int64) << (x & 63).to(tl.int64)
    tl.atomic_or(words_ptr + word, bit, mask=here, sem="relaxed")
    tl.store(base_ptr + word, rows, mask=here & is_first)


@triton.jit
def write_keys(indices_ptr, total_ptr, shape_ptr, keys_ptr, NDIM: tl.constexpr, ROWS: tl.constexpr):
    """The key of every site, in row order, which is their own."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.load(total_ptr)
    if tl.program_id(0) * ROWS >= total:
        return
    here = rows < total
    batch, z, y, x = site_of(indices_ptr, rows, here, NDIM, False)
    tl.store(keys_ptr + rows, key_of(batch, z, y, x, shape_ptr), mask=here)
