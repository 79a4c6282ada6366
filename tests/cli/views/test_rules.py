"""Rules and hash tables as text are what formatting one rule after another gives, in every form."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spcli.cli.views.rules import Style, hash_table_lines, rule_lines
from spcli.geometry import ConvGeometry
from spcli.inspect import KeyedRulebook, Query, hash_tables, rules
from spcli.rulebook import Rulebook


def keyed(key: str, dims: int) -> KeyedRulebook:
    """Three sites in two scans of a batch, and two taps of a kernel of 3 that have rules."""
    indices = np.array([[0, 0, 1, 2], [0, 11, 0, 3], [1, 2, 2, 4]], np.int32)[:, [0, *range(4 - dims, 4)]]
    splits = np.zeros(3**dims + 1, np.int64)
    splits[2:], splits[-1] = 2, 3
    in_rows, out_rows = np.array([0, 2, 1], np.int32), np.array([1, 0, 2], np.int32)
    size, one = (3,) * dims, (1,) * dims
    geometry = ConvGeometry(size, one, one, one, (0,) * dims)
    return KeyedRulebook(
        key, ("a",), Rulebook(geometry, indices, indices, in_rows, out_rows, splits, (12,) * dims, (12,) * dims, 2)
    )


BOOKS = (keyed("k", 3), keyed("flat", 2))


def expected() -> list[dict]:
    """Every rule of `BOOKS` as an object."""
    found = []
    for book in BOOKS:
        arrays = book.rulebook
        for rule in range(3):
            tap = 1 if rule < 2 else arrays.geometry.volume - 1
            found.append(
                {
                    "key": book.key,
                    "tap": tap,
                    "offset": list(arrays.geometry.offsets()[tap]),
                    "count": rule % 2,
                    "in": int(arrays.in_rows[rule]),
                    "out": int(arrays.out_rows[rule]),
                    "in_site": arrays.in_indices[arrays.in_rows[rule]].tolist(),
                    "out_site": arrays.out_indices[arrays.out_rows[rule]].tolist(),
                }
            )
    return found


def text(form: str, lines=rule_lines, chunks=rules, books=BOOKS) -> str:
    return b"".join(lines(chunks(books, Query()), Style(form, 3))).decode()


def commas(numbers: list[int], dims: int, batch: bool = False) -> str:
    """Numbers with an empty cell for each axis that is missing."""
    missing = dims + batch - len(numbers)
    return ",".join([*map(str, numbers[:batch]), *[""] * missing, *map(str, numbers[batch:])])


def test_ndjson_is_json_of_one_rule_after_another():
    assert text("ndjson") == "".join(json.dumps(rule) + "\n" for rule in expected())


def test_csv_has_empty_cells_for_the_axes_that_sites_lack():
    header, *lines = text("csv").splitlines()
    assert header.count(",") == 15
    assert lines == [
        f"{rule['key']},{rule['tap']},{commas(rule['offset'], 3)},{rule['count']},{rule['in']},{rule['out']},"
        f"{commas(rule['in_site'], 3, True)},{commas(rule['out_site'], 3, True)}"
        for rule in expected()
    ]


def test_a_table_aligns_what_comes_before_the_sites():
    header, *lines = text("table").splitlines()
    assert header.endswith("in site -> out site (batch, z, y, x)")
    assert lines == [
        f"{rule['key']:16} {rule['tap']:4} {','.join(map(str, rule['offset'])):>10} {rule['count']:7} {rule['in']:8} "
        f"{rule['out']:8}  {','.join(map(str, rule['in_site']))} -> {','.join(map(str, rule['out_site']))}"
        for rule in expected()
    ]


@pytest.mark.parametrize("key", ["plain", 'two "words", quoted', "line\nbreak", "größe"])
def test_a_key_of_a_foreign_dump_is_quoted_where_a_form_needs_it(key):
    import csv
    import io

    book = keyed(key, 3)
    assert {json.loads(line)["key"] for line in text("ndjson", books=[book]).splitlines()} == {key}
    for lines, chunks in ((rule_lines, rules), (hash_table_lines, hash_tables)):
        rows = list(csv.reader(io.StringIO(text("csv", lines, chunks, [book]))))
        assert {row[0] for row in rows[1:]} == {key}
        assert {len(row) for row in rows} == {len(rows[0])}


def test_hash_tables_say_the_same_in_every_form():
    objects = [json.loads(line) for line in text("ndjson", hash_table_lines, hash_tables).splitlines()]
    _, *rows = text("csv", hash_table_lines, hash_tables).splitlines()
    people = [
        line.split() for line in text("table", hash_table_lines, hash_tables).splitlines() if line.startswith(" ")
    ]
    people = [words for words in people if words[-1] not in ("v_in", "v_out", "operation")]
    assert len(objects) == len(rows) == len(people) == 2 * (3 + 3 + 3)
    for found, row, words in zip(objects, rows, people, strict=True):
        if found["table"] == "rulebook":
            numbers = [found["count"], found["v_in"], found["v_out"]]
            offset = found["offset"]
            assert found["operation"] == f"out[{numbers[2]}] += W[{','.join(map(str, offset))}] · in[{numbers[1]}]"
            start = f"{found['key']},rulebook,,,,,,{commas(offset, 3)},"
            assert row == f'{start}{",".join(map(str, numbers))},"{found["operation"]}"'
            assert words == [f"({','.join(map(str, offset))})", *map(str, numbers), *found["operation"].split()]
        else:
            assert row == f"{found['key']},{found['table']},{commas(found['site'], 3, True)},{found['row']},,,,,,,"
            assert words == [f"({','.join(map(str, found['site']))})", str(found["row"])]
