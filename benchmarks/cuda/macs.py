"""Counts the multiply-adds that a frame's convolutions execute on a card beside those that are useful; needs no card.

Prints a Markdown table with a row for each layer: output rows, pairs of rows that rules join, billions of useful and of
executed multiply-adds, their ratio, and how the layer is cut: rows x columns of a block, and how its rows are ordered.

    python -m benchmarks.cuda.macs --config second-kitti --scan FILE --dtype float16

A rule is useful work once for every input and every output channel. Executed are whole blocks: each tap that at
least one row of a block has is multiplied for all of its rows, and for channels that are padded to whole steps. Rules
come from the CPU engine, block shapes and the choice of an order from the CUDA engine. Rows beyond the frame's count,
which a recorded frame's Linear layers multiply too, are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.paths import SAMPLE
from benchmarks.common.workload import Workload
from spcli.config import load_config
from spcli.engines import load_engine
from spcli.engines.base import Frame, Want
from spcli.engines.driver import ask_driver

if not ask_driver().devices:  # before Triton is imported: the engine's tensors are then the host's
    os.environ.setdefault("TRITON_INTERPRET", "1")

from spcli.engines.cuda import blocks, rules, tiles
from spcli.engines.cuda.blocks import Blocks
from spcli.engines.cuda.capacity import bucket
from spcli.engines.tensors import STORAGE
from spcli.geometry import ConvGeometry
from spcli.network import Network
from spcli.program import Convolve, InvertMap
from spcli.rulebook import Rulebook

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class RulesByOutput:
    """The rules of a map, forward or inverted, as a convolution takes them.

    Attributes:
        geometry: of the forward convolution.
        inverted: whether the ends are swapped.
        rows: how many output rows there are.
        taps, out_rows: int64 `[L]`, of each rule.
    """

    geometry: ConvGeometry
    inverted: bool
    rows: int
    taps: Rows
    out_rows: Rows


@dataclass(frozen=True)
class LayerMacs:
    """One row of the table; `order` is how a layer's rows are sorted, empty where they are not."""

    name: str
    rows: int
    pairs: int
    useful: int
    executed: int
    blocks: Blocks
    order: str


def rules_of(book: Rulebook, inverted: bool) -> RulesByOutput:
    """A canonical rulebook by output row."""
    rows, sites = (book.in_rows, book.in_indices) if inverted else (book.out_rows, book.out_indices)
    taps = np.repeat(np.arange(book.geometry.volume), np.diff(book.pair_splits))
    return RulesByOutput(book.geometry, inverted, len(sites), taps, rows.astype(np.int64))


# What follows asks the engine how it cuts a layer, and is what changes with it.


def blocks_of(dtype: str, in_channels: int, out_channels: int, volume: int, rows: int) -> Blocks:
    """The engine's table, for a recorded frame that a frame of `rows` outputs made."""
    return blocks.on_level(blocks.blocks_for(dtype, in_channels, out_channels, volume), bucket(rows))


def order_of(source: RulesByOutput, dtype: str) -> str:
    """How the engine sorts the rows of a map: `tap`, `window`, or not at all."""
    like_a_map: Any = source  # as far as these two look at one
    if not blocks.sorts_rows(dtype, source.geometry.volume, tiles._upwards(like_a_map), bucket(source.rows)):
        return ""
    return "tap" if rules.has_single_rules(like_a_map) else "window"


def places(source: RulesByOutput, order: str) -> Rows:
    """The place of every output row in that order."""
    rows = np.arange(source.rows)
    if not order:
        return rows
    if order == "tap":
        key = np.full(source.rows, source.geometry.volume)
        key[source.out_rows] = source.taps
        by_key = np.argsort(key, kind="stable")
    else:
        bits = tiles.tap_bits(source.geometry, "cpu").cpu().numpy().astype(np.int64)
        key = np.zeros(source.rows, np.int64)
        np.bitwise_or.at(key, source.out_rows, np.int64(1) << bits[source.taps])
        by_key = np.lexsort((key, rows // blocks.window_rows()))
    place = np.empty(source.rows, np.int64)
    place[by_key] = rows
    return place


def taps_executed(source: RulesByOutput, place: Rows, cut: Blocks) -> int:
    """Taps that the blocks multiply, all of them together; a step takes `cut.taps` at once, listed or not."""
    count = -(-source.rows // cut.rows)
    listed = np.zeros((count, source.geometry.volume), bool)
    listed[place[source.out_rows] // cut.rows, source.taps] = True
    steps = -(-listed.sum(axis=1) // cut.taps)
    return int(steps.sum()) * cut.taps


def layers(network: Network, frame: Frame, dtype: str) -> Iterator[LayerMacs]:
    """Every layer that multiplies, in order; the frame must have its rulebooks."""
    program, infos = network.program, {info.name: info for info in network.layers}
    books = {keyed.map: frame.rulebooks[keyed.key] for keyed in program.keys}
    inverted = {op.map: op.source for op in program.index_ops if isinstance(op, InvertMap)}
    for op in program.value_ops:
        if not isinstance(op, Convolve):
            continue
        info, rows = infos[op.parameters], frame.sites[program.values[op.output].sites]
        cut = blocks_of(dtype, info.in_channels, info.out_channels, info.kernel_volume, rows)
        pairs, taps, order = rows, -(-rows // cut.rows), ""
        if op.map is not None:
            source = rules_of(books[inverted.get(op.map, op.map)], op.map in inverted)
            order, pairs = order_of(source, dtype), len(source.taps)
            taps = taps_executed(source, places(source, order), cut)
        channels = info.in_channels * info.out_channels
        padded = _padded(info.in_channels, cut.depth) * _padded(info.out_channels, cut.columns)
        yield LayerMacs(op.parameters, rows, pairs, pairs * channels, taps * cut.rows * padded, cut, order)


def _padded(channels: int, step: int) -> int:
    return -(-channels // step) * step


def markdown(found: Sequence[LayerMacs]) -> str:
    """The table, with a last row for all layers."""
    lines = ["| layer | rows | pairs | useful GMAC | executed GMAC | ratio | block | order |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |")
    for each in found:
        cut = f"{each.blocks.rows} x {each.blocks.columns}"
        lines.append(f"| {each.name} | {each.rows:,} | {each.pairs:,} | {_macs(each)} | {cut} | {each.order} |")
    useful, executed = sum(each.useful for each in found), sum(each.executed for each in found)
    total = LayerMacs("all", 0, 0, useful, executed, Blocks(0, 0, 0, 0, 0, 0), "")
    return "\n".join([*lines, f"| {total.name} |  |  | {_macs(total)} |  |  |"])


def _macs(each: LayerMacs) -> str:
    ratio = f"{each.executed / each.useful:.2f}" if each.useful else ""
    return f"{each.useful / 1e9:.3f} | {each.executed / 1e9:.3f} | {ratio}"


def frame_of(config_name: str, scan: str) -> tuple[Network, Frame]:
    """The network for a scan, and the scan's sites and rules from the CPU engine."""
    points = Workload(config_name, scan, Path()).points
    network = load_config(config_name).network(len(points.features))
    runner = load_engine("cpu").compile(network.program, {}, Want(rulebooks=True, counts=False, values=False))
    return network, runner.result(runner.submit(points))


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda.macs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="second-kitti", help="a preset or a file")
    parser.add_argument("--scan", default=str(SAMPLE), help="a file; the first sample scan if not given")
    parser.add_argument("--dtype", default="float16", choices=STORAGE, help="number format of the features")
    parser.add_argument("--capability", type=int, default=90, help="80 or 90")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Prints the table."""
    asked = arguments(words)
    network, frame = frame_of(asked.config, asked.scan)
    with blocks.true_shapes(asked.capability):
        print(markdown(list(layers(network, frame, asked.dtype))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
