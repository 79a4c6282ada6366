"""Fences: buffers that notice when compiled code reads or writes beside them.

An array handed to an engine is a view into the middle of a larger allocation whose margins hold NaN (integers: a
number no row or site can have). What is read from a margin poisons the result; what is written to one is seen by
`check`, which also sees writes to an array that was lent as an input. Views can begin on a 64-byte boundary, as the
engine's own buffers do, or deliberately off it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MARGIN = 512  # bytes on either side: eight cache lines, more than one wide load can skip
INTEGER_POISON = 0x7EADBEEF


class Fences:
    """Lends fenced arrays and checks them all.

    Args:
        misalign: bytes past a 64-byte boundary at which views begin; rounded down to whole elements.
    """

    def __init__(self, misalign: int = 0) -> None:
        self.misalign = misalign
        self._lent: list[tuple[np.ndarray, slice, bytes, bytes | None]] = []

    def around(self, array: np.ndarray) -> np.ndarray:
        """A fenced copy of an input: neither it nor its margins may change."""
        view = self._lend(array.shape, array.dtype, keep=array)
        return view

    def room(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """A fenced output full of poison: only the margins must not change."""
        return self._lend(shape, np.dtype(dtype), keep=None)

    def check(self) -> None:
        """Assert that no margin and no input was written to."""
        for buffer, inside, margins, content in self._lent:
            outside = np.delete(buffer, np.r_[inside])
            assert outside.tobytes() == margins, "a margin was written to"
            assert content is None or buffer[inside].tobytes() == content, "an input was written to"

    def _lend(self, shape: tuple[int, ...], dtype: np.dtype[Any], keep: np.ndarray | None) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        shift = self.misalign // dtype.itemsize * dtype.itemsize
        buffer = _poison(size + 2 * MARGIN + 128, dtype)
        start = MARGIN + (-(buffer.ctypes.data + MARGIN)) % 64 + shift
        inside = slice(start, start + size)
        view = buffer[inside].view(dtype).reshape(shape)
        if keep is not None:
            view[...] = keep
        margins = np.delete(buffer, np.r_[inside]).tobytes()
        self._lent.append((buffer, inside, margins, None if keep is None else buffer[inside].tobytes()))
        return view


def _poison(size: int, dtype: np.dtype[Any]) -> np.ndarray:
    """At least `size` bytes whose elements of `dtype` are all NaN or absurd; aligned to the element."""
    value = np.nan if dtype.kind == "f" else INTEGER_POISON % np.iinfo(dtype).max
    buffer = np.empty(size // dtype.itemsize + 1, dtype)
    buffer[:] = value
    return buffer.view(np.uint8)
