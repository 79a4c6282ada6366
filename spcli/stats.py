"""Sparsity and cost of a run: what was active, what it was multiplied with, what a dense network would have done.

Pure functions of a network and a frame; nothing here knows time, files or devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spcli.grid import ScanCounts
from spcli.program import Add

if TYPE_CHECKING:
    from spcli.engines.base import Frame
    from spcli.network import LayerInfo, Network

SCHEMA = "spcli.stats/1"
SUMMARY_SCHEMA = "spcli.stats_summary/1"
FLOAT_BYTES = 4
RULE_BYTES = 8
POINT_COUNTS = ("read", "in_range", "nonfinite", "out_of_range", "over_max_points", "over_max_voxels")
SUMMED = ("pairs", "macs", "dense_macs", "parameters", "bytes")
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
)

Stats = dict[str, Any]


def scan_stats(network: Network, frame: Frame, scan: ScanCounts | None = None, batch_size: int = 1) -> Stats:
    """The `spcli.stats/1` object of one scan, as CONTRACT section 4 lists it.

    A ratio whose denominator is 0 is None. A Linear layer counts one pair a site (its kernel volume is 1) but stores
    no rule. `bytes` is what a layer must move if nothing stays in a cache: features in (every
    input's, and a residual's) and out and the `weight` array at 4 bytes a value, rules at 8 bytes each. What bias and
    norm come to, a scale and a shift a channel, is not counted.

    Args:
        network: the network that ran, with every channel and shape known.
        frame: what it gave, with `counts`, and with rules where the network has inverse layers (the most
            pairs of one of their outputs is not among a rulebook's counts).
        scan: where the points went, for an input that was a tensor; a scan's own counts come with the frame.
        batch_size: scans in the input.
    """
    counts = frame.scan or scan
    layers = [_layer_stats(layer, network, frame, batch_size) for layer in network.layers]
    return {
        "schema": SCHEMA,
        "batch_size": batch_size,
        "spatial_shape": list(frame.shapes[0]),
        "points": point_counts(counts) if counts else None,
        "voxels": {
            "active": frame.sites[0],
            "density": _ratio(frame.sites[0], batch_size * prod(frame.shapes[0])),
            "max_points_in_a_voxel": counts.voxels.max_points_in_a_voxel if counts else None,
        },
        "layers": layers,
        "totals": _totals(layers),
    }


def point_counts(counts: ScanCounts) -> dict[str, int]:
    """Where the points of a scan went, by the names of CONTRACT section 4."""
    return {name: getattr(counts.points, name) for name in POINT_COUNTS}


def _layer_stats(layer: LayerInfo, network: Network, frame: Frame, batch_size: int) -> Stats:
    in_sites, out_sites = frame.sites[layer.in_sites], frame.sites[layer.out_sites]
    in_shape, out_shape = frame.shapes[layer.in_sites], frame.shapes[layer.out_sites]
    pairs_per_offset = layer_pairs(layer, frame)
    pairs = sum(pairs_per_offset)
    weight = prod(layer.parameters.get(f"{layer.name}.weight", (0,)))
    products = layer.in_channels * layer.out_channels if weight else 0
    dense_macs = batch_size * prod(out_shape) * layer.kernel_volume * products
    rules = pairs if layer.key else 0
    read = in_sites * layer.in_channels + _joined_values(layer, network, frame)
    return {
        "name": layer.name,
        "type": layer.type,
        "indice_key": layer.indice_key,
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "in_sites": in_sites,
        "out_sites": out_sites,
        "in_spatial_shape": list(in_shape),
        "out_spatial_shape": list(out_shape),
        "in_density": _ratio(in_sites, batch_size * prod(in_shape)),
        "out_density": _ratio(out_sites, batch_size * prod(out_shape)),
        "dilation_ratio": _ratio(out_sites, in_sites),
        "kernel_volume": layer.kernel_volume,
        "pairs": pairs,
        "pairs_per_offset": list(pairs_per_offset),
        "pairs_per_output": {"mean": _ratio(pairs, out_sites), "max": _most_per_output(layer, frame)},
        "macs": pairs * products,
        "dense_macs": dense_macs,
        "mac_saving": _saving(pairs * products, dense_macs),
        "parameters": sum(prod(s) for name, s in layer.parameters.items() if ".running_" not in name),
        "bytes": FLOAT_BYTES * (read + out_sites * layer.out_channels + weight) + RULE_BYTES * rules,
    }


def _joined_values(layer: LayerInfo, network: Network, frame: Frame) -> int:
    """Feature values a layer reads besides `in_channels` of every site: an Add's further inputs, a residual."""
    program = network.program
    last = next(op for op in reversed(program.value_ops) if op.output == program.layers[layer.name])
    others = last.inputs[1:] if isinstance(last, Add) else (getattr(last, "add", None),)
    return sum(frame.sites[layer.out_sites] * program.values[slot].channels for slot in others if slot is not None)


def layer_pairs(layer: LayerInfo, frame: Frame) -> tuple[int, ...]:
    """The pairs a layer multiplies, by tap; a Linear layer has one a site, a layer without weights or window none."""
    if layer.key is not None:
        return frame.counts[layer.key].pairs_per_offset
    return (frame.sites[layer.out_sites] if f"{layer.name}.weight" in layer.parameters else 0,)


def _most_per_output(layer: LayerInfo, frame: Frame) -> int | None:
    """The most pairs that end in one output row."""
    if layer.key is None:
        return min(1, *layer_pairs(layer, frame))
    if not layer.inverse:
        return frame.counts[layer.key].pairs_per_output_max
    rulebook = frame.rulebooks.get(layer.key)
    return None if rulebook is None else most_per_row(rulebook.in_rows)


def most_per_row(rows: NDArray[np.int32]) -> int:
    """How often the most frequent of `rows` `[L]` occurs."""
    return int(np.bincount(rows).max()) if len(rows) else 0


def _totals(layers: Sequence[Stats]) -> Stats:
    totals = {name: sum(layer[name] for layer in layers) for name in SUMMED}
    return {"layers": len(layers), **totals, "mac_saving": _saving(totals["macs"], totals["dense_macs"])}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _saving(macs: int, dense_macs: int) -> float | None:
    return 1 - macs / dense_macs if dense_macs else None


def summarize(stats: Sequence[Stats]) -> Stats:
    """Mean, minimum and maximum over scans of every voxel, layer and total number (`spcli.stats_summary/1`).

    Layers are matched by name, in the order of the first scan that has them.
    """
    names = list(dict.fromkeys(layer["name"] for one in stats for layer in one["layers"]))
    points = [one["points"] for one in stats if one["points"]]
    return {
        "schema": SUMMARY_SCHEMA,
        "scans": len(stats),
        "points": {name: _spread([one[name] for one in points]) for name in (points[0] if points else ())},
        "voxels": _spreads([one["voxels"] for one in stats], ("active", "density", "max_points_in_a_voxel")),
        "layers": [_layer_summary(name, stats) for name in names],
        "totals": _spreads([one["totals"] for one in stats], (*SUMMED, "mac_saving")),
    }


def _layer_summary(name: str, stats: Sequence[Stats]) -> Stats:
    layers = [layer for one in stats for layer in one["layers"] if layer["name"] == name]
    same = {key: layers[0][key] for key in ("name", "type", "indice_key", "in_channels", "out_channels")}
    return {**same, "scans": len(layers), **_spreads(layers, AVERAGED)}


def _spreads(objects: Sequence[Stats], names: Sequence[str]) -> Stats:
    return {name: _spread([one[name] for one in objects]) for name in names}


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": sum(known) / len(known), "min": min(known), "max": max(known)}
