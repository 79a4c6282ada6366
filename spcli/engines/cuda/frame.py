"""One frame in flight: buffers of fixed size, the captured work on them, and what comes back to the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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


class HostImage:
    """Host memory for what a frame leaves in one tensor on the device, in the same format.

    It is the frame's own and used again: what the caller is given is copied out of it. That copy is made in any case
    where float16 or bfloat16 become float32, and elsewhere reads what has just arrived, by rows instead of capacity;
    in return no result that a caller keeps holds pinned memory, of which there is as much as frames in flight.
    """

    def __init__(self, source: Tensor) -> None:
        self._source, self._host = source, host_buffer(tuple(source.shape), source.dtype)

    def fetch(self) -> None:
        """Begin the copy from the device, on the current stream."""
        self._host.copy_(self._source, non_blocking=True)

    def rows(self, count: int | None = None) -> NDArray[Any]:
        """The first `count` rows that arrived, newly written; features of any format as float32."""
        dtype = torch.float32 if self._host.is_floating_point() else self._host.dtype
        copied: NDArray[Any] = self._host[:count].to(dtype, copy=True).numpy()
        return copied


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
        self._way = f"replayed, {job.steps.way(self._made.index)}"
        self._numbers = HostImage(self._made.numbers)
        self._features = {name: HostImage(value) for name, value in self._made.outputs.items()}
        slots = {self._sites_slot(name) for name in self._features}
        self._indices = {slot: HostImage(self._made.index.sites[slot].indices) for slot in slots}

    def fits(self, kind: Kind, sizes: FrameSizes) -> bool:
        """Whether its buffers are for scans of this kind and hold these sizes."""
        return kind == self.kind and self.sizes.hold(sizes)

    def start(self, scan: ExaminedScan) -> None:
        """Begin a frame: copies in, the captured work, copies out. Returns at once."""
        with self._stream:
            self._clock.mark("start")
            self._input.fill(scan)
            self._replay.replay()
            for image in (*self._features.values(), *self._indices.values(), self._numbers):
                image.fetch()
            self._clock.mark("download")

    def wait(self) -> tuple[int, ...]:
        """Wait for the frame and return the true length of every list."""
        self._stream.wait()
        lengths: list[int] = self._numbers.rows()[self._made.slices.lists].tolist()
        return tuple(lengths)

    def frame(self, scan: ExaminedScan) -> Frame:
        """Everything the frame gave; it must have been waited for."""
        numbers, slices, program = self._numbers.rows(), self._made.slices, self._job.program
        shapes = site_shapes(program, scan.spatial_shape)
        sites = tuple(int(count) for count in numbers[slices.sites])
        counts = None if scan.grid is None else scan_counts(numbers[slices.tally], scan.rows)
        tensors = {}
        for name, features in self._features.items():
            slot = self._sites_slot(name)
            count = None if program.values[value_slot(program, name)].dense else sites[slot]
            index = self._indices[slot].rows(sites[slot])
            tensors[name] = SparseTensor(features.rows(count), index, shapes[slot], self._batch_size)
        return Frame(
            sites, shapes, tensors, self._rulebooks(shapes), self._rule_counts(numbers, sites, shapes), counts,
            scan.grid, self._clock.seconds(), self._way,
        )  # fmt: skip

    @property
    def _batch_size(self) -> int:
        return 1 if isinstance(self.kind, PointsKind) else self.kind.batch_size

    def _sites_slot(self, name: str) -> int:
        """The sites that a layer's rows belong to."""
        program = self._job.program
        return program.values[value_slot(program, name)].sites

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
            outputs = {name: _contiguous(values[value_slot(program, name)]) for name in job.want.layers}
        self._clock.mark("value")
        return DeviceFrame(index, outputs, *self._numbers_of(index, capacity, tally))

    def _numbers_of(self, index: Index, capacity: FixedCapacity, tally: Tensor | None) -> tuple[Tensor, NumberSlices]:
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


def _contiguous(value: Tensor) -> Tensor:
    """A value whose rows lie side by side, which is what a copy to the host takes."""
    if value.is_contiguous():
        return value
    rows = empty(tuple(value.shape), value.dtype)
    call(rows.copy_, value)
    return rows


def _of_shape(rulebook: Rulebook, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> Rulebook:
    """The rules with the shapes of this frame, which may not be those of the captured one."""
    return replace(rulebook, in_spatial_shape=in_shape, out_spatial_shape=out_shape)
