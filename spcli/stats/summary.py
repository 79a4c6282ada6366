"""Many scans' statistics as one: how every number spreads over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from spcli.stats.layers import SUMMED

SUMMARY_SCHEMA = "spcli.stats_summary/1"
AVERAGED = (
    "in_sites",
    "out_sites",
    "in_density",
    "out_density",
    "dilation_ratio",
    "pairs",
    "macs",
    "mac_saving",
    "bytes",
    "flop_per_byte",
)
MEMORY_OF_LAYERS = ("feature_bytes", "weight_bytes", "rule_bytes", "table_bytes")
MEMORY = ("site_bytes", "weight_bytes", "rule_bytes", "table_bytes", "peak_feature_bytes", "peak_bytes")

Stats = dict[str, Any]


def summarize(stats: Sequence[Stats]) -> Stats:
    """Mean, minimum, median (`p50`), 95th percentile (`p95`) and maximum over scans of every voxel, layer, memory and
    total number (`spcli.stats_summary/1`).

    A percentile between two scans is interpolated, as numpy's is by default. Layers are matched by name, in the order
    of the first scan that has them. What statistics of earlier versions lack is not part of the spread.
    """
    names = list(dict.fromkeys(layer["name"] for one in stats for layer in one["layers"]))
    points = [one["points"] for one in stats if one["points"]]
    return {
        "schema": SUMMARY_SCHEMA,
        "scans": len(stats),
        "points": {name: _spread([one[name] for one in points]) for name in (points[0] if points else ())},
        "voxels": _spreads([one["voxels"] for one in stats], ("active", "density", "max_points_in_a_voxel")),
        "memory": _spreads([one.get("memory", {}) for one in stats], MEMORY),
        "layers": [_layer_summary(name, stats) for name in names],
        "totals": _spreads([one["totals"] for one in stats], (*SUMMED, "mac_saving")),
    }


def _layer_summary(name: str, stats: Sequence[Stats]) -> Stats:
    layers = [layer for one in stats for layer in one["layers"] if layer["name"] == name]
    same = {key: layers[0][key] for key in ("name", "type", "indice_key", "in_channels", "out_channels")}
    return {**same, "scans": len(layers), **_spreads(layers, AVERAGED), **_nested(layers)}


def _nested(layers: Sequence[Stats]) -> Stats:
    """The spreads of what lies one level down in a layer."""
    found: dict[str, Callable[[Stats], float | None]] = {
        "pairs_per_output": lambda layer: layer.get("pairs_per_output", {}).get("mean"),
        "distinct_masks": lambda layer: layer.get("masks", {}).get("distinct"),
    }
    spreads = {name: _spread([value(layer) for layer in layers]) for name, value in found.items()}
    return {**spreads, "memory": _spreads([layer.get("memory", {}) for layer in layers], MEMORY_OF_LAYERS)}


def _spreads(objects: Sequence[Stats], names: Sequence[str]) -> Stats:
    return {name: _spread([one.get(name) for one in objects]) for name in names}


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    mean = sum(known) / len(known)
    return {"mean": mean, "min": known[0], "p50": _at(known, 0.5), "p95": _at(known, 0.95), "max": known[-1]}


def _at(ordered: Sequence[float], share: float) -> float:
    """The value at `share` of the way through sorted values, interpolated between two."""
    below, between = divmod(share * (len(ordered) - 1), 1)
    low = ordered[int(below)]
    return low + (ordered[int(below) + 1] - low) * between if between else low
