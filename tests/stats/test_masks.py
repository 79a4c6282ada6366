"""Neighbour masks and what tiles execute, against a definition with Python's sets and whole numbers."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from spcli.engines.masks import row_masks
from spcli.stats.masks import SPLITS, TILE_ROWS, executed_rules, histograms
from strategies import examples

VOLUMES = (1, 3, 4, 9, 27, 63, 64, 65, 125, 129, 343)


def numbers(masks: np.ndarray) -> list[int]:
    """Each row's mask as one whole number."""
    return [sum(int(word) << 64 * place for place, word in enumerate(row)) for row in masks.T]


def masks_of(values: list[int], volume: int) -> np.ndarray:
    """The masks that `row_masks` makes of the rules these numbers stand for."""
    taps = [[row for row, value in enumerate(values) if value >> tap & 1] for tap in range(volume)]
    rows = np.array([row for tap in taps for row in tap], np.int32)
    return row_masks(rows, np.cumsum([0, *map(len, taps)]), len(values))


def gray_codes(bits: int) -> list[int]:
    """The reflected Gray code of so many bits: that of one bit less, then its mirror image with the new bit set."""
    if bits == 0:
        return [0]
    shorter = gray_codes(bits - 1)
    return shorter + [1 << (bits - 1) | code for code in reversed(shorter)]


def gray_rank(mask: int) -> int:
    """The place of a mask in the reflected Gray code: every bit is the parity of itself and all above."""
    rank = 0
    while mask:
        rank ^= mask
        mask >>= 1
    return rank


def groups(values: list[int], volume: int, splits: int) -> list[list[int]]:
    """The values cut into groups of neighbouring bits."""
    parts = [part for part in np.array_split(np.arange(volume), splits) if len(part)]
    return [[value >> int(part[0]) & (1 << len(part)) - 1 for value in values] for part in parts]


def in_tiles(values: list[int], rows: int) -> int:
    """Rows times the taps that any row of their tile has."""
    tiles = [values[first : first + rows] for first in range(0, len(values), rows)]
    return sum(
        rows * len({tap for value in tile for tap in range(value.bit_length()) if value >> tap & 1}) for tile in tiles
    )


@st.composite
def tables(draw: DrawFn) -> tuple[list[int], int]:
    """Masks of up to 300 rows, many of them equal, and the number of taps."""
    volume = draw(st.sampled_from(VOLUMES))
    kinds = draw(st.lists(st.integers(0, (1 << volume) - 1), min_size=1, max_size=12))
    return draw(st.lists(st.sampled_from(kinds), max_size=300)), volume


def test_the_gray_rank_of_the_definition_is_the_place_in_the_code():
    codes = gray_codes(8)
    assert [gray_rank(code) for code in codes] == list(range(256))
    assert all((one ^ other).bit_count() == 1 for one, other in pairwise(codes))


def test_three_rows_by_hand():
    """Rows of taps {0, 2}, {1}, {0, 2} and none, of three taps: 5 rules, the mask 5 twice."""
    masks = masks_of([0b101, 0b010, 0b101, 0], 3)
    assert numbers(masks) == [5, 2, 5, 0]
    rules, by_mask = histograms(masks)
    assert rules == [1, 1, 2]
    assert by_mask == {
        "distinct": 3,
        "most_frequent": [{"mask": "0x5", "outputs": 2}, {"mask": "0x0", "outputs": 1}, {"mask": "0x2", "outputs": 1}],
    }


def test_tiles_by_hand():
    """32 rows with tap 0 and 32 with tap 1, in turns: natural tiles need both taps, sorted ones of 32 rows one each.

    Sorted and of 64 rows there is one tile with both; cut in two groups, each group still has a rule in it.
    """
    executed = executed_rules(masks_of([1, 2] * 32, 2), 2)
    assert executed["natural"] == [128, 128, 128, 256]
    assert executed["mask_sorted"][0] == executed["gray_sorted"][0] == [64, 64, 128, 256]
    assert executed["mask_sorted"][1] == [64, 64, 128, 256]


def test_a_tile_counts_with_all_its_rows():
    assert executed_rules(masks_of([1], 1), 1)["natural"] == list(TILE_ROWS)


def test_the_gray_order_puts_side_by_side_what_differs_in_one_tap():
    """Masks 1, 3, 2, 6 follow each other in the Gray code: tiles of 16 rows over pairs of 8 need 2 + 3 taps.

    As numbers the order is 1, 2, 3, 6: the second tile has {0, 1} and {1, 2}, 3 taps, the first {0} and {1}, 2.
    The masks 0b100 and 0b111 tell the two apart: sorted as numbers 3, 4, 5, 7 pair {0, 1}, {2}; by the code 3, 7, 5, 4.
    """
    values = [3] * 8 + [4] * 8 + [5] * 8 + [7] * 8
    executed = executed_rules(masks_of(values, 3), 3)
    assert executed["mask_sorted"][0][0] == 16 * 3 + 16 * 3
    assert executed["gray_sorted"][0][0] == 16 * 3 + 16 * 2


@pytest.mark.parametrize("volume", VOLUMES)
def test_no_rows_execute_nothing(volume):
    executed = executed_rules(masks_of([], volume), volume)
    assert executed["natural"] == [0] * 4
    assert executed["gray_sorted"] == executed["mask_sorted"] == [[0] * 4] * 4
    assert histograms(masks_of([], volume)) == ([0], {"distinct": 0, "most_frequent": []})


@examples(60)
@given(tables())
def test_executed_rules_are_those_of_the_definition(table):
    values, volume = table
    executed = executed_rules(masks_of(values, volume), volume)
    assert executed["natural"] == [in_tiles(values, rows) for rows in TILE_ROWS]
    for place, splits in enumerate(SPLITS):
        parts = groups(values, volume, splits)
        by_mask = [sum(in_tiles(sorted(part), rows) for part in parts) for rows in TILE_ROWS]
        by_gray = [sum(in_tiles(sorted(part, key=gray_rank), rows) for part in parts) for rows in TILE_ROWS]
        assert executed["mask_sorted"][place] == by_mask
        assert executed["gray_sorted"][place] == by_gray


@examples(60)
@given(tables(), st.integers(1, 9))
def test_histograms_are_those_of_the_definition(table, most):
    values, volume = table
    masks = masks_of(values, volume)
    assert numbers(masks) == values
    rules, by_mask = histograms(masks, most)
    counted = Counter(value.bit_count() for value in values)
    assert rules == [counted[number] for number in range(max(counted, default=0) + 1)]
    ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    assert by_mask["distinct"] == len(ranked)
    assert by_mask["most_frequent"] == [{"mask": hex(mask), "outputs": rows} for mask, rows in ranked[:most]]


@examples(40)
@given(tables())
def test_useful_rules_are_a_lower_bound_and_every_tap_an_upper_one(table):
    values, volume = table
    executed = executed_rules(masks_of(values, volume), volume)
    useful = sum(value.bit_count() for value in values)
    for order in (executed["natural"], *executed["mask_sorted"], *executed["gray_sorted"]):
        for rows, done in zip(TILE_ROWS, order, strict=True):
            assert useful <= done <= -(-len(values) // rows) * rows * volume
