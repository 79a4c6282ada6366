"""Rules as text, a chunk at a time: NDJSON, CSV or a table.

A network has hundreds of thousands of rules. The text of a site is made once a row and used by every rule that
touches it, so a line costs one formatted string.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.cli.render import json_line
from spcli.inspect import RuleChunk, TableChunk

AXES = {1: "", 2: "yx", 3: "zyx"}


class SiteTexts:
    """The texts of one table's sites by row, made when first asked for."""

    def __init__(self, indices: NDArray[np.int32], pattern: str) -> None:
        self._indices = indices
        self._pattern = pattern
        self._texts = np.empty(len(indices), object)
        self._made = np.zeros(len(indices), bool)

    def of(self, rows: NDArray[np.integer[Any]]) -> list[str]:
        """The text of each of `rows`."""
        wanted = np.zeros(len(self._made), bool)
        wanted[rows] = True
        missing = np.flatnonzero(wanted & ~self._made)
        if len(missing):
            pattern = self._pattern
            self._texts[missing] = [pattern % site for site in map(tuple, self._indices[missing].tolist())]
            self._made[missing] = True
        texts: list[str] = self._texts[rows].tolist()
        return texts


class Style:
    """How a form writes rules and table entries; `dims` is the most axes a site has.

    CSV gives sites with fewer axes an empty cell for each that is missing, so that its columns stay the same.
    """

    def __init__(self, form: str, dims: int) -> None:
        self.form = form
        self.dims = dims

    def site(self, dims: int) -> str:
        """The pattern of a site's text."""
        if self.form == "ndjson":
            return "[" + ", ".join(["%d"] * (1 + dims)) + "]"
        missing = self.dims - dims if self.form == "csv" else 0
        return "%d" + "," * missing + ",%d" * dims

    def start(self, key: str, tap: int, offset: tuple[int, ...]) -> str:
        """The beginning that all rules of a tap share."""
        if self.form == "ndjson":
            return f'{{"key": {json_line(key)}, "tap": {tap}, "offset": {list(offset)}, "count": '
        if self.form == "csv":
            return ",".join([key, str(tap), *[""] * (self.dims - len(offset)), *map(str, offset)]) + ","
        return f"{key:16} {tap:4} {','.join(map(str, offset)):>10} "

    @property
    def rule(self) -> str:
        """The pattern of a rule: beginning, count, rows, sites."""
        return {
            "ndjson": '%s%d, "in": %d, "out": %d, "in_site": %s, "out_site": %s}\n',
            "csv": "%s%d,%d,%d,%s,%s\n",
            "table": "%s%7d %8d %8d  %s -> %s\n",
        }[self.form]

    @property
    def entry(self) -> str:
        """The pattern of a table's entry: key, table, site, row."""
        return {
            "ndjson": '{"key": "%s", "table": "%s", "site": %s, "row": %d}\n',
            "csv": "%s,%s,%s,%d\n",
            "table": "%-16s %-6s  %s -> %d\n",
        }[self.form]

    def rule_header(self) -> str:
        """The line above rules; NDJSON has none."""
        axes = AXES[self.dims]
        if self.form == "table":
            columns = f"{'key':16} {'tap':>4} {'offset':>10} {'count':>7} {'in':>8} {'out':>8}"
            return f"{columns}  in site -> out site (batch, {', '.join(axes)})\n"
        sites = [f"{end}_{axis}" for end in ("in", "out") for axis in ("batch", *axes)]
        names = ["key", "tap", *(f"offset_{axis}" for axis in axes), "count", "in", "out", *sites]
        return ",".join(names) + "\n" if self.form == "csv" else ""

    def entry_header(self) -> str:
        """The line above table entries; NDJSON has none."""
        axes = ("batch", *AXES[self.dims])
        if self.form == "table":
            return f"{'key':16} {'table':6}  site ({', '.join(axes)}) -> row\n"
        return ",".join(["key", "table", *axes, "row"]) + "\n" if self.form == "csv" else ""


def rule_lines(chunks: Iterable[RuleChunk], style: Style) -> Iterator[str]:
    """Rules as text, a chunk at a time, after the header."""
    yield style.rule_header()
    tables: dict[int, SiteTexts] = {}
    starts: dict[str, list[str]] = {}
    pattern = style.rule
    for chunk in chunks:
        key, rulebook = chunk.source.key, chunk.source.rulebook
        if key not in starts:
            tables.clear()
            offsets = rulebook.geometry.offsets()
            starts[key] = [style.start(key, tap, offset) for tap, offset in enumerate(offsets)]
        columns = (
            map(starts[key].__getitem__, chunk.taps.tolist()),
            chunk.counts.tolist(),
            chunk.in_rows.tolist(),
            chunk.out_rows.tolist(),
            _texts(tables, rulebook.in_indices, style).of(chunk.in_rows),
            _texts(tables, rulebook.out_indices, style).of(chunk.out_rows),
        )
        yield "".join([pattern % values for values in zip(*columns, strict=True)])


def entry_lines(chunks: Iterable[TableChunk], style: Style) -> Iterator[str]:
    """Table entries as text, a chunk at a time, after the header."""
    yield style.entry_header()
    pattern = style.entry
    for chunk in chunks:
        texts = SiteTexts(chunk.indices, style.site(chunk.indices.shape[1] - 1)).of(chunk.rows)
        rows = zip(texts, chunk.rows.tolist(), strict=True)
        yield "".join([pattern % (chunk.key, chunk.table, site, row) for site, row in rows])


def _texts(tables: dict[int, SiteTexts], indices: NDArray[np.int32], style: Style) -> SiteTexts:
    """The texts of a table, kept while its rulebook is listed; both ends of a submanifold one are the same array."""
    if id(indices) not in tables:
        tables[id(indices)] = SiteTexts(indices, style.site(indices.shape[1] - 1))
    return tables[id(indices)]
