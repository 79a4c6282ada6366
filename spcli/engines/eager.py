"""A program carried out one operation after another, for any engine.

The CPU runner, the CUDA engine without a graph and the contract tests all take this walk. It plans buffers once a
program: a value that only becomes part of a concatenation is written straight into its columns there, and a buffer is
given back when the last value in it has been read for the last time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import (
    Array,
    Engine,
    Epilogue,
    Frame,
    LayerParameters,
    Map,
    Packed,
    Points,
    Sites,
    Want,
)
from spcli.errors import InputError
from spcli.grid import ScanCounts, VoxelGrid
from spcli.program import (
    AddValues,
    BuildMap,
    CompressHeight,
    Concatenate,
    Convolve,
    FlattenSites,
    GlobalPool,
    GlobalSites,
    InvertMap,
    MakeDense,
    NormalizeRows,
    Pool,
    Program,
    ReduceChannels,
    ValueOp,
    reads,
    value_slot,
    with_channels,
)
from spcli.rulebook import Rulebook, RuleCounts
from spcli.sparse_tensor import SparseTensor


@dataclass
class Index:
    """Sites and maps of one frame by slot, filled by the index phase."""

    sites: list[Sites]
    maps: list[Map]


def walk_index(engine: Engine, program: Program, sites: Sites) -> Index:
    """The index phase: every site set and map of `program` for input sites `sites`."""
    index = Index([None] * program.sites, [None] * program.maps)
    index.sites[0] = sites
    for op in program.index_ops:
        if isinstance(op, BuildMap):
            index.maps[op.map] = engine.build(index.sites[op.sites], op.geometry)
            index.sites[op.outputs] = index.maps[op.map].outputs
        elif isinstance(op, InvertMap):
            index.maps[op.map] = engine.invert(index.maps[op.source])
        elif isinstance(op, FlattenSites):
            index.sites[op.outputs] = engine.flatten(index.sites[op.sites])
        elif isinstance(op, GlobalSites):
            index.sites[op.outputs] = engine.collapse(index.sites[op.sites])
    return index


@dataclass(frozen=True)
class Plan:
    """Where the values of a program live.

    Attributes:
        place: value slot to (the slot whose buffer holds it, its first column there).
        uses: buffer slot to the number of reads after which it is free.
    """

    place: dict[int, tuple[int, int]]
    uses: dict[int, int]


def plan_buffers(program: Program) -> Plan:
    """Places concatenated values in their concatenation's buffer and counts how often each buffer is read."""
    parent: dict[int, tuple[int, int]] = {}
    for op in program.value_ops:
        if not isinstance(op, Concatenate):
            continue
        column = 0
        for slot in op.inputs:
            if slot != 0 and slot not in parent:
                parent[slot] = (op.output, column)
            column += program.values[slot].channels
    place = {slot: _resolve(slot, parent) for slot in range(len(program.values))}
    uses = dict.fromkeys((root for root, _ in place.values()), 0)
    for op in program.value_ops:
        for read in reads(op):
            uses[place[read.value][0]] += 1
    return Plan(place, uses)


def _resolve(slot: int, parent: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
    column = 0
    while slot in parent:
        slot, first = parent[slot]
        column += first
    return slot, column


@dataclass
class Walk:
    """One frame's value phase.

    Attributes:
        engine, program, plan, packed: what to do and with which parameters (by layer name).
        index: the frame's sites and maps.
        allocate: gives the buffer of a slot, `(slot, rows, channels) -> Array`.
        release: takes a buffer back, `(slot) -> None`, once nothing will read it.
        keep: slots whose buffers are never given back.
    """

    engine: Engine
    program: Program
    plan: Plan
    packed: Mapping[str, Packed]
    norms: Mapping[str, LayerParameters]
    index: Index
    allocate: Callable[[int, int, int], Array]
    release: Callable[[int], None]
    keep: frozenset[int] = frozenset()
    buffers: dict[int, Array] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)

    def run(self, features: Array) -> dict[int, Array]:
        """Every kept value by slot, from the input's features."""
        self.values[0] = self.buffers[0] = features
        left = dict(self.plan.uses)
        for op in self.program.value_ops:
            self.values[op.output] = self.step(op)
            for read in reads(op):
                root = self.plan.place[read.value][0]
                left[root] -= 1
                if left[root] == 0 and root not in self.keep:
                    self._drop(root)
        return self.values

    def step(self, op: ValueOp) -> Array:
        """Carries out one operation and returns its output."""
        engine, values, sites = self.engine, self.values, self.index.sites
        if isinstance(op, GlobalPool):
            return engine.global_pool(values[op.input], sites[self.program.values[op.input].sites], op.reduce)
        if isinstance(op, ReduceChannels):
            return engine.channel_reduction(values[op.input], self.program.values[op.output].channels)
        if isinstance(op, CompressHeight):
            source, target = (sites[self.program.values[slot].sites] for slot in (op.input, op.output))
            return engine.height_compression(values[op.input], source, target)
        if isinstance(op, MakeDense):
            return engine.to_dense(values[op.input], sites[self.program.values[op.input].sites])
        return self.step_into(op, self.destination(op.output))

    def step_into(self, op: ValueOp, out: Array) -> Array:
        """Carries out an operation that writes into `out`."""
        engine, values = self.engine, self.values
        if isinstance(op, Convolve):
            source = None if op.map is None else self.index.maps[op.map]
            epilogue = Epilogue(None if op.add is None else values[op.add], op.activation)
            return engine.convolve(values[op.input], source, self.packed[op.parameters], epilogue, out)
        if isinstance(op, Pool):
            return engine.pool(values[op.input], self.index.maps[op.map], op.reduce, out)
        if isinstance(op, NormalizeRows):
            epilogue = Epilogue(None if op.add is None else values[op.add], op.activation)
            return engine.layer_norm(values[op.input], self.norms[op.parameters], op.eps, epilogue, out)
        if isinstance(op, AddValues):
            return engine.add([values[slot] for slot in op.inputs], op.activation, out)
        if isinstance(op, Concatenate):
            return engine.concat([values[slot] for slot in op.inputs], out)
        raise TypeError(f"no engine method for {type(op).__name__}")

    def destination(self, slot: int) -> Array:
        """The columns of a buffer that value `slot` is written to; allocates the buffer when it is first needed."""
        root, column = self.plan.place[slot]
        if root not in self.buffers:
            rows = self.engine.rows(self.index.sites[self.program.values[root].sites])
            self.buffers[root] = self.allocate(root, rows, self.program.values[root].channels)
        channels = self.program.values[slot].channels
        return self.buffers[root][:, column : column + channels]

    def _drop(self, root: int) -> None:
        if self.buffers.pop(root, None) is not None and root != 0:
            self.release(root)
        for slot in [slot for slot in self.values if self.plan.place[slot][0] == root]:
            del self.values[slot]


def pack_parameters(
    engine: Engine, program: Program, parameters: Mapping[str, LayerParameters]
) -> tuple[dict[str, Packed], dict[str, LayerParameters]]:
    """Convolution weights in the engine's layout, and the parameters of layer norms, both by layer name."""
    packed = {
        op.parameters: engine.pack(parameters[op.parameters]) for op in program.value_ops if isinstance(op, Convolve)
    }
    norms = {op.parameters: parameters[op.parameters] for op in program.value_ops if isinstance(op, NormalizeRows)}
    return packed, norms


def kept_slots(program: Program, plan: Plan, layers: Sequence[str]) -> frozenset[int]:
    """Buffers that hold a wanted layer."""
    return frozenset(plan.place[value_slot(program, name)][0] for name in layers)


def check_rows(tensor: SparseTensor) -> None:
    """A tensor must have a row of features for each site.

    Raises:
        InputError: it has not.
    """
    if len(tensor.features) != len(tensor.indices):
        raise InputError(
            f"{len(tensor.features)} rows of features cannot belong to {len(tensor.indices)} sites; give one for each"
        )


class EagerRunner:
    """Carries out a program on any engine, one operation after another. `submit` computes, so one frame is in flight.

    An engine with buffers to use again overrides `allocate`, `release` and `output`; one that computes while the host
    goes on overrides `wait`, so that times are those of the work; one with several ways to compute overrides `way`.
    """

    depth = 1

    def __init__(self, engine: Engine, program: Program, parameters: Mapping[str, LayerParameters], want: Want) -> None:
        self.engine = engine
        self.program = program
        self.want = want
        self.plan = plan_buffers(program)
        self.keep = kept_slots(program, self.plan, want.layers)
        self.packed, self.norms = pack_parameters(engine, program, parameters) if want.values else ({}, {})
        self._frames: dict[int, Frame] = {}
        self._tickets = 0

    def submit(self, scan: Points | SparseTensor) -> int:
        """Computes one frame and returns its ticket."""
        self._tickets += 1
        self._frames[self._tickets] = self.compute(scan)
        return self._tickets

    def result(self, ticket: int) -> Frame:
        """The frame of a ticket; each is redeemed once."""
        return self._frames.pop(ticket)

    def compute(self, scan: Points | SparseTensor) -> Frame:
        """One frame, from its scan to host arrays."""
        started = perf_counter()
        sites, features, counts, grid = self._input(scan)
        voxelized = self._now()
        index = walk_index(self.engine, self.program, sites)
        indexed = self._now()
        values = self.walk(index).run(features) if self.want.values else {}
        computed = self._now()
        outputs = {name: self._tensor(index, values, name) for name in self.want.layers if values}
        rulebooks, rule_counts = self._rules(index)
        return Frame(
            tuple(self.engine.count(site) for site in index.sites),
            tuple(site.spatial_shape for site in index.sites),
            outputs,
            rulebooks,
            rule_counts,
            counts,
            grid,
            {
                "voxelize": voxelized - started,
                "index": indexed - voxelized,
                "value": computed - indexed,
                "download": perf_counter() - computed,
            },
            self.way(index),
        )

    def walk(self, index: Index) -> Walk:
        """The value phase of one frame."""
        program, plan = self.program, self.plan
        if not all(value.channels for value in program.values):
            program = with_channels(program, [sites.spatial_shape for sites in index.sites])
            plan = plan_buffers(program)
        return Walk(self.engine, program, plan, self.packed, self.norms, index, self.allocate, self.release, self.keep)

    def allocate(self, slot: int, rows: int, channels: int) -> Array:
        """The buffer of value slot `slot`."""
        return self.engine.empty(rows, channels)

    def release(self, slot: int) -> None:
        """Takes a buffer back that nothing will read any more."""

    def output(self, array: Array) -> NDArray[np.float32]:
        """A wanted value as host rows that the caller owns."""
        return self.engine.download(array)

    def way(self, index: Index) -> str:
        """Which way the frame went, for an engine that has several."""
        return ""

    def wait(self) -> None:
        """Waits until what was started is done."""

    def _now(self) -> float:
        self.wait()
        return perf_counter()

    def _input(self, scan: Points | SparseTensor) -> tuple[Sites, Array, ScanCounts | None, VoxelGrid | None]:
        if isinstance(scan, SparseTensor):
            check_rows(scan)
            sites = self.engine.sites(scan.indices, scan.spatial_shape, scan.batch_size)
            return sites, self.engine.upload(scan.features), None, None
        assert self.program.voxelize is not None
        voxels = self.engine.voxelize(scan, self.program.voxelize)
        return voxels.sites, voxels.features, voxels.counts, voxels.grid

    def _tensor(self, index: Index, values: Mapping[int, Array], name: str) -> SparseTensor:
        slot = value_slot(self.program, name)
        sites = index.sites[self.program.values[slot].sites]
        features = self.output(values[slot])
        return SparseTensor(features, self.engine.indices(sites), sites.spatial_shape, sites.batch_size)

    def _rules(self, index: Index) -> tuple[dict[str, Rulebook], dict[str, RuleCounts]]:
        engine, want, keys = self.engine, self.want, self.program.keys
        by_map = {keyed.map: index.maps[keyed.map] for keyed in keys}
        books = {slot: engine.rulebook(source) for slot, source in by_map.items()} if want.rulebooks else {}
        counts = {slot: engine.rule_counts(source, want.counts) for slot, source in by_map.items()}
        return {k.key: books[k.map] for k in keys if want.rulebooks}, {k.key: counts[k.map] for k in keys}
