"""The fences notice what they are there for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fences import Fences


def beside(view: np.ndarray, elements: int) -> np.ndarray:
    """The view's memory with some elements more on either side."""
    flat = np.lib.stride_tricks.as_strided(view.reshape(-1)[:1], (view.size + elements,), view.strides[-1:])
    return flat


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("misalign", [0, 4, 36])
def test_views_begin_where_they_were_asked_to_and_hold_a_copy(dtype: Any, misalign: int) -> None:
    fences, array = Fences(misalign), np.arange(15, dtype=dtype).reshape(5, 3)
    view = fences.around(array)
    np.testing.assert_array_equal(view, array)
    assert view.ctypes.data % 64 == misalign // view.itemsize * view.itemsize
    assert view.flags.c_contiguous and view.dtype == dtype
    view_of_nothing = fences.around(np.zeros((0, 3), dtype))
    assert view_of_nothing.shape == (0, 3)
    fences.check()


def test_one_element_past_the_end_is_poison_and_writing_to_it_is_noticed() -> None:
    fences = Fences()
    view = fences.around(np.ones((4, 3), np.float32))
    past = beside(view, 1)
    assert np.isnan(past[-1])
    past[-1] = 0
    with pytest.raises(AssertionError, match="margin"):
        fences.check()


def test_one_integer_past_the_end_is_no_row_of_anything() -> None:
    view = Fences().around(np.ones((4, 3), np.int32))
    assert beside(view, 1)[-1] > 10**9


def test_writing_to_an_input_is_noticed() -> None:
    fences = Fences()
    fences.around(np.ones((4, 3), np.float32))[2, 1] = 7
    with pytest.raises(AssertionError, match="an input"):
        fences.check()


def test_an_output_starts_as_poison_and_may_be_written() -> None:
    fences = Fences(4)
    room = fences.room((4, 3))
    assert np.isnan(room).all()
    room[:] = 1
    fences.check()
