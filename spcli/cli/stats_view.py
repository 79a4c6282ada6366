"""Statistics for people and spreadsheets."""

from __future__ import annotations

from typing import Any

from spcli.cli.render import amount, table
from spcli.errors import InputError

Stats = dict[str, Any]

HEADER = ("layer", "type", "sites in", "sites out", "out/in", "density", "pairs", "pairs/out", "MACs", "saved", "MB")


# What showing a file ends in whose values are not of the types that spcli writes.
DAMAGED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


def checked_text(stats: Stats, source: str) -> str:
    """`stats_text` of a file that anything may have written.

    Raises:
        InputError: a value is missing or of another type.
    """
    try:
        return stats_text(stats)
    except DAMAGED:
        raise InputError(f"{source}: its statistics are damaged; write them again with spcli run") from None


def stats_text(stats: Stats) -> str:
    """One scan's statistics, or the means of a summary over scans."""
    if "layers" not in stats or "totals" not in stats:
        return "no statistics"
    mean = _mean if stats.get("scans") is not None else _itself
    lines = ["1 scan" if stats["scans"] == 1 else f"{stats['scans']} scans, means"] if mean is _mean else []
    lines.append(_points_line(stats, mean))
    totals = {name: mean(value) for name, value in stats["totals"].items()}
    rows = [_row(layer, mean) for layer in stats["layers"]]
    saved = _percent(totals.get("mac_saving"))
    total = f"total: {amount(totals['macs'])}MACs of {amount(totals['dense_macs'])} dense ({saved} saved)"
    lines += ["", table(rows, HEADER), "", f"{total}, {amount(totals['parameters'])} parameters"]
    return "\n".join(lines)


def _itself(value: Any) -> Any:
    return value


def _mean(value: Any) -> Any:
    return value["mean"] if isinstance(value, dict) else value


def _points_line(stats: Stats, mean: Any) -> str:
    points = {name: mean(value) for name, value in (stats.get("points") or {}).items()}
    voxels = {name: mean(value) for name, value in stats["voxels"].items()}
    parts = [f"{points['read']:,.0f} points, {points['in_range']:,.0f} in range"] if points else []
    return "; ".join([*parts, f"{voxels['active']:,.0f} voxels, density {voxels['density'] or 0:.2e}"])


def _row(layer: Stats, mean: Any) -> tuple[Any, ...]:
    pairs, outputs = mean(layer["pairs"]), mean(layer["out_sites"])
    moved = mean(layer["bytes"]) if "bytes" in layer else None
    density = mean(layer["out_density"])
    return (
        layer["name"],
        layer["type"],
        round(mean(layer["in_sites"])),
        round(outputs),
        mean(layer["dilation_ratio"]),
        None if density is None else f"{density:.1e}",
        round(pairs),
        pairs / outputs if outputs else None,
        amount(mean(layer["macs"])),
        _percent(mean(layer["mac_saving"])),
        None if moved is None else round(moved / 1e6, 1),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def layer_rows(stats: Stats) -> list[Stats]:
    """A row a layer for CSV."""
    return [dict(layer) for layer in stats["layers"]]
