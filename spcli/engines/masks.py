"""Neighbour masks: which taps feed each output row. Computed on the host by the compiled library, for any engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcli.engines.cpu.library import address, library

Words = NDArray[np.uint64]

WORD = 64


def row_masks(rows: NDArray[np.int32], pair_splits: NDArray[np.int64], count: int) -> Words:
    """The mask of each of `count` output rows as 64-bit words, the lowest taps first: `[W, count]`, W = ceil(V / 64).

    Args:
        rows: the output rows of all rules, `[L]`, by tap.
        pair_splits: `[V + 1]`, where the rules of each tap begin.
        count: number of output rows.
    """
    rows, splits = np.ascontiguousarray(rows, np.int32), np.ascontiguousarray(pair_splits, np.int64)
    taps = len(splits) - 1
    masks = np.zeros((-(-taps // WORD), count), np.uint64)
    library().spcli_row_masks(address(rows), address(splits), taps, count, address(masks))
    return masks


def distinct_masks(masks: Words) -> tuple[Words, NDArray[np.int64]]:
    """The different masks of `[W, N]`, `[W, U]` in the order they are first seen, and how many rows have each.

    Raises:
        MemoryError: there is none left.
    """
    masks = np.ascontiguousarray(masks)
    words, count = masks.shape
    rows, counts = np.empty(count, np.int32), np.empty(count, np.int64)
    found = library().spcli_distinct_masks(address(masks), words, count, address(rows), address(counts))
    if found < 0:
        raise MemoryError("the CPU engine found no memory for its tables")
    return masks[:, rows[:found]], counts[:found]
