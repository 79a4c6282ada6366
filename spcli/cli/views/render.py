"""One result, several renderings: JSON for programs, a table for people, CSV for spreadsheets. Prints data only."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spcli.cli.console import console

FORMATS = ("table", "json", "ndjson", "csv")

Record = Mapping[str, Any]
"""A JSON object that is printed."""


def default_format(form: str | None, otherwise: str = "ndjson") -> str:
    """The format to print: what was asked for, a table on a terminal, else `otherwise`."""
    if form is not None:
        return form
    return "table" if sys.stdout is not None and sys.stdout.isatty() else otherwise


def write_bytes(data: bytes) -> None:
    """Data to standard output, at once; a process started without one prints nothing."""
    if sys.stdout is None:
        return
    with console.above_bar():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def write_line(text: str) -> None:
    """Text and a newline to standard output, at once."""
    write_bytes((text + "\n").encode(errors="surrogateescape"))


def json_line(value: object) -> str:
    """Strict JSON on one line."""
    return json.dumps(value, allow_nan=False)


def json_text(value: object) -> str:
    """Strict JSON for people and programs: objects over several lines, lists of plain values on one."""
    return _indented(value, 0)


def _indented(value: object, depth: int) -> str:
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, Mapping) and value:
        items = [f"{inner}{json_line(str(key))}: {_indented(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{outer}}}"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return "[\n" + ",\n".join(f"{inner}{_indented(item, depth + 1)}" for item in value) + f"\n{outer}]"
    return json_line(value)


def flat(record: Record, prefix: str = "") -> dict[str, Any]:
    """The scalars of a record, nested keys joined by `_`; lists of sizes become `41x1600x1408`, others are left out."""
    out: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}_")
        elif not isinstance(value, list):
            out[f"{prefix}{key}"] = value
        elif all(isinstance(item, int) for item in value):
            out[f"{prefix}{key}"] = "x".join(map(str, value))
        elif all(isinstance(item, str) for item in value):
            out[f"{prefix}{key}"] = "; ".join(value)
    return out


class CsvWriter:
    """Rows of one table as CSV; the first row names the columns, and later rows may lack some of them."""

    def __init__(self, columns: Sequence[str] | None = None) -> None:
        self._columns = columns

    def text(self, rows: Iterable[Record]) -> str:
        """The rows as text, after the header where it was not given yet."""
        buffer = io.StringIO()
        for row in rows:
            if self._columns is None:
                self._columns = list(row)
                csv.writer(buffer, lineterminator="\n").writerow(self._columns)
            csv.writer(buffer, lineterminator="\n").writerow([_cell(row.get(name)) for name in self._columns])
        return buffer.getvalue()


def _cell(value: Any) -> Any:
    """Truth as JSON spells it; nothing for None."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Aligned columns: numbers to the right, words to the left."""
    texts = [[shown(cell) for cell in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in texts)]) for i, name in enumerate(header)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float) or row[i] is None for row in rows)
        for i in range(len(header))
    ]

    def line(cells: Sequence[str]) -> str:
        aligned = zip(cells, widths, right, strict=True)
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in aligned
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, texts)])


def shown(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " x ".join(str(item) for item in value)
    return str(value)


def amount(number: float) -> str:
    """A large number for people: `6.93 G`."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(number) >= 10**power:
            return f"{number / 10**power:.3g} {letter}"
    return f"{number:.3g}"


def print_one(value: Record, form: str, people: str) -> None:
    """One result: `people` is its table."""
    if form == "table":
        write_line(people)
    elif form == "csv":
        write_bytes(CsvWriter().text([flat(value)]).encode())
    else:
        write_line(json_text(value) if form == "json" else json_line(value))


def print_rows(rows: Sequence[Record], form: str, people: str) -> None:
    """A list of results: one JSON list, one line per result, or CSV; `people` is its table."""
    if form == "table":
        write_line(people)
    elif form == "json":
        write_line(json_text(list(rows)))
    elif form == "csv":
        write_bytes(CsvWriter().text(map(flat, rows)).encode())
    else:
        for row in rows:
            write_line(json_line(row))
