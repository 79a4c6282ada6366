"""Many lines of text at once: a matrix of bytes with one line per row, where NUL stands for nothing.

Columns are made from whole arrays, joined side by side, and the NULs drop out at the end, so that a line costs a few
copies and no Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Texts = NDArray[np.uint8]
"""`[n, width]`, one text a row."""

ZERO, SPACE = ord("0"), ord(" ")


def of_numbers(values: NDArray[np.integer[Any]]) -> Texts:
    """Each number of `[n]` in decimal."""
    if not len(values):
        return np.zeros((0, 1), np.uint8)
    if int(values.min()) < 0:  # offsets, and sites of damaged files
        return of_strings([str(value) for value in values.tolist()])
    width = len(str(int(values.max())))
    rest: NDArray[np.integer[Any]] = values.astype(np.uint32 if int(values.max()) < 2**32 else np.uint64)
    texts = np.empty((len(values), width), np.uint8)
    for place in range(width - 1, -1, -1):
        tens = rest // 10
        texts[:, place] = rest - tens * 10 + ZERO
        rest = tens
    for place in range(width - 1):
        texts[values < 10 ** (width - 1 - place), place] = 0  # no leading zeros
    return texts


def of_strings(strings: Sequence[str]) -> Texts:
    """Each string in UTF-8."""
    encoded = [string.encode(errors="surrogateescape") for string in strings]
    width = max([1, *map(len, encoded)])
    return np.frombuffer(b"".join(text.ljust(width, b"\0") for text in encoded), np.uint8).reshape(-1, width)


def to_the_right(texts: Texts, width: int) -> Texts:
    """Texts in a column of `width`, spaces before them; longer ones stay as they are."""
    missing = width - np.count_nonzero(texts, axis=1)
    spaces = np.where(np.arange(width)[None, :] < missing[:, None], SPACE, 0).astype(np.uint8)
    return np.concatenate([spaces, texts], axis=1)


def joined(*parts: str | Texts) -> Texts:
    """Columns side by side; a string stands in every row."""
    count = next(len(part) for part in parts if not isinstance(part, str))
    columns = [
        np.broadcast_to(np.frombuffer(part.encode(), np.uint8), (count, len(part.encode())))
        if isinstance(part, str)
        else part
        for part in parts
    ]
    return np.concatenate(columns, axis=1)


def as_bytes(texts: Texts) -> bytes:
    """All rows, one after another."""
    return texts.tobytes().translate(None, b"\0")
