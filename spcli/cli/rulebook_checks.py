"""`spcli inspect-rulebook --verify` and `diff A B`: what holds, what differs, and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from spcli.errors import CheckFailed

if TYPE_CHECKING:
    from spcli.inspect import KeyedRulebook
    from spcli.inspect.diff import Difference
    from spcli.inspect.verify import Check

VERIFY_SCHEMA, DIFF_SCHEMA = "spcli.rulebook_verify/1", "spcli.rulebook_diff/1"


def verify_source(source: str, options: Mapping[str, Any], form: str) -> int:
    """Check every rulebook and print what was found.

    Raises:
        CheckFailed: something is broken; names the first rule or site.
    """
    from spcli.cli.rulebook_source import engine_for, read_rulebooks
    from spcli.cli.views.render import print_rows
    from spcli.inspect import choose
    from spcli.inspect.verify import verify_inverse, verify_rulebook

    books = choose(read_rulebooks(source, options, check=False), options["keys"])
    engine = engine_for(options)
    records, failed = [], []
    for keyed in books:
        checks = list(verify_rulebook(keyed.rulebook, keyed.key))
        if all(check.ok is not False for check in checks) and not keyed.rulebook.geometry.submanifold:
            checks.append(verify_inverse(keyed.rulebook, engine, keyed.key))
        records.append(_verified(keyed, checks))
        failed += [check for check in checks if check.ok is False]
    print_rows(records, form, _verify_table(records))
    if failed:
        first = failed[0]
        others = len(failed) - 1
        more = f"; {others} more check{' fails' if others == 1 else 's fail'}" if others else ""
        raise CheckFailed(f"{source}: {first.key}: {first.name}: {first.found}{more}; write the dump again")
    return 0


def _verified(keyed: KeyedRulebook, checks: Sequence[Check]) -> dict[str, Any]:
    """One rulebook's record: each check is true, false, or null where it does not apply or was not reached."""
    book = keyed.rulebook
    return {
        "schema": VERIFY_SCHEMA,
        "key": keyed.key,
        "ok": all(check.ok is not False for check in checks),
        "in_sites": len(book.in_indices),
        "out_sites": len(book.out_indices),
        "pairs": len(book.in_rows),
        "checks": {check.name.replace(" ", "_"): check.ok for check in checks},
        "found": [f"{check.name}: {check.found}" for check in checks if check.ok is False],
    }


def _verify_table(records: Sequence[Mapping[str, Any]]) -> str:
    from spcli.cli.views.render import table

    rows = [
        (
            record["key"],
            record["in_sites"],
            record["out_sites"],
            record["pairs"],
            sum(ok is True for ok in record["checks"].values()),
            "; ".join(record["found"]) or "ok",
        )
        for record in records
    ]
    return table(rows, ("key", "in_sites", "out_sites", "pairs", "checks", "found"))


def diff_sources(a: str, b: str, options: Mapping[str, Any], form: str) -> int:
    """Print what only one of two sources has; as with `diff`, nothing where they agree.

    Raises:
        CheckFailed: they differ; says in how much.
    """
    from spcli.cli.rulebook_source import read_rulebooks
    from spcli.inspect import choose
    from spcli.inspect.diff import diff_rulebooks

    sides = [
        {keyed.key: keyed.rulebook for keyed in choose(read_rulebooks(source, options), options["keys"])}
        for source in (a, b)
    ]
    counts: Counter[str] = Counter()
    _print_differences(_counted(diff_rulebooks(*sides), counts), form, options["limit"])
    if not counts:
        return 0
    told = ", ".join(f"{count} {what.replace('_', ' ')}{'s' if count > 1 else ''}" for what, count in counts.items())
    raise CheckFailed(f"{a} and {b} differ: {told}")


def _counted(differences: Iterable[Difference], counts: Counter[str]) -> Iterator[Difference]:
    for difference in differences:
        counts[difference.what] += 1
        yield difference


def _print_differences(differences: Iterator[Difference], form: str, limit: int | None) -> None:
    """Print the first `limit`, and look at the rest for their number."""
    from spcli.cli.views.render import CsvWriter, json_line, write_bytes

    shown = islice(differences, limit)
    csv, started = CsvWriter(), False
    for difference in shown:
        record = _record(difference)
        if form == "csv":
            text = csv.text([_flat(record)])
        elif form == "table":
            text = _line(difference) + "\n"
        else:
            text = json_line(record) + ("" if form == "json" else "\n")
        if form == "json":
            text = (",\n" if started else "[") + text
        write_bytes(text.encode())
        started = True
    if form == "json":
        write_bytes(b"]\n" if started else b"[]\n")
    for _ in differences:
        pass


def _record(difference: Difference) -> dict[str, Any]:
    name, a, b = difference.size or (None, None, None)
    return {
        "schema": DIFF_SCHEMA,
        "only_in": difference.only_in,
        "key": difference.key,
        "what": difference.what,
        "tap": difference.tap,
        "offset": None if difference.offset is None else list(difference.offset),
        "in_site": None if difference.in_site is None else list(difference.in_site),
        "out_site": None if difference.out_site is None else list(difference.out_site),
        "size": name,
        "a": list(a) if isinstance(a, tuple) else a,
        "b": list(b) if isinstance(b, tuple) else b,
    }


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
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
