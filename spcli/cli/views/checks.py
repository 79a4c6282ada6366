"""Which invariants of rulebooks hold."""

from __future__ import annotations

from collections.abc import Sequence

from spcli.cli.views.render import Record, table
from spcli.inspect import KeyedRulebook
from spcli.inspect.verify import Check

SCHEMA = "spcli.rulebook_verify/1"


def checks_record(keyed: KeyedRulebook, checks: Sequence[Check]) -> Record:
    """One rulebook's record: each check is true, false, or null where it does not apply or was not reached."""
    book = keyed.rulebook
    return {
        "schema": SCHEMA,
        "key": keyed.key,
        "ok": all(check.ok is not False for check in checks),
        "in_sites": len(book.in_indices),
        "out_sites": len(book.out_indices),
        "pairs": len(book.in_rows),
        "checks": {check.name.replace(" ", "_"): check.ok for check in checks},
        "found": [f"{check.name}: {check.found}" for check in checks if check.ok is False],
    }


def checks_table(records: Sequence[Record]) -> str:
    """One row per rulebook: its sizes, how many checks hold, and what breaks the others."""
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


def failures_text(failed: Sequence[Check]) -> str:
    """The first check that fails, and how many more there are."""
    first, others = failed[0], len(failed) - 1
    more = f"; {others} more check{' fails' if others == 1 else 's fail'}" if others else ""
    return f"{first.key}: {first.name}: {first.found}{more}"
