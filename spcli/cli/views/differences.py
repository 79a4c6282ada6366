"""What differs between two sets of rulebooks, one difference after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from spcli.cli.views.render import CsvWriter, Record, json_line
from spcli.inspect.diff import Difference

SCHEMA = "spcli.rulebook_diff/1"


def difference_texts(differences: Iterable[Difference], form: str) -> Iterator[str]:
    """The text of each difference as it is found; of JSON one list."""
    if form == "json":
        started = False
        for difference in differences:
            yield (",\n" if started else "[") + json_line(_record(difference))
            started = True
        yield "]\n" if started else "[]\n"
        return
    csv = CsvWriter()
    for difference in differences:
        if form == "csv":
            yield csv.text([_flat(_record(difference))])
        else:
            yield (_line(difference) if form == "table" else json_line(_record(difference))) + "\n"


def counts_text(counts: Mapping[str, int]) -> str:
    """How many differences there are of each kind."""
    return ", ".join(f"{count} {what.replace('_', ' ')}{'s' if count > 1 else ''}" for what, count in counts.items())


def _record(difference: Difference) -> Record:
    name, a, b = difference.size or (None, None, None)
    return {
        "schema": SCHEMA,
        "only_in": difference.only_in,
        "key": difference.key,
        "what": difference.what,
        "tap": difference.tap,
        "offset": _listed(difference.offset),
        "in_site": _listed(difference.in_site),
        "out_site": _listed(difference.out_site),
        "size": name,
        "a": _listed(a),
        "b": _listed(b),
    }


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _flat(record: Record) -> Record:
    """Scalars for CSV: sites and sizes as `0,1,2` in one cell."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in record.items()
        if name != "schema"
    }


def _line(difference: Difference) -> str:
    """As `diff` writes: `<` is only in A, `>` only in B, `!` is in both and differs."""
    mark = {"a": "<", "b": ">", "both": "!"}[difference.only_in]
    start = f"{mark} {difference.key}: {difference.what.replace('_', ' ')}"
    sites = [",".join(map(str, site)) for site in (difference.in_site, difference.out_site) if site is not None]
    if difference.size:
        return f"{mark} {difference.key}: {difference.size[0]} is {difference.size[1]} and {difference.size[2]}"
    if difference.what == "rule" and difference.offset is not None:
        return f"{start} {' -> '.join(sites)} by tap {difference.tap} ({','.join(map(str, difference.offset))})"
    return f"{start} {''.join(sites)}".rstrip()
