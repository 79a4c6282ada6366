"""What a convolution prepares for a map: an order of its rows, and the taps that each block of rows has."""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import whole_rows


@triton.jit(do_not_specialize=["volume"])
def order_rows(
    table_ptr, bits_ptr, total_ptr, order_ptr, table_stride, volume,
    WINDOW: tl.constexpr, CHUNK: tl.constexpr, COUNT: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Sorts each window of rows by the set of taps that they have; `bits_ptr` gives every tap its bit of the key.

    CHUNK taps are loaded at once: their latencies pass together. COUNT finds each row's place by counting the smaller
    keys: few steps over large blocks, as the interpreter likes it.
    """
    first = tl.program_id(0) * WINDOW
    live = tl.load(total_ptr) - first
    if live <= 0:
        return
    local = tl.arange(0, WINDOW)
    present = tl.zeros((WINDOW,), tl.int64)
    stride = table_stride.to(tl.int64) if LONG else table_stride
    for chunk in range(0, volume, CHUNK):
        taps = chunk + tl.arange(0, CHUNK)
        inside = (taps < volume)[:, None] & (local < whole_rows(live))[None, :]
        sources = tl.load(table_ptr + taps[:, None] * stride + (first + local)[None, :], mask=inside, other=-1)
        bits = tl.load(bits_ptr + taps, mask=taps < volume, other=0)
        present += tl.sum((sources >= 0).to(tl.int64) << bits[:, None], axis=0)
    # The row's place in the window makes keys differ, so that the order is one and the same every time.
    key = tl.where(local < live, present * WINDOW + local, 0x7FFFFFFFFFFFFFFF)
    if COUNT:
        place = tl.sum((key[None, :] < key[:, None]).to(tl.int32), axis=1)
        tl.store(order_ptr + first + place, first + local, mask=local < live)
    else:
        rows = first + (tl.sort(key) & (WINDOW - 1)).to(tl.int32)
        tl.store(order_ptr + first + local, rows, mask=local < live)


@triton.jit(do_not_specialize=["volume"])
def list_taps(
    table_ptr, order_ptr, total_ptr, taps_ptr, counts_ptr, table_stride, volume,
    ROWS: tl.constexpr, CHUNK: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Lists, in ascending order, the taps that at least one row of a block has."""
    tile = tl.program_id(0)
    place = tile * ROWS + tl.arange(0, ROWS)
    live = place < tl.load(total_ptr)
    if tile * ROWS >= tl.load(total_ptr):
        return
    rows = place if order_ptr is None else tl.load(order_ptr + place, mask=live, other=0)
    list_ptr = taps_ptr + tile.to(tl.int64) * volume
    count = 0
    stride = table_stride.to(tl.int64) if LONG else table_stride
    for first in range(0, volume, CHUNK):
        taps = first + tl.arange(0, CHUNK)
        inside = (taps < volume)[:, None] & live[None, :]
        sources = tl.load(table_ptr + taps[:, None] * stride + rows[None, :], mask=inside, other=-1)
        present = (tl.max(sources, axis=1) >= 0).to(tl.int32)
        tl.store(list_ptr + count + tl.cumsum(present, axis=0) - present, taps, mask=present > 0)
        count += tl.sum(present, axis=0)
    tl.store(counts_ptr + tile, count)
