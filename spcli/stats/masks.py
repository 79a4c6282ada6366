"""Neighbour masks: the set of taps that feed an output row, and the work that tiles of rows make of them.

A GPU multiplies a tile of rows with a tap's weights when any of its rows has a rule there; the other rows are
multiplied with zeros. What it executes is therefore decided by which rows share a tile: rows in their natural order,
sorted by their masks as numbers (spconv v2), or sorted by their masks' places in the reflected Gray code, in which
neighbours differ in one tap. Cutting the taps in groups and sorting each on its own (mask splits) leaves less waste
and costs a partial sum a group.

A mask has bit k set where tap k has a rule. It is kept as 64-bit words, the lowest first: `[W, N]`, W = ceil(V / 64).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

TILE_ROWS = (16, 32, 64, 128)
SPLITS = (1, 2, 3, 4)
MOST_FREQUENT = 8
_WORD = 64


def row_masks(rows: NDArray[np.int32], pair_splits: NDArray[np.int64], count: int) -> Words:
    """The mask of each of `count` output rows, `[W, count]`.

    Args:
        rows: the output rows of all rules, `[L]`, by tap; a row comes once a tap at most.
        pair_splits: `[V + 1]`, where the rules of each tap begin.
        count: number of output rows.
    """
    splits = pair_splits.tolist()
    volume = len(splits) - 1
    masks = np.zeros((-(-volume // _WORD), count), np.uint64)
    for tap in range(volume):
        masks[tap // _WORD][rows[splits[tap] : splits[tap + 1]]] |= np.uint64(1 << tap % _WORD)
    return masks


def rules_histogram(rows: NDArray[np.int32], count: int) -> list[int]:
    """How many of `count` output rows have 0, 1, 2, ... rules, up to the most that any has; `[0]` without rows."""
    histogram: list[int] = np.bincount(np.bincount(rows, minlength=count), minlength=1).tolist()
    return histogram


def mask_histogram(masks: Words, most: int = MOST_FREQUENT) -> dict[str, Any]:
    """How many different masks there are, and the most frequent, the lower number first where they are equal.

    A kernel of 343 taps can have as many masks as rows, so only the first few are listed: `mask` is the number in
    hexadecimal, `outputs` how many rows have it.
    """
    words, counts = _distinct(masks)
    first = np.argsort(-counts, kind="stable")[:most]
    listed = [{"mask": hex(_number(words[:, i])), "outputs": int(counts[i])} for i in first]
    return {"distinct": len(counts), "most_frequent": listed}


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
    first, shift = divmod(low, _WORD)
    out = masks[first : (high - 1) // _WORD + 1] >> np.uint64(shift)
    if shift:
        above = masks[first + 1 : first + 1 + len(out)] << np.uint64(_WORD - shift)
        out[: len(above)] |= above
    out = out[: -(-(high - low) // _WORD)]
    if (high - low) % _WORD:
        out[-1] &= np.uint64((1 << (high - low) % _WORD) - 1)
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
    masks[:-1] ^= ranks[1:] << np.uint64(_WORD - 1)
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


def _distinct(masks: Words) -> tuple[Words, NDArray[np.int64]]:
    """The different masks in the order of their numbers, and how many rows have each."""
    ordered = _sorted(masks)
    new = np.ones(ordered.shape[1], bool)
    new[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    starts = np.flatnonzero(new)
    return ordered[:, starts], np.diff(starts, append=ordered.shape[1])


def _number(words: NDArray[np.uint64]) -> int:
    return sum(int(word) << _WORD * place for place, word in enumerate(words))
