"""Statistics as JSON, one layer a line so that two files compare well with `diff`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spcli.writers.atomic import write_text
from spcli.writers.npz import Target


def write_stats(target: Target, stats: Mapping[str, Any]) -> None:
    """Write a `spcli.stats/1` object to a path or an open stream.

    Raises:
        UsageError: the place cannot be written to.
    """
    text = stats_text(stats)
    if isinstance(target, str):
        write_text(target, text)
    else:
        target.write(text.encode())


def stats_text(stats: Mapping[str, Any]) -> str:
    """The object as JSON text."""
    import json

    def line(name: str, value: object) -> str:
        if isinstance(value, list) and value:
            items = ",\n  ".join(json.dumps(item, allow_nan=False) for item in value)
            return f"{json.dumps(name)}: [\n  {items}\n ]"
        return f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}"

    body = ",\n ".join(line(name, value) for name, value in stats.items())
    return f"{{\n {body}\n}}\n"
