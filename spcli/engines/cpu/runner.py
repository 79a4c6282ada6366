"""A program made ready on the CPU: packed weights, and buffers that are used again frame after frame."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Engine, Frame, LayerParameters, Points, Want
from spcli.engines.cpu.library import aligned_empty
from spcli.engines.cpu.rulebook import CpuSites
from spcli.engines.eager import Index, Walk, kept_slots, pack_parameters, plan_buffers, walk_index
from spcli.errors import InputError
from spcli.grid import ScanCounts, VoxelGrid
from spcli.program import Program
from spcli.rulebook import Rulebook, RuleCounts
from spcli.sparse_tensor import SparseTensor

Rows = NDArray[np.float32]


class Arena:
    """Feature buffers by size. Memory that was written once is handed out again instead of fresh pages."""

    def __init__(self) -> None:
        self._free: list[Rows] = []
        self._used: dict[int, Rows] = {}

    def take(self, slot: int, rows: int, channels: int) -> Rows:
        """An uninitialised `[rows, channels]` for `slot`, 64-byte aligned."""
        need = max(1, rows * channels)
        fitting = [block for block in self._free if need <= block.size <= 2 * need + 4096]
        block = min(fitting, key=lambda b: b.size) if fitting else aligned_empty(need, 1).reshape(-1)
        self._free = [other for other in self._free if other is not block]
        self._used[slot] = block
        return block[: rows * channels].reshape(rows, channels)

    def give(self, slot: int) -> None:
        """Takes the buffer of `slot` back, if it came from here."""
        block = self._used.pop(slot, None)
        if block is not None:
            self._free.append(block)

    def give_all(self) -> None:
        """Takes every buffer back, at the end of a frame."""
        for slot in list(self._used):
            self.give(slot)


class CpuRunner:
    """Carries out a program frame by frame. `submit` computes at once, so one frame is in flight."""

    depth = 1

    def __init__(self, engine: Engine, program: Program, parameters: Mapping[str, LayerParameters], want: Want) -> None:
        self._engine = engine
        self._program = program
        self._want = want
        self._plan = plan_buffers(program)
        self._keep = kept_slots(program, self._plan, want.layers)
        self._packed, self._norms = pack_parameters(engine, program, parameters) if want.values else ({}, {})
        self._arena = Arena()
        self._frames: dict[int, Frame] = {}
        self._tickets = 0

    def submit(self, scan: Points | SparseTensor) -> int:
        """Computes one frame and returns its ticket."""
        self._tickets += 1
        self._frames[self._tickets] = self._compute(scan)
        return self._tickets

    def result(self, ticket: int) -> Frame:
        """The frame of a ticket; each is redeemed once."""
        return self._frames.pop(ticket)

    def _compute(self, scan: Points | SparseTensor) -> Frame:
        started = perf_counter()
        sites, features, counts, grid = self._input(scan)
        voxelized = perf_counter()
        index = walk_index(self._engine, self._program, sites)
        indexed = perf_counter()
        outputs = self._values(index, features) if self._want.values else {}
        computed = perf_counter()
        rulebooks, rule_counts = self._rules(index)
        return Frame(
            tuple(site.count for site in index.sites),
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
        )

    def _input(self, scan: Points | SparseTensor) -> tuple[CpuSites, Rows, ScanCounts | None, VoxelGrid | None]:
        if isinstance(scan, SparseTensor):
            sites = self._engine.sites(scan.indices, scan.spatial_shape, scan.batch_size)
            if len(scan.features) != sites.count:
                raise InputError(f"{len(scan.features)} rows of features cannot belong to {sites.count} sites")
            return sites, self._engine.upload(scan.features), None, None
        assert self._program.voxelize is not None
        voxels = self._engine.voxelize(scan, self._program.voxelize)
        return voxels.sites, voxels.features, voxels.counts, voxels.grid

    def _values(self, index: Index, features: Rows) -> dict[str, SparseTensor]:
        walk = Walk(
            self._engine, self._program, self._plan, self._packed, self._norms, index,
            self._allocate, self._arena.give, self._keep,
        )  # fmt: skip
        values = walk.run(features)
        outputs = {name: self._output(index, values, name) for name in self._want.layers}
        self._arena.give_all()
        return outputs

    def _allocate(self, slot: int, rows: int, channels: int) -> Rows:
        # What the caller will own is not taken from the arena: it needs no copy at the end.
        return aligned_empty(rows, channels) if slot in self._keep else self._arena.take(slot, rows, channels)

    def _output(self, index: Index, values: Mapping[int, Rows], name: str) -> SparseTensor:
        slot = self._program.layers[name]
        sites = index.sites[self._program.values[slot].sites]
        features = np.ascontiguousarray(values[slot])
        return SparseTensor(features, sites.indices(), sites.spatial_shape, sites.batch_size)

    def _rules(self, index: Index) -> tuple[dict[str, Rulebook], dict[str, RuleCounts]]:
        engine, want = self._engine, self._want
        by_map = {keyed.map: index.maps[keyed.map] for keyed in self._program.keys}
        books = {slot: engine.rulebook(source) for slot, source in by_map.items()} if want.rulebooks else {}
        counts = {slot: engine.rule_counts(source, want.counts) for slot, source in by_map.items()}
        keys = self._program.keys
        return {k.key: books[k.map] for k in keys if want.rulebooks}, {k.key: counts[k.map] for k in keys}
