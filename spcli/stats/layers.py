"""Sparsity and cost of a run: what was active, what it was multiplied with, what a dense network would have done."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spcli.engines.masks import Words, row_masks
from spcli.grid import ScanCounts
from spcli.program import reads
from spcli.stats.masks import SPLITS, TILE_ROWS, executed_rules, histograms
from spcli.stats.memory import FLOAT_BYTES, RULE_BYTES, frame_memory

if TYPE_CHECKING:
    from spcli.engines.base import Frame
    from spcli.network import LayerInfo, Network

SCHEMA = "spcli.stats/1"
POINT_COUNTS = ("read", "in_range", "nonfinite", "out_of_range", "over_max_points", "over_max_voxels")
SUMMED = ("pairs", "macs", "dense_macs", "parameters", "bytes")

Stats = dict[str, Any]


def scan_stats(
    network: Network, frame: Frame, scan: ScanCounts | None = None, batch_size: int = 1, executed: bool = False
) -> Stats:
    """The `spcli.stats/1` object of one scan, as docs/statistics.md lists it.

    A ratio whose denominator is 0 is None. A Linear layer counts one pair a site (its kernel volume is 1) but stores
    no rule. `bytes` is what a layer must move if nothing stays in a cache: features in (every
    input's, and a residual's) and out and the `weight` array at 4 bytes a value, rules at 8 bytes each. What bias and
    norm come to, a scale and a shift a channel, is not counted.

    Args:
        network: the network that ran, with every channel and shape known.
        frame: what it gave, with `counts`. The histograms of rules and masks, and the most pairs of an inverse
            layer's output, are in its rules alone: a layer whose rules it lacks has the former left out and the
            latter None.
        scan: where the points went, for an input that was a tensor; a scan's own counts come with the frame.
        batch_size: scans in the input.
        executed: also count what tiles of rows would multiply (`executed_macs`), for layers whose rules are there.
    """
    counts = frame.scan or scan
    rules = _Rules(frame)
    memory = frame_memory(network, frame, batch_size)
    layers = [
        {**_layer_stats(layer, network, frame, batch_size), **_rule_stats(layer, rules, executed), "memory": of_layer}
        for layer, of_layer in zip(network.layers, memory.layers, strict=True)
    ]
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
        "memory": memory.totals,
        **({"tiles": {"rows": list(TILE_ROWS), "splits": list(SPLITS)}} if executed else {}),
        "layers": layers,
        "totals": _totals(layers),
    }


def point_counts(counts: ScanCounts) -> dict[str, int]:
    """Where the points of a scan went, by the names that docs/statistics.md gives."""
    return {name: getattr(counts.points, name) for name in POINT_COUNTS}


def _layer_stats(layer: LayerInfo, network: Network, frame: Frame, batch_size: int) -> Stats:
    in_sites, out_sites = frame.sites[layer.in_sites], frame.sites[layer.out_sites]
    in_shape, out_shape = frame.shapes[layer.in_sites], frame.shapes[layer.out_sites]
    pairs_per_offset = layer_pairs(layer, frame)
    pairs, products = sum(pairs_per_offset), _products(layer)
    weight = prod(layer.parameters.get(f"{layer.name}.weight", (0,)))
    dense_macs = batch_size * prod(out_shape) * layer.kernel_volume * products
    rules = pairs if layer.key else 0
    read = _values_read(layer, network, frame)
    moved = FLOAT_BYTES * (read + out_sites * layer.out_channels + weight) + RULE_BYTES * rules
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
        "bytes": moved,
        "flop_per_byte": _ratio(2 * pairs * products, moved),
    }


def _products(layer: LayerInfo) -> int:
    """Multiply-adds a pair."""
    return layer.in_channels * layer.out_channels if f"{layer.name}.weight" in layer.parameters else 0


class _Rules:
    """What the rules of a frame say of output rows, worked out once for the layers that share them."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._masks: dict[tuple[str, bool], Words] = {}
        self._histograms: dict[tuple[str, bool], tuple[list[int], Stats]] = {}
        self._executed: dict[tuple[str, bool], Stats] = {}

    def know(self, layer: LayerInfo) -> bool:
        """Whether the frame has the layer's rules, where it has a key."""
        return layer.key is None or layer.key in self._frame.rulebooks

    def histograms(self, layer: LayerInfo) -> tuple[list[int], Stats]:
        """Output rows by their number of rules, and by their masks."""
        place = _place(layer)
        if place not in self._histograms:
            self._histograms[place] = histograms(self._masks_of(layer))
        return self._histograms[place]

    def executed(self, layer: LayerInfo) -> Stats:
        """What tiles multiply, in rows times taps."""
        place = _place(layer)
        if place not in self._executed:
            self._executed[place] = executed_rules(self._masks_of(layer), layer.kernel_volume)
        return self._executed[place]

    def _masks_of(self, layer: LayerInfo) -> Words:
        place, outputs = _place(layer), self._frame.sites[layer.out_sites]
        if layer.key is None:
            return np.full((1, outputs), bool(_products(layer)), np.uint64)
        if place not in self._masks:
            book = self._frame.rulebooks[layer.key]
            self._masks[place] = row_masks(book.in_rows if layer.inverse else book.out_rows, book.pair_splits, outputs)
        return self._masks[place]


def _place(layer: LayerInfo) -> tuple[str, bool]:
    """The rulebook a layer uses and from which end; a layer without one stands for itself."""
    return (f"layer {layer.name}" if layer.key is None else layer.key, layer.inverse)


def _rule_stats(layer: LayerInfo, rules: _Rules, executed: bool) -> Stats:
    """What only the rules show."""
    if not rules.know(layer):
        return {}
    histogram, masks = rules.histograms(layer)
    stats = {"pairs_per_output_histogram": histogram, "masks": masks}
    return {**stats, "executed_macs": _times(rules.executed(layer), _products(layer))} if executed else stats


def _times(value: Any, factor: int) -> Any:
    """Every number in nested lists and objects times `factor`."""
    if isinstance(value, dict):
        return {key: _times(item, factor) for key, item in value.items()}
    return [_times(item, factor) for item in value] if isinstance(value, list) else value * factor


def _values_read(layer: LayerInfo, network: Network, frame: Frame) -> int:
    """Feature values a layer reads of other layers: every input as often as it is named, and a residual."""
    program = network.program
    makers = {op.output: op for op in program.value_ops}
    outside = {0, *program.layers.values()}
    total, inside = 0, [program.layers[layer.name]]
    while inside:
        for slot in (read.value for read in reads(makers[inside.pop()])):
            if slot in outside:
                total += frame.sites[program.values[slot].sites] * program.values[slot].channels
            else:
                inside.append(slot)
    return total


def layer_pairs(layer: LayerInfo, frame: Frame) -> tuple[int, ...]:
    """The pairs a layer multiplies, by tap; a Linear layer has one per site, a layer without weights or window none."""
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
    all_executed = [layer["executed_macs"] for layer in layers if "executed_macs" in layer]
    saving = {"mac_saving": _saving(totals["macs"], totals["dense_macs"])}
    added = {"executed_macs": _added(all_executed)} if all_executed else {}
    return {"layers": len(layers), **totals, **saving, **added}


def _added(values: Sequence[Any]) -> Any:
    """The sums of numbers that stand at the same place in nested lists and objects."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _added([value[key] for value in values]) for key in first}
    return [_added(items) for items in zip(*values, strict=True)] if isinstance(first, list) else sum(values)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _saving(macs: int, dense_macs: int) -> float | None:
    return 1 - macs / dense_macs if dense_macs else None
