"""Text made from whole arrays is what formatting one value after another gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spcli.cli.views.columns import as_bytes, joined, of_numbers, of_strings, to_the_right

numbers = st.lists(st.one_of(st.integers(0, 12), st.integers(0, 2**62)), min_size=1, max_size=9)
words = st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5), min_size=1, max_size=9)


@given(numbers)
def test_numbers_are_decimal_without_leading_zeros(values):
    text = as_bytes(joined(of_numbers(np.array(values)), "\n")).decode()
    assert text == "".join(f"{value}\n" for value in values)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9))
def test_negative_numbers_keep_their_sign(values):
    text = as_bytes(joined(of_numbers(np.array(values, np.int32)), ";")).decode()
    assert text == "".join(f"{value};" for value in values)


@given(numbers, st.integers(0, 25))
def test_columns_are_as_wide_as_asked_and_never_cut(values, width):
    text = as_bytes(joined("<", to_the_right(of_numbers(np.array(values)), width), ">")).decode()
    assert text == "".join(f"<{value:>{width}}>" for value in values)


@given(words)
def test_words_stay_themselves(values):
    text = as_bytes(joined("[", of_strings(values), "]")).decode()
    assert text == "".join(f"[{value}]" for value in values)


def test_nothing_gives_nothing():
    assert as_bytes(joined("a", of_numbers(np.zeros(0, np.int32)), "b")) == b""
