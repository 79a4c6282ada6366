"""The columns of rules: the name of each, and where a rule's value stands. One table for every form of output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.inspect.query import RuleChunk
from spcli.rulebook import Rulebook

AXES = {1: "x", 2: "yx", 3: "zyx"}
"""The names of a site's axes, by their number."""


class RuleColumn(Struct, frozen=True):
    """One column of rules.

    Attributes:
        name: as in JSON.
        by: the array of a `RuleChunk` that picks each rule's value.
        values: what is picked from: `[M]` numbers, or `[M, D]` offsets, `[M, 1 + D]` sites.
        before: what CSV and Parquet write before the axis of each of several numbers: `in` makes `in_batch, in_z, ...`.
    """

    name: str
    by: str
    values: Callable[[Rulebook], NDArray[np.integer[Any]]]
    before: str = ""

    @property
    def batch(self) -> bool:
        """Whether the first of several numbers is the scan in the batch."""
        return self.before in ("in", "out")

    def scalars(self, dims: int) -> list[str]:
        """The names of the single numbers, for sites of `dims` axes."""
        axes = ["batch", *AXES[dims]] if self.batch else [*AXES[dims]]
        return [f"{self.before}_{axis}" for axis in axes] if self.before else [self.name]


def tap_offsets(book: Rulebook) -> NDArray[np.int64]:
    """The centred offset `[V, D]` of every tap."""
    return np.array(book.geometry.offsets(), np.int64)


RULE_COLUMNS = (
    RuleColumn("tap", "taps", lambda book: np.arange(book.geometry.volume)),
    RuleColumn("offset", "taps", tap_offsets, "offset"),
    RuleColumn("count", "counts", lambda book: np.arange(np.diff(book.pair_splits).max(initial=0))),
    RuleColumn("in", "in_rows", lambda book: np.arange(len(book.in_indices))),
    RuleColumn("out", "out_rows", lambda book: np.arange(len(book.out_indices))),
    RuleColumn("in_site", "in_rows", lambda book: book.in_indices, "in"),
    RuleColumn("out_site", "out_rows", lambda book: book.out_indices, "out"),
)
"""All columns but the first, the key of the rulebook, in order."""


def rule_kinds(dims: int) -> dict[str, type]:
    """The columns of rules in CSV and Parquet, for sites of at most `dims` axes."""
    return {"key": str, **{name: int for column in RULE_COLUMNS for name in column.scalars(dims)}}


def rule_columns(chunk: RuleChunk, dims: int) -> dict[str, Any]:
    """A chunk as those columns: arrays `[n]`, the key, and None for an axis that its sites lack."""
    book = chunk.source.rulebook
    columns: dict[str, Any] = dict.fromkeys(rule_kinds(dims)) | {"key": chunk.source.key}
    for column in RULE_COLUMNS:
        values = column.values(book)[getattr(chunk, column.by)]
        names = column.scalars(book.geometry.ndim)
        columns |= dict(zip(names, values.T if column.before else (values,), strict=True))
    return columns
