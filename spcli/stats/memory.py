"""What is in memory at once: sites, rules, weights, and the features that are alive while each layer runs.

Exact for what spcli keeps, buffer by buffer, since the buffers follow from the program and the number of sites alone;
what an allocator rounds up to, and a device's own workspace, is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from spcli.engines.eager import Plan, kept_slots, plan_buffers
from spcli.program import JOINABLE, Program, ValueOp, builds, reads

if TYPE_CHECKING:
    from spcli.engines.base import Frame
    from spcli.network import Network

FLOAT_BYTES = 4
RULE_BYTES = 8
ROW_BYTES = 4


@dataclass(frozen=True)
class FrameMemory:
    """`totals` is the `memory` of a `spcli.stats/1` object, `layers` that of each of its layers, in order."""

    totals: dict[str, Any]
    layers: tuple[dict[str, int], ...]


def frame_memory(network: Network, frame: Frame, batch_size: int) -> FrameMemory:
    """Bytes that a frame takes on its way through a network whose last layer is wanted.

    `features` are alive while a layer runs: the input, what a later layer still reads, and what the layer writes; a
    value that only becomes part of a concatenation lies in it. `rules` are two rows each, and `table` is the same map
    as a table of a row for every tap and output site, as GPU engines keep it; both count with the first layer that
    uses them. The peak is the sites, rules and weights, which are there all along, and the most features.
    """
    program = network.program
    alive = _alive(program, frame, batch_size)
    maps = _map_bytes(network, frame)
    layers = tuple(
        {
            "feature_bytes": alive[layer.name],
            "weight_bytes": FLOAT_BYTES * prod(layer.parameters.get(f"{layer.name}.weight", (0,))),
            "rule_bytes": maps.get(layer.name, (0, 0))[0],
            "table_bytes": maps.get(layer.name, (0, 0))[1],
        }
        for layer in network.layers
    )
    sites = sum(ROW_BYTES * (1 + len(shape)) * count for shape, count in zip(frame.shapes, frame.sites, strict=True))
    kept = {name: sum(layer[name] for layer in layers) for name in ("weight_bytes", "rule_bytes", "table_bytes")}
    most = max(alive.values())
    peak = {
        "peak_feature_bytes": most,
        "peak_layer": next(name for name, live in alive.items() if live == most),
        "peak_bytes": sites + kept["weight_bytes"] + kept["rule_bytes"] + most,
    }
    return FrameMemory({"site_bytes": sites, **kept, **peak}, layers)


def _map_bytes(network: Network, frame: Frame) -> dict[str, tuple[int, int]]:
    """Bytes of the rules and of the table of every map, by the layer that first uses it; inverse ones have none."""
    program = network.program
    built = builds(program)
    found = {}
    for keyed in program.keys:
        op = built.pop(keyed.map, None)
        if op is not None:
            counts = frame.counts[keyed.key]
            table = ROW_BYTES * len(counts.pairs_per_offset) * frame.sites[op.outputs]
            found[keyed.layers[0]] = RULE_BYTES * counts.pairs, table
    return found


def _alive(program: Program, frame: Frame, batch_size: int) -> dict[str, int]:
    """The most feature bytes alive at once while each layer runs."""
    layer_of = {slot: name for name, slot in program.layers.items()}
    walk = _Walk(program, frame, batch_size)
    alive: dict[str, int] = {}
    most = 0
    for op in program.value_ops:
        most = max(most, walk.step(op))
        if op.output in layer_of:
            alive[layer_of[op.output]], most = most, 0
    return {name: alive[name] for name in program.layers}


class _Walk:
    """The value phase of `engines.eager` in bytes alone."""

    def __init__(self, program: Program, frame: Frame, batch_size: int) -> None:
        self._program = program
        self._frame = frame
        self._batch_size = batch_size
        self._plan: Plan = plan_buffers(program)
        self._keep = kept_slots(program, self._plan, (program.output,)) | {0}
        self._left = dict(self._plan.uses)
        self._buffers: dict[int, int] = {0: self._bytes(0)}
        self._loose: dict[int, dict[int, int]] = {}

    def step(self, op: ValueOp) -> int:
        """Bytes alive while `op` runs; then gives back what was read for the last time."""
        root = self._plan.place[op.output][0]
        if isinstance(op, JOINABLE):
            self._buffers.setdefault(root, self._bytes(root))
        else:
            self._loose.setdefault(root, {})[op.output] = self._bytes(op.output)
        alive = sum(self._buffers.values()) + sum(sum(loose.values()) for loose in self._loose.values())
        for value in reads(op):
            read = self._plan.place[value.value][0]
            self._left[read] -= 1
            if self._left[read] == 0 and read not in self._keep:
                self._buffers.pop(read, None)
                self._loose.pop(read, None)
        return alive

    def _bytes(self, slot: int) -> int:
        """Bytes of a value: rows of features, or every cell of a dense one."""
        value = self._program.values[slot]
        rows = self._frame.sites[value.sites]
        if value.dense:
            rows = self._batch_size * prod(self._frame.shapes[value.sites])
        return FLOAT_BYTES * rows * value.channels
