"""Rules and hash tables as text, a chunk at a time: NDJSON, CSV or a table.

A network has hundreds of thousands of rules. The text of a tap, a count, a row and a site is made once and gathered
by every rule that has it, so a line costs a handful of copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spcli.cli.views.columns import Texts, as_bytes, joined, of_numbers, of_strings, to_the_right
from spcli.cli.views.render import json_line
from spcli.inspect import KeyedRulebook, RuleChunk, TableChunk

AXES = {1: "", 2: "yx", 3: "zyx"}
TABLE_SCHEMA = "spcli.hash_table/1"

Chunk = RuleChunk | TableChunk


class Style:
    """How a form writes rules and table entries; `dims` is the most axes a site has.

    CSV gives sites with fewer axes an empty cell for each that is missing, so that its columns stay the same.
    """

    def __init__(self, form: str, dims: int) -> None:
        self.form = form
        self.dims = dims
        self.axes = AXES[dims]

    def numbers(self, numbers: list[int] | tuple[int, ...], batch: bool) -> str:
        """Numbers an axis, after that of the batch where it is among them."""
        if self.form == "ndjson":
            return "[" + ", ".join(map(str, numbers)) + "]"
        missing = self.dims + batch - len(numbers) if self.form == "csv" else 0
        texts = [str(number) for number in numbers]
        return ",".join([*texts[:batch], *[""] * missing, *texts[batch:]])

    def sites(self, indices: NDArray[np.int32]) -> Texts:
        """The text of every site of `[N, 1 + D]`."""
        columns: list[str | Texts] = []
        batch, *axes = (of_numbers(column) for column in indices.T)
        missing = self.dims - len(axes) if self.form == "csv" else 0
        separator = ", " if self.form == "ndjson" else ","
        for axis in axes:
            columns += [separator, axis]
        start, end = ("[", "]") if self.form == "ndjson" else ("", "")
        return joined(start, batch, separator * missing, *columns, end)

    def key(self, key: str) -> str:
        """The key as this form writes words."""
        if self.form == "ndjson":
            return json_line(key)
        return '"' + key.replace('"', '""') + '"' if self.form == "csv" and set(key) & set(',"\n\r') else key


class Gathered:
    """The texts of one rulebook's taps, counts, rows and sites, each made when first asked for."""

    def __init__(self, keyed: KeyedRulebook, style: Style) -> None:
        self.keyed = keyed
        self._style = style
        self._texts: dict[object, Texts] = {}

    def _made(self, name: object, make: Callable[[], Texts]) -> Texts:
        if name not in self._texts:
            self._texts[name] = make()
        return self._texts[name]

    def taps(self, chunk: RuleChunk, make: Callable[[int, tuple[int, ...]], str], name: str = "start") -> Texts:
        """What `make(tap, offset)` gives for each rule; kept under `name`."""
        offsets = enumerate(self.keyed.rulebook.geometry.offsets())
        return self._made(name, lambda: of_strings([make(tap, offset) for tap, offset in offsets]))[chunk.taps]

    def counts(self, chunk: RuleChunk, width: int = 0) -> Texts:
        """Each rule's number within its tap."""
        most = int(np.diff(self.keyed.rulebook.pair_splits).max(initial=0))
        return self._numbers("counts", most, width)[chunk.counts]

    def rows(self, rows: NDArray[np.int32], width: int = 0) -> Texts:
        """Row numbers."""
        rulebook = self.keyed.rulebook
        return self._numbers("rows", max(len(rulebook.in_indices), len(rulebook.out_indices)), width)[rows]

    def _numbers(self, name: str, stop: int, width: int) -> Texts:
        return self._made((name, width), lambda: to_the_right(of_numbers(np.arange(stop)), width))

    def sites(self, indices: NDArray[np.int32], rows: NDArray[np.int32]) -> Texts:
        """The sites of `rows`; both ends of a submanifold rulebook are the same array, and its texts are made once."""
        return self._made(id(indices), lambda: self._style.sites(indices))[rows]

    def positions(self, indices: NDArray[np.int32], rows: NDArray[np.int32]) -> Texts:
        """The sites of `rows` as papers write them, without the batch where there is one scan."""
        columns = indices if self.keyed.rulebook.batch_size > 1 else indices[:, 1:]
        return self._made(("position", id(indices)), lambda: to_the_right(_position(columns), 16))[rows]


def _position(columns: NDArray[np.int32]) -> Texts:
    first, *others = (of_numbers(column) for column in columns.T)
    return joined("(", first, *(part for other in others for part in (",", other)), ")")


def rule_lines(chunks: Iterable[RuleChunk], style: Style) -> Iterator[bytes]:
    """Rules as text, a chunk at a time, after the header."""
    if style.form != "ndjson":
        yield _rule_header(style).encode()
    line = {"ndjson": _rule_json, "csv": _rule_csv, "table": _rule_table}[style.form]
    texts: Gathered | None = None
    for chunk in chunks:
        if texts is None or texts.keyed is not chunk.source:
            texts = Gathered(chunk.source, style)
        yield as_bytes(line(chunk, texts, style))


def _rule_header(style: Style) -> str:
    """The line above rules of CSV or a table."""
    if style.form == "table":
        columns = f"{'key':16} {'tap':>4} {'offset':>10} {'count':>7} {'in':>8} {'out':>8}"
        return f"{columns}  in site -> out site (batch, {', '.join(style.axes)})\n"
    sites = [f"{end}_{axis}" for end in ("in", "out") for axis in ("batch", *style.axes)]
    names = ["key", "tap", *(f"offset_{axis}" for axis in style.axes), "count", "in", "out", *sites]
    return ",".join(names) + "\n"


def _rule_json(chunk: RuleChunk, texts: Gathered, style: Style) -> Texts:
    rulebook, key = chunk.source.rulebook, style.key(chunk.source.key)
    return joined(
        texts.taps(chunk, lambda tap, offset: f'{{"key": {key}, "tap": {tap}, "offset": {list(offset)}, "count": '),
        texts.counts(chunk),
        ', "in": ',
        texts.rows(chunk.in_rows),
        ', "out": ',
        texts.rows(chunk.out_rows),
        ', "in_site": ',
        texts.sites(rulebook.in_indices, chunk.in_rows),
        ', "out_site": ',
        texts.sites(rulebook.out_indices, chunk.out_rows),
        "}\n",
    )


def _rule_csv(chunk: RuleChunk, texts: Gathered, style: Style) -> Texts:
    rulebook, key = chunk.source.rulebook, style.key(chunk.source.key)
    return joined(
        texts.taps(chunk, lambda tap, offset: f"{key},{tap},{style.numbers(offset, False)},"),
        texts.counts(chunk),
        ",",
        texts.rows(chunk.in_rows),
        ",",
        texts.rows(chunk.out_rows),
        ",",
        texts.sites(rulebook.in_indices, chunk.in_rows),
        ",",
        texts.sites(rulebook.out_indices, chunk.out_rows),
        "\n",
    )


def _rule_table(chunk: RuleChunk, texts: Gathered, style: Style) -> Texts:
    rulebook, key = chunk.source.rulebook, chunk.source.key
    return joined(
        texts.taps(chunk, lambda tap, offset: f"{key:16} {tap:4} {style.numbers(offset, False):>10} "),
        texts.counts(chunk, 7),
        " ",
        texts.rows(chunk.in_rows, 8),
        " ",
        texts.rows(chunk.out_rows, 8),
        "  ",
        texts.sites(rulebook.in_indices, chunk.in_rows),
        " -> ",
        texts.sites(rulebook.out_indices, chunk.out_rows),
        "\n",
    )


def hash_table_lines(chunks: Iterable[Chunk], style: Style) -> Iterator[bytes]:
    """The tables and rules of `hash_tables` as text, a chunk at a time; a table for people has headings."""
    if style.form == "csv":
        yield _table_header(style).encode()
    line = {"ndjson": _table_json, "csv": _table_csv, "table": _table_people}[style.form]
    texts: Gathered | None = None
    section = ""
    for chunk in chunks:
        name = chunk.table if isinstance(chunk, TableChunk) else "rulebook"
        if texts is None or texts.keyed is not chunk.source:
            texts = Gathered(chunk.source, style)
            section = ""
            if style.form == "table":
                yield _title(chunk.source).encode()
        if name != section and style.form == "table":
            yield _heading(chunk).encode()
        section = name
        yield as_bytes(line(chunk, texts, style))


def _table_header(style: Style) -> str:
    offsets = [f"offset_{axis}" for axis in style.axes]
    names = ["key", "table", "batch", *style.axes, "row", *offsets, "count", "v_in", "v_out", "operation"]
    return ",".join(names) + "\n"


def _operation(chunk: RuleChunk, texts: Gathered) -> list[str | Texts]:
    """What the rule stands for, after "out[": its output row, the weight of its offset, its input row."""
    middle = texts.taps(chunk, lambda _, offset: f"] += W[{','.join(map(str, offset))}] · in[", "operation")
    return [texts.rows(chunk.out_rows), middle, texts.rows(chunk.in_rows), "]"]


def _table_json(chunk: Chunk, texts: Gathered, style: Style) -> Texts:
    start = f'{{"schema": "{TABLE_SCHEMA}", "key": {style.key(chunk.source.key)}, "table": '
    if isinstance(chunk, TableChunk):
        sites = texts.sites(chunk.indices, chunk.rows.astype(np.int32))
        return joined(f'{start}"{chunk.table}", "site": ', sites, ', "row": ', of_numbers(chunk.rows), "}\n")
    start += '"rulebook", '
    return joined(
        texts.taps(chunk, lambda tap, offset: f'{start}"tap": {tap}, "offset": {list(offset)}, "count": '),
        texts.counts(chunk),
        ', "v_in": ',
        texts.rows(chunk.in_rows),
        ', "v_out": ',
        texts.rows(chunk.out_rows),
        ', "operation": "out[',
        *_operation(chunk, texts),
        '"}\n',
    )


def _table_csv(chunk: Chunk, texts: Gathered, style: Style) -> Texts:
    key = style.key(chunk.source.key)
    if isinstance(chunk, TableChunk):
        sites = texts.sites(chunk.indices, chunk.rows.astype(np.int32))
        return joined(f"{key},{chunk.table},", sites, ",", of_numbers(chunk.rows), "," * (style.dims + 4) + "\n")
    nothing = "," * (style.dims + 3)
    return joined(
        texts.taps(chunk, lambda tap, offset: f"{key},rulebook{nothing}{style.numbers(offset, False)},"),
        texts.counts(chunk),
        ",",
        texts.rows(chunk.in_rows),
        ",",
        texts.rows(chunk.out_rows),
        ',"out[',
        *_operation(chunk, texts),
        '"\n',
    )


def _title(keyed: KeyedRulebook) -> str:
    """What kind of convolution it is."""
    geometry = keyed.rulebook.geometry
    kind = "submanifold" if geometry.submanifold else "transposed" if geometry.transposed else "regular"
    sizes = (("kernel", geometry.kernel_size), ("stride", geometry.stride), ("padding", geometry.padding))
    told = ", ".join(f"{name} {' x '.join(map(str, size))}" for name, size in sizes)
    return f"{keyed.key}: {kind} convolution, {told}\n"


def _heading(chunk: Chunk) -> str:
    """The lines above a section of a table for people."""
    rulebook = chunk.source.rulebook
    if isinstance(chunk, RuleChunk):
        axes = ", ".join(AXES[rulebook.geometry.ndim])
        title = f"rulebook: {len(rulebook.in_rows)} rules, offset ({axes})"
        return f"\n{title}\n{'offset':>10} {'count':>7} {'v_in':>8} {'v_out':>8}  atomic operation\n"
    shape = rulebook.in_spatial_shape if chunk.table == "input" else rulebook.out_spatial_shape
    grid = " x ".join(map(str, shape))
    title = f"{chunk.table} hash table: {len(chunk.indices)} active sites of {grid}"
    position = f"({', '.join((*(['batch'] if rulebook.batch_size > 1 else []), *AXES[len(shape)]))})"
    return f"\n{title}\n{position:>16}  {'v_in' if chunk.table == 'input' else 'v_out'}\n"


def _table_people(chunk: Chunk, texts: Gathered, style: Style) -> Texts:
    if isinstance(chunk, TableChunk):
        positions = texts.positions(chunk.indices, chunk.rows.astype(np.int32))
        return joined(positions, "  ", of_numbers(chunk.rows), "\n")
    return joined(
        texts.taps(chunk, lambda tap, offset: f"{'(' + style.numbers(offset, False) + ')':>10} "),
        texts.counts(chunk, 7),
        " ",
        texts.rows(chunk.in_rows, 8),
        " ",
        texts.rows(chunk.out_rows, 8),
        "  out[",
        *_operation(chunk, texts),
        "\n",
    )
