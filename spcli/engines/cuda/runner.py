"""A program made ready on CUDA: a whole frame is one graph, and several frames are in flight at once.

The first scan of a kind is carried out step by step, which shows how long every list is. Capacities with some slack
are derived from that; from then on a frame copies its points in, replays a graph that never waits for the host, and
copies its results out. The true lengths come back with the results: where one passed its capacity nothing was written
beyond it, and the frame is repeated with larger buffers. So a result is never cut short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from spcli.engines.base import Frame, LayerParameters, Points, Want
from spcli.engines.checks import checked_shapes
from spcli.engines.cuda.capacity import CapacityEngine, FrameSizes, LearnedCapacity
from spcli.engines.cuda.capture import Stream
from spcli.engines.cuda.frame import CapturedFrame, FrameJob
from spcli.engines.cuda.inputs import ExaminedScan, Kind, examine
from spcli.engines.cuda.launch import INTERPRETED
from spcli.engines.cuda.memory import device_errors
from spcli.engines.cuda.sites import check_cells
from spcli.engines.eager import EagerRunner, check_rows
from spcli.grid import fixed_grid
from spcli.program import CompressHeight, MakeDense, Program
from spcli.sparse_tensor import SparseTensor


class StepRunner(EagerRunner):
    """One operation after another, for debugging: `--no-graph`."""

    @device_errors()
    def compute(self, scan: Points | SparseTensor) -> Frame:
        """One frame, from its scan to host arrays."""
        return super().compute(scan)

    def wait(self) -> None:
        """Waits for the device."""
        if not INTERPRETED:
            torch.cuda.synchronize()


class LearningRunner(StepRunner):
    """Carries out the first scan of a kind and learns the length of every list."""

    def __init__(
        self, engine: CapacityEngine, program: Program, parameters: Mapping[str, LayerParameters], want: Want
    ) -> None:
        super().__init__(engine, program, parameters, want)
        self._engine = engine

    def learn(self, scan: ExaminedScan) -> tuple[Frame, FrameSizes]:
        """The frame of `scan`, and sizes that hold it."""
        capacity = LearnedCapacity()
        self.engine = self._engine.with_capacity(capacity)
        try:
            frame = self.compute(scan.content)
        finally:
            self.engine = self._engine
        return frame, FrameSizes().grown(scan.rows, capacity.lengths)


@dataclass
class FrameSlot:
    """One of the frames that may be in flight: its queue, and the frame that was last captured for it."""

    stream: Stream = field(default_factory=Stream)
    captured: CapturedFrame | None = None
    busy: bool = False


class CudaRunner:
    """Replays one graph per frame. Up to `depth` frames are in flight, each in buffers and on a stream of its own."""

    depth = 3

    @device_errors()
    def __init__(self, engine: CapacityEngine, program: Program, parameters: Mapping[str, LayerParameters], want: Want):
        self._learner = LearningRunner(engine, program, parameters, want)
        self._job = FrameJob(engine, program, want, self._learner)
        # Dense outputs and folded heights are sized by the shape: then every shape is captured for itself.
        self._any_shape = not any(isinstance(op, MakeDense | CompressHeight) for op in program.value_ops)
        spec = program.voxelize
        self._grid = None if spec is None or spec.point_cloud_range is None else fixed_grid(spec)
        self._sizes: dict[Kind, FrameSizes] = {}
        self._slots = [FrameSlot() for _ in range(self.depth)]
        self._in_flight: dict[int, tuple[ExaminedScan, FrameSlot]] = {}
        self._done: dict[int, Frame | Exception] = {}
        self._tickets = 0

    @device_errors()
    def submit(self, scan: Points | SparseTensor) -> int:
        """Begin one frame and return its ticket; returns at once except for the first scan of a kind."""
        if isinstance(scan, SparseTensor):
            check_rows(scan)
        examined = examine(scan, self._job.program.voxelize, self._grid, self._any_shape)
        self._tickets += 1
        if examined.kind not in self._sizes:
            self._done[self._tickets], self._sizes[examined.kind] = self._learner.learn(examined)
        else:
            # A graph refuses neither what leaves no output nor what has too many cells.
            for shape in checked_shapes(self._job.program, examined.spatial_shape):
                check_cells(shape, examined.batch_size)
            self._start(self._tickets, examined)
        return self._tickets

    @device_errors()
    def result(self, ticket: int) -> Frame:
        """Wait for a frame. Each ticket is redeemed once."""
        if ticket in self._done:
            frame = self._done.pop(ticket)
            if isinstance(frame, Exception):
                raise frame
            return frame
        scan, slot = self._in_flight.pop(ticket)
        try:
            return self._finish(scan, slot)
        finally:
            slot.busy = False

    def _start(self, ticket: int, scan: ExaminedScan) -> None:
        slot = next((slot for slot in self._slots if not slot.busy), None)
        if slot is None:  # more than `depth`: the oldest has to end first
            self._end_oldest()
            slot = next(slot for slot in self._slots if not slot.busy)
        self._run(scan, slot, self._sizes[scan.kind].lists)
        slot.busy = True
        self._in_flight[ticket] = (scan, slot)

    def _end_oldest(self) -> None:
        """Waits for the oldest frame; an error of it is for the caller who asks for it."""
        oldest = next(iter(self._in_flight))
        try:
            self._done[oldest] = self.result(oldest)
        except Exception as error:
            self._done[oldest] = error

    def _run(self, scan: ExaminedScan, slot: FrameSlot, lists: tuple[int, ...]) -> None:
        sizes = self._sizes[scan.kind].grown(scan.rows, lists)
        if slot.captured is None or not slot.captured.fits(scan.kind, sizes):
            slot.captured = None  # its memory is free for the new one
            slot.captured = CapturedFrame(self._job, scan, slot.stream, sizes)
        self._sizes[scan.kind] = sizes  # only now: where there was no memory for them, smaller scans still fit
        slot.captured.start(scan)

    def _finish(self, scan: ExaminedScan, slot: FrameSlot) -> Frame:
        while True:
            assert slot.captured is not None
            lengths = slot.captured.wait()
            if all(length <= capacity for length, capacity in zip(lengths, slot.captured.sizes.lists, strict=True)):
                return slot.captured.frame(scan)
            self._run(scan, slot, lengths)
