"""One frame in flight: buffers of fixed size, the captured work on them, and what comes back to the host."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.base import Frame, Want
from spcli.engines.cuda.arrays import empty
from spcli.engines.cuda.capacity import CapacityEngine, FixedCapacity, FrameSizes
from spcli.engines.cuda.capture import Clock, Stream, host_buffer
from spcli.engines.cuda.inputs import ExaminedScan, Kind, PointsInput, PointsKind, TensorInput
from spcli.engines.cuda.launch import call
from spcli.engines.cuda.runs import VoxelOptions
from spcli.engines.cuda.sites import CudaSites
from spcli.engines.cuda.voxelize import record, scan_counts
from spcli.engines.eager import EagerRunner, Index, walk_index
from spcli.program import Program, map_ends, site_shapes, value_slot
from spcli.rulebook import Rulebook, RuleCounts
from spcli.sparse_tensor import SparseTensor

PHASES = ("start", "voxelize", "index", "value", "download")


@dataclass(frozen=True)
class FrameJob:
    """What every captured frame of a runner computes."""

    engine: CapacityEngine
    program: Program
    want: Want
    steps: EagerRunner


@dataclass(frozen=True)
class NumberSlices:
    """Where the numbers of a frame stand in the one tensor that brings them back."""

    lists: slice
    sites: slice
    maps: tuple[slice, ...]
    tally: slice


@dataclass(frozen=True)
class DeviceFrame:
    """What captured work leaves behind on the device."""

    index: Index
    outputs: dict[str, Tensor]
    numbers: Tensor
    slices: NumberSlices


class CapturedFrame:
    """Fixed buffers and the captured work of one frame."""

    def __init__(self, job: FrameJob, scan: ExaminedScan, stream: Stream, sizes: FrameSizes) -> None:
        self._job = job
        self._stream = stream
        self._clock = Clock(PHASES)
        self.kind: Kind = scan.kind
        self.sizes = sizes
        with stream:
            self._input = _input_for(scan, sizes.rows, job.engine.dtype)
            self._input.fill(scan)
            self._replay, self._made = stream.capture(self._frame_on_device)
        self._arrived: tuple[Tensor, dict[str, tuple[Tensor, Tensor]]] | None = None

    def fits(self, kind: Kind, sizes: FrameSizes) -> bool:
        """Whether its buffers are for scans of this kind and hold these sizes."""
        return kind == self.kind and self.sizes.hold(sizes)

    def start(self, scan: ExaminedScan) -> None:
        """Begin a frame: copies in, the captured work, copies out. Returns at once."""
        made = self._made
        with self._stream:
            self._clock.mark("start")
            self._input.fill(scan)
            self._replay.replay()
            outputs = {name: (_fetch(value), _fetch(self._sites(name).indices)) for name, value in made.outputs.items()}
            self._arrived = (_fetch(made.numbers), outputs)
            self._clock.mark("download")

    def wait(self) -> tuple[int, ...]:
        """Wait for the frame and return the true length of every list."""
        self._stream.wait()
        assert self._arrived is not None
        lengths: list[int] = self._arrived[0][self._made.slices.lists].tolist()
        return tuple(lengths)

    def frame(self, scan: ExaminedScan) -> Frame:
        """Everything the frame gave; it must have been waited for."""
        assert self._arrived is not None
        numbers, outputs = self._arrived[0].numpy(), self._arrived[1]
        slices, program = self._made.slices, self._job.program
        shapes = site_shapes(program, scan.spatial_shape)
        sites = tuple(int(count) for count in numbers[slices.sites])
        counts = None if scan.grid is None else scan_counts(numbers[slices.tally], scan.rows)
        tensors = {}
        for name, (features, indices) in outputs.items():
            value = program.values[value_slot(program, name)]
            count = None if value.dense else sites[value.sites]
            index = indices.numpy()[: sites[value.sites]]
            tensors[name] = SparseTensor(features.numpy()[:count], index, shapes[value.sites], self._batch_size)
        self._arrived = None
        return Frame(
            sites, shapes, tensors, self._rulebooks(shapes), self._rule_counts(numbers, sites, shapes), counts,
            scan.grid, self._clock.seconds(),
        )  # fmt: skip

    @property
    def _batch_size(self) -> int:
        return 1 if isinstance(self.kind, PointsKind) else self.kind.batch_size

    def _sites(self, name: str) -> CudaSites:
        program = self._job.program
        sites: CudaSites = self._made.index.sites[program.values[value_slot(program, name)].sites]
        return sites

    def _frame_on_device(self) -> DeviceFrame:
        """The work of one frame, without a wait: what a graph captures."""
        job, capacity = self._job, FixedCapacity(self.sizes.lists)
        engine, program = job.engine.with_capacity(capacity), job.program
        tally = None
        if isinstance(self._input, PointsInput):
            assert program.voxelize is not None
            voxels = record(
                self._input.points, self._input.grid, program.voxelize, capacity, engine.dtype, VoxelOptions()
            )
            sites, features, tally = voxels.sites, voxels.features, voxels.tally
        else:
            # A copy, so that its index is part of what is captured and not left over from the run before the capture.
            sites, features = replace(self._input.sites), self._input.features
        self._clock.mark("voxelize")
        index = walk_index(engine, program, sites)
        self._clock.mark("index")
        outputs = {}
        if job.want.values:
            values = job.steps.walk(index).run(features)
            outputs = {name: _float_rows(values[value_slot(program, name)]) for name in job.want.layers}
        self._clock.mark("value")
        return DeviceFrame(index, outputs, *self._numbers(index, capacity, tally))

    def _numbers(self, index: Index, capacity: FixedCapacity, tally: Tensor | None) -> tuple[Tensor, NumberSlices]:
        """Everything the host wants to count, in one int32 tensor, so that one copy brings it back."""
        maps = [index.maps[keyed.map] for keyed in self._job.program.keys]
        parts: list[Tensor] = [*capacity.totals, *(sites.total for sites in index.sites)]
        lists, sites = slice(0, len(capacity.totals)), slice(len(capacity.totals), len(parts))
        start, places = sites.stop, []
        for each in maps:
            parts += [each.pairs, each.fullest]
            places.append(slice(start, start + len(each.pairs) + 1))
            start = places[-1].stop
        if tally is not None:
            parts.append(tally)
        where = NumberSlices(lists, sites, tuple(places), slice(start, None))
        numbers = empty(sum(len(part) for part in parts), torch.int32)
        if parts:
            call(torch.cat, parts, out=numbers)
        return numbers, where

    def _rulebooks(self, shapes: tuple[tuple[int, ...], ...]) -> dict[str, Rulebook]:
        if not self._job.want.rulebooks:
            return {}
        engine, keys, maps = self._job.engine, self._job.program.keys, self._made.index.maps
        with self._stream:
            books = {slot: engine.rulebook(maps[slot]) for slot in {keyed.map for keyed in keys}}
        ends = map_ends(self._job.program)
        return {keyed.key: _of_shape(books[keyed.map], *(shapes[slot] for slot in ends[keyed.map])) for keyed in keys}

    def _rule_counts(
        self, numbers: NDArray[np.int32], sites: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]
    ) -> dict[str, RuleCounts]:
        program, counts = self._job.program, {}
        ends = map_ends(program)
        for keyed, place in zip(program.keys, self._made.slices.maps, strict=True):
            *pairs, fullest = numbers[place].tolist()
            into, out = ends[keyed.map]
            counts[keyed.key] = RuleCounts(
                sites[into], sites[out], shapes[into], shapes[out], self._batch_size, tuple(pairs),
                fullest if self._job.want.counts else 0,
            )  # fmt: skip
        return counts


def _input_for(scan: ExaminedScan, rows: int, dtype: str) -> PointsInput | TensorInput:
    if isinstance(scan.kind, PointsKind):
        assert scan.grid is not None
        return PointsInput(scan.kind, rows, scan.grid)
    return TensorInput(scan.kind, rows, dtype)


def _float_rows(value: Tensor) -> Tensor:
    """A value as contiguous float32, which is what a copy to the host takes."""
    if value.dtype == torch.float32 and value.is_contiguous():
        return value
    rows = empty(tuple(value.shape), torch.float32)
    call(rows.copy_, value)
    return rows


def _fetch(tensor: Tensor) -> Tensor:
    """Host memory of its own into which `tensor` is being copied."""
    host = host_buffer(tuple(tensor.shape), tensor.dtype)
    return host.copy_(tensor, non_blocking=True)


def _of_shape(rulebook: Rulebook, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> Rulebook:
    """The rules with the shapes of this frame, which may not be those of the captured one."""
    return replace(rulebook, in_spatial_shape=in_shape, out_spatial_shape=out_shape)
