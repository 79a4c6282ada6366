"""Neighbour masks: the set of taps that feed an output row, and the work that tiles of rows make of them.

A GPU multiplies a tile of rows with a tap's weights when any of its rows has a rule there; the other rows are
multiplied with zeros. What it executes is therefore decided by which rows share a tile: rows in their natural order,
sorted by their masks as numbers (spconv v2), or sorted by their masks' places in the reflected Gray code, in which
neighbours differ in one tap. Cutting the taps in groups and sorting each on its own (mask splits) leaves less waste
and costs a partial sum a group.

A mask has bit k set where tap k has a rule; the masks of N rows are 64-bit words, the lowest first, `[W, N]`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.engines.masks import WORD, Words, distinct_masks

TILE_ROWS = (16, 32, 64, 128)
SPLITS = (1, 2, 3, 4)
MOST_FREQUENT = 8


def histograms(masks: Words, most: int = MOST_FREQUENT) -> tuple[list[int], dict[str, Any]]:
    """Output rows by their number of rules, and by their masks.

    The first is how many rows have 0, 1, 2, ... rules, up to the most that any has; `[0]` without rows. The second
    says how many different masks there are and lists the most frequent, the lower number first where they are equal:
    a kernel of 343 taps can have as many masks as rows. `mask` is the number in hexadecimal, `outputs` its rows.
    """
    words, counts = distinct_masks(masks)
    rules = np.bincount(_bit_counts(words).sum(axis=0).astype(np.int64), weights=counts, minlength=1)
    as_frequent = np.bincount(counts, minlength=1)[::-1].cumsum()[::-1]
    candidates = np.flatnonzero(counts >= np.flatnonzero(as_frequent >= min(most, len(counts)))[-1])
    first = candidates[np.lexsort((*words[:, candidates], -counts[candidates]))][:most]
    listed = [{"mask": hex(_number(words[:, i])), "outputs": int(counts[i])} for i in first]
    return rules.astype(np.int64).tolist(), {"distinct": len(counts), "most_frequent": listed}


def executed_rules(masks: Words, volume: int) -> dict[str, Any]:
    """Rows times taps that tiles multiply: the useful ones are the rules.

    `natural` has a number for each of `TILE_ROWS` (splits change nothing without sorting); `mask_sorted` and
    `gray_sorted` have such a list for each of `SPLITS`. A tile counts with all its rows, the last one too.
    """
    split = [_groups(masks, volume, splits) for splits in SPLITS]
    return {
        "natural": _in_tiles([masks]),
        "mask_sorted": [_in_tiles([_sorted(group) for group in groups]) for groups in split],
        "gray_sorted": [_in_tiles([_gray(_sorted(_rank(group))) for group in groups]) for groups in split],
    }


def _groups(masks: Words, volume: int, splits: int) -> list[Words]:
    """The masks of neighbouring groups of taps, as equal in size as can be, the larger ones first."""
    size, longer = divmod(volume, splits)
    ends = [group * size + min(group, longer) for group in range(splits + 1)]
    return [_bits(masks, low, high) for low, high in pairwise(ends) if low < high]


def _bits(masks: Words, low: int, high: int) -> Words:
    """Bits `low` to `high` of masks, as masks of their own."""
    first, shift = divmod(low, WORD)
    out = masks[first : (high - 1) // WORD + 1] >> np.uint64(shift)
    if shift:
        above = masks[first + 1 : first + 1 + len(out)] << np.uint64(WORD - shift)
        out[: len(above)] |= above
    out = out[: -(-(high - low) // WORD)]
    if (high - low) % WORD:
        out[-1] &= np.uint64((1 << (high - low) % WORD) - 1)
    return out


def _sorted(masks: Words) -> Words:
    """Masks in the order of their numbers."""
    if len(masks) == 1:
        return np.sort(masks, axis=1)
    return masks[:, np.lexsort(tuple(masks))]


def _rank(masks: Words) -> Words:
    """Each mask's place in the reflected Gray code: every bit becomes the parity of itself and all higher ones."""
    ranks = masks.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        ranks ^= ranks >> np.uint64(shift)
    for word in range(len(ranks) - 2, -1, -1):
        ranks[word] ^= np.uint64(0) - (ranks[word + 1] & np.uint64(1))
    return ranks


def _gray(ranks: Words) -> Words:
    """The masks at places of the reflected Gray code; undoes `_rank`."""
    masks = ranks ^ (ranks >> np.uint64(1))
    masks[:-1] ^= ranks[1:] << np.uint64(WORD - 1)
    return masks


def _in_tiles(groups: list[Words]) -> list[int]:
    """Rows times taps of tiles of each of `TILE_ROWS` rows in a row, over all groups of taps."""
    executed = dict.fromkeys(TILE_ROWS, 0)
    for tiles in groups:
        height = 1
        for rows in TILE_ROWS:
            if tiles.shape[1]:
                tiles = np.bitwise_or.reduceat(tiles, np.arange(0, tiles.shape[1], rows // height), axis=1)
            executed[rows] += rows * int(_bit_counts(tiles).sum())
            height = rows
    return list(executed.values())


def _bit_counts(words: Words) -> Words:
    """The number of bits set in each word, added up in pairs, fours, bytes."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x3333333333333333))
    eights: Words = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (eights * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _number(words: NDArray[np.uint64]) -> int:
    return sum(int(word) << WORD * place for place, word in enumerate(words))
