"""Rules and hash tables as text, a chunk at a time: NDJSON, CSV or a table for people.

A network has hundreds of thousands of rules. The text of a tap, a count, a row and a site is made once for a rulebook
and picked by every rule that has it, so a line costs a handful of copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.cli.views.columns import Texts, as_bytes, joined, of_numbers, to_the_right
from spcli.cli.views.render import json_line
from spcli.inspect import KeyedRulebook, RuleChunk, TableChunk
from spcli.inspect.columns import AXES, RULE_COLUMNS, rule_kinds, tap_offsets

TABLE_SCHEMA = "spcli.hash_table/1"

# Tables for people: what stands before a column, and its width.
RULE_LAYOUT = {"key": ("", 16), "tap": (" ", 4), "offset": (" ", 10), "count": (" ", 7), "in": (" ", 8),
               "out": (" ", 8), "in_site": ("  ", 0), "out_site": (" -> ", 0)}  # fmt: skip
ENTRY_LAYOUT = {"site": ("", 16), "row": ("  ", 0)}
PAIR_LAYOUT = {"offset": ("", 10), "count": (" ", 7), "v_in": (" ", 8), "v_out": (" ", 8), "operation": ("  ", 0)}

Chunk = RuleChunk | TableChunk


class Picked(Struct, frozen=True):
    """A text for each line of a chunk: `texts[i]` where the chunk's array `by` has i."""

    by: str
    texts: Texts


Line = tuple[Picked, ...]

Pieces = Sequence[str | Picked]
"""What stands side by side; a string is the same in every line."""

Cells = Mapping[str, Pieces]
"""What stands in each column."""


class Style(Struct, frozen=True):
    """How a form writes rules and table entries; `dims` is the most axes a site has.

    CSV gives sites with fewer axes an empty cell for each that is missing, so that its columns stay the same.
    """

    form: str
    dims: int

    def text(self, values: NDArray[np.integer[Any]], batch: bool = False, bare: bool = True) -> Texts:
        """The number, offset, or site with its batch, in each row of `values`.

        `bare` leaves out the parentheses that papers put around the latter two.
        """
        if values.ndim == 1:
            return of_numbers(values)
        missing = "," * (self.dims + batch - values.shape[1] if self.form == "csv" else 0)
        first, *others = map(of_numbers, values.T)
        marks = ("[", "]") if self.form == "ndjson" else ("", "") if bare or self.form == "csv" else ("(", ")")
        between = ", " if self.form == "ndjson" else ","
        axes = (part for other in others for part in (between, other))
        return joined(marks[0], *((first, missing) if batch else (missing, first)), *axes, marks[1])

    def word(self, word: str) -> str:
        """A word, in quotes where this form needs them."""
        if self.form == "ndjson":
            return json_line(word)
        return '"' + word.replace('"', '""') + '"' if self.form == "csv" and set(word) & set(',"\n\r') else word


def rule_lines(chunks: Iterable[RuleChunk], style: Style) -> Iterator[bytes]:
    """Rules as text, a chunk at a time, after the header."""
    if style.form == "csv":
        yield (",".join(rule_kinds(style.dims)) + "\n").encode()
    elif style.form == "table":
        columns = f"{'key':16} {'tap':>4} {'offset':>10} {'count':>7} {'in':>8} {'out':>8}"
        yield f"{columns}  in site -> out site (batch, {', '.join(AXES[style.dims])})\n".encode()
    source: KeyedRulebook | None = None
    for chunk in chunks:
        if source is not chunk.source:
            source = chunk.source
            line = _rule_line(source, style)
        yield _text(line, chunk)


def _rule_line(keyed: KeyedRulebook, style: Style) -> Line:
    book = keyed.rulebook
    cells = {c.name: [Picked(c.by, style.text(c.values(book), c.batch))] for c in RULE_COLUMNS}
    return _line({"key": [style.word(keyed.key)], **cells}, style, RULE_LAYOUT)


def hash_table_lines(chunks: Iterable[Chunk], style: Style) -> Iterator[bytes]:
    """The tables and rules of `hash_tables` as text, a chunk at a time; a table for people has headings."""
    if style.form == "csv":
        axes = AXES[style.dims]
        numbers = ("row", *(f"offset_{axis}" for axis in axes), "count", "v_in", "v_out")
        yield (",".join(("key", "table", "batch", *axes, *numbers, "operation")) + "\n").encode()
    source: KeyedRulebook | None = None
    section = ""
    for chunk in chunks:
        name = chunk.table if isinstance(chunk, TableChunk) else "rulebook"
        if style.form == "table" and source is not chunk.source:
            yield _title(chunk.source).encode()
        if source is not chunk.source or name != section:
            source, section = chunk.source, name
            if style.form == "table":
                yield _heading(chunk).encode()
            line = _entry_line(chunk, style) if isinstance(chunk, TableChunk) else _pair_line(source, style)
        yield _text(line, chunk)


def _entry_line(chunk: TableChunk, style: Style) -> Line:
    """A site and its row; papers leave the batch out where there is one scan."""
    batch = style.form != "table" or chunk.source.rulebook.batch_size > 1
    sites = style.text(chunk.indices if batch else chunk.indices[:, 1:], batch, bare=False)
    cells = {"site": [Picked("rows", sites)], "row": [Picked("rows", of_numbers(np.arange(len(chunk.indices))))]}
    nothing: Cells = {"": ["," * (style.dims + 3)]} if style.form == "csv" else {}
    return _line({**_start(chunk.source, chunk.table, style), **cells, **nothing}, style, ENTRY_LAYOUT)


def _pair_line(keyed: KeyedRulebook, style: Style) -> Line:
    """A rule as papers draw it, and what it stands for: its output row, the weight of its offset, its input row."""
    book = keyed.rulebook
    tap, offset, count, v_in, v_out = (Picked(c.by, style.text(c.values(book), bare=False)) for c in RULE_COLUMNS[:5])
    weight = Picked("taps", Style("", book.geometry.ndim).text(tap_offsets(book)))
    quote = "" if style.form == "table" else '"'
    operation: Pieces = [f"{quote}out[", v_out, "] += W[", weight, "] · in[", v_in, f"]{quote}"]
    first: Cells = {"tap": [tap]} if style.form == "ndjson" else {"": ["," * (style.dims + 1)]}
    numbers: Cells = {"offset": [offset], "count": [count], "v_in": [v_in], "v_out": [v_out]}
    cells: Cells = {**_start(keyed, "rulebook", style), **first, **numbers, "operation": operation}
    return _line(cells, style, PAIR_LAYOUT)


def _start(keyed: KeyedRulebook, table: str, style: Style) -> Cells:
    schema: Cells = {"schema": [style.word(TABLE_SCHEMA)]} if style.form == "ndjson" else {}
    return {**schema, "key": [style.word(keyed.key)], "table": [style.word(table)]}


def _title(keyed: KeyedRulebook) -> str:
    """What kind of convolution it is."""
    geometry = keyed.rulebook.geometry
    kind = "submanifold" if geometry.submanifold else "transposed" if geometry.transposed else "regular"
    named = (("kernel", geometry.kernel_size), ("stride", geometry.stride), ("padding", geometry.padding))
    sizes = ", ".join(f"{name} {' x '.join(map(str, size))}" for name, size in named)
    return f"{keyed.key}: {kind} convolution, {sizes}\n"


def _heading(chunk: Chunk) -> str:
    """The lines above a section of a table for people."""
    book = chunk.source.rulebook
    if isinstance(chunk, RuleChunk):
        title = f"rulebook: {len(book.in_rows)} rules, offset ({', '.join(AXES[book.geometry.ndim])})"
        return f"\n{title}\n{'offset':>10} {'count':>7} {'v_in':>8} {'v_out':>8}  atomic operation\n"
    shape = book.in_spatial_shape if chunk.table == "input" else book.out_spatial_shape
    title = f"{chunk.table} hash table: {len(chunk.indices)} active sites of {' x '.join(map(str, shape))}"
    position = f"({', '.join((*(['batch'] if book.batch_size > 1 else []), *AXES[len(shape)]))})"
    return f"\n{title}\n{position:>16}  {'v_in' if chunk.table == 'input' else 'v_out'}\n"


def _line(cells: Cells, style: Style, layout: Mapping[str, tuple[str, int]]) -> Line:
    """The cells as this form has them: with names, with commas, or in the columns of `layout`."""
    if style.form == "ndjson":
        marks = ("{", *[", "] * (len(cells) - 1))
        named = ((f'{mark}"{name}": ', *pieces) for mark, (name, pieces) in zip(marks, cells.items(), strict=True))
        return _folded([*chain(*named), "}\n"])
    if style.form == "csv":
        return _folded([*chain(*((",", *pieces) for pieces in cells.values())), "\n"][1:])
    columns = ((gap, *(_aligned(piece, width) for piece in cells[name])) for name, (gap, width) in layout.items())
    return _folded([*chain(*columns), "\n"])


def _aligned(piece: str | Picked, width: int) -> str | Picked:
    return piece.ljust(width) if isinstance(piece, str) else Picked(piece.by, to_the_right(piece.texts, width))


def _folded(pieces: Pieces) -> Line:
    """As few pieces as can be: what the same array picks becomes one, strings go to what stands beside them."""
    groups: list[tuple[str, list[str | Texts]]] = []
    start = ""
    for piece in pieces:
        if isinstance(piece, str) and not groups:
            start += piece
        elif isinstance(piece, str):
            groups[-1][1].append(piece)
        elif groups and groups[-1][0] == piece.by:
            groups[-1][1].append(piece.texts)
        else:
            groups.append((piece.by, [piece.texts] if groups else [start, piece.texts]))
    return tuple(Picked(by, joined(*parts)) for by, parts in groups)


def _text(line: Line, chunk: Chunk) -> bytes:
    return as_bytes(joined(*(piece.texts.take(getattr(chunk, piece.by), axis=0) for piece in line)))
