"""The compiled masks, between fences; what is made of them is tested with the statistics."""

from __future__ import annotations

import numpy as np
import pytest

from fences import Fences
from spcli.engines.cpu.library import address, library
from spcli.engines.masks import distinct_masks, row_masks


@pytest.mark.parametrize(("taps", "count"), [(1, 1), (27, 1000), (64, 50), (65, 50), (343, 17), (3, 0)])
def test_masks_have_the_bits_of_the_taps_and_stay_in_their_place(taps, count):
    rng = np.random.default_rng(taps)
    hits = rng.random((taps, count)) < 0.3
    taps_of, rows = np.nonzero(hits)
    splits = np.searchsorted(taps_of, np.arange(taps + 1))
    fences = Fences()
    masks = fences.room((-(-taps // 64), count), np.uint64)
    masks[...] = 0
    lent = fences.around(rows.astype(np.int32)), fences.around(splits.astype(np.int64))
    library().spcli_row_masks(*map(address, lent), taps, count, address(masks))
    fences.check()
    bits = np.unpackbits(np.ascontiguousarray(masks.T).view(np.uint8), axis=1, bitorder="little", count=taps)
    assert np.array_equal(bits.reshape(count, taps), hits.T)
    assert np.array_equal(row_masks(rows.astype(np.int32), splits, count), masks)


@pytest.mark.parametrize("words", [1, 2, 6])
def test_distinct_masks_come_in_the_order_they_are_seen_with_their_rows(words):
    kinds = np.random.default_rng(words).integers(0, 2**64, (words, 40), np.uint64)
    kinds[: words - 1] = 7  # alike in all but the last word
    which = np.random.default_rng(1).integers(0, 40, 500)
    found, counts = distinct_masks(kinds[:, which])
    _, first, expected = np.unique(which, return_index=True, return_counts=True)
    order = np.argsort(first)
    assert np.array_equal(found, kinds[:, which[np.sort(first)]])
    assert np.array_equal(counts, expected[order])


def test_distinct_masks_write_no_more_than_they_may():
    fences = Fences()
    masks = fences.around(np.arange(33, dtype=np.uint64)[None])
    rows, counts = fences.room((33,), np.int32), fences.room((33,), np.int64)
    assert library().spcli_distinct_masks(*map(address, (masks,)), 1, 33, address(rows), address(counts)) == 33
    fences.check()
    assert np.array_equal(rows, np.arange(33)) and np.array_equal(counts, np.ones(33))
