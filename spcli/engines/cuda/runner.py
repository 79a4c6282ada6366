"""A program made ready on CUDA: a whole frame is one graph, and several frames are in flight at once.

The first scan of a kind is carried out step by step, which shows how long every list is. Capacities with some slack
are derived from that; from then on a frame copies its points in, replays a graph that never waits for the host, and
copies its results out. The true lengths come back with the results: where one passed its capacity nothing was written
beyond it. So a result is never cut short: the frame is carried out once more.

That repetition goes step by step. A graph would need capacities, and after an overflow nobody knows them: lists are
made from lists, so only those up to the first that was cut short have their true length, and what is computed from it
is too short by an unknown number. An estimate can fail, and what is certain (an input reaches so many outputs, a grid
has so many cells) is several times too much for each level and multiplies from one to the next. Step by step each list
is allocated when its length is known: the frame is complete after one repetition, whatever the scan, and all
capacities grow at once. A scan of more points than its buffers hold is carried out step by step to begin with.

The next frame pays for the new graph. A capture costs many frames' time, so there is one to begin with, which frames
take in turn; each of the frames in flight gets its own when the sizes have proved themselves.
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
from spcli.engines.cuda.memory import device_errors, lacks_memory
from spcli.engines.cuda.sites import check_cells
from spcli.engines.cuda.ways import way_through
from spcli.engines.eager import EagerRunner, Index, check_rows
from spcli.grid import fixed_grid
from spcli.program import CompressHeight, MakeDense, Program
from spcli.sparse_tensor import SparseTensor


class StepRunner(EagerRunner):
    """One operation after another, for debugging: `--no-graph`."""

    @device_errors()
    def compute(self, scan: Points | SparseTensor) -> Frame:
        """One frame, from its scan to host arrays."""
        return super().compute(scan)

    def way(self, index: Index) -> str:
        """How sites are found, and how many rows each convolution takes at once, sorted or not."""
        return way_through(self.program, index, self.packed)

    def wait(self) -> None:
        """Waits for the device."""
        if not INTERPRETED:
            torch.cuda.synchronize()


class LearningRunner(StepRunner):
    """Carries out a scan step by step and learns the length of every list."""

    def __init__(
        self, engine: CapacityEngine, program: Program, parameters: Mapping[str, LayerParameters], want: Want
    ) -> None:
        super().__init__(engine, program, parameters, want)
        self._engine = engine

    def learn(self, scan: ExaminedScan, before: FrameSizes | None = None) -> tuple[Frame, FrameSizes]:
        """The frame of `scan`, and sizes that hold it and what those before held."""
        capacity = LearnedCapacity()
        self.engine = self._engine.with_capacity(capacity)
        try:
            frame = self.compute(scan.content)
        finally:
            self.engine = self._engine
        return frame, (before or FrameSizes()).grown(scan.rows, capacity.lengths)


@dataclass
class Known:
    """What the scans of one kind have shown.

    Attributes:
        sizes: capacities that hold all of them.
        frames: how many there were since the sizes last grew.
    """

    sizes: FrameSizes
    frames: int = 1


@dataclass
class FrameSlot:
    """One of the frames that may be in flight: its queue, and the frame that was last captured for it."""

    stream: Stream = field(default_factory=Stream)
    captured: CapturedFrame | None = None
    busy: bool = False

    def fits(self, kind: Kind, sizes: FrameSizes) -> bool:
        """Whether its captured frame is for scans of this kind and size."""
        return self.captured is not None and self.captured.fits(kind, sizes)


class CudaRunner:
    """Replays one graph per frame. Up to `depth` frames are in flight, each in buffers and on a stream of its own.

    Attributes:
        proved: frames of a kind and size that take turns in one captured frame before more are captured.
    """

    depth = 3
    proved = 10

    @device_errors()
    def __init__(self, engine: CapacityEngine, program: Program, parameters: Mapping[str, LayerParameters], want: Want):
        self._learner = LearningRunner(engine, program, parameters, want)
        self._job = FrameJob(engine, program, want, self._learner)
        # Dense outputs and folded heights are sized by the shape: then every shape is captured for itself.
        self._any_shape = not any(isinstance(op, MakeDense | CompressHeight) for op in program.value_ops)
        spec = program.voxelize
        self._grid = None if spec is None or spec.point_cloud_range is None else fixed_grid(spec)
        self._known: dict[Kind, Known] = {}
        self._slots = [FrameSlot() for _ in range(self.depth)]
        self._in_flight: dict[int, tuple[ExaminedScan, FrameSlot]] = {}
        self._done: dict[int, Frame | Exception] = {}
        self._tickets = 0

    @device_errors()
    def submit(self, scan: Points | SparseTensor) -> int:
        """Begin one frame and return its ticket; returns at once except for scans larger than those before."""
        if isinstance(scan, SparseTensor):
            check_rows(scan)
        examined = examine(scan, self._job.program.voxelize, self._grid, self._any_shape)
        self._tickets += 1
        known = self._known.get(examined.kind)
        if known is None or examined.rows > known.sizes.rows:
            self._done[self._tickets] = self._learn(examined)
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

    def _learn(self, scan: ExaminedScan) -> Frame:
        """A frame step by step, after which the sizes hold it."""
        known = self._known.get(scan.kind)
        frame, sizes = self._learner.learn(scan, None if known is None else known.sizes)
        self._known[scan.kind] = Known(sizes)
        for slot in self._slots:
            if slot.captured is not None and slot.captured.kind == scan.kind and not slot.busy:
                slot.captured = None  # too small now
        return frame

    def _start(self, ticket: int, scan: ExaminedScan) -> None:
        slot = self._slot_for(scan.kind)
        if not self._prepare(slot, scan):
            # Capacities have slack; what the frame needs exactly may fit where they do not.
            del self._known[scan.kind]
            self._done[ticket] = self._learn(scan)
            return
        assert slot.captured is not None
        slot.captured.start(scan)
        slot.busy = True
        self._known[scan.kind].frames += 1
        self._in_flight[ticket] = (scan, slot)

    def _slot_for(self, kind: Kind) -> FrameSlot:
        """A free slot, if there is one with a captured frame that fits; where there is none, older frames end first."""
        while True:
            known = self._known[kind]
            ready = [slot for slot in self._slots if slot.fits(kind, known.sizes)]
            free = [slot for slot in self._slots if not slot.busy]
            found = next((slot for slot in ready if not slot.busy), None)
            if found is not None:
                return found
            if free and (not ready or known.frames >= self.proved):
                return min(free, key=lambda slot: slot.captured is not None)
            self._end_oldest()

    def _prepare(self, slot: FrameSlot, scan: ExaminedScan) -> bool:
        """Captures a frame where the slot has none that fits; False where there is no memory for one."""
        sizes = self._known[scan.kind].sizes
        if slot.fits(scan.kind, sizes):
            return True
        slot.captured = None  # its memory is free for the new one
        try:
            slot.captured = CapturedFrame(self._job, scan, slot.stream, sizes)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            return False
        return True

    def _end_oldest(self) -> None:
        """Waits for the oldest frame; an error of it is for the caller who asks for it."""
        oldest = next(iter(self._in_flight))
        try:
            self._done[oldest] = self.result(oldest)
        except Exception as error:
            self._done[oldest] = error

    def _finish(self, scan: ExaminedScan, slot: FrameSlot) -> Frame:
        assert slot.captured is not None
        lengths = slot.captured.wait()
        if all(length <= capacity for length, capacity in zip(lengths, slot.captured.sizes.lists, strict=True)):
            return slot.captured.frame(scan)
        slot.captured = None  # its memory is free for the repetition
        return self._learn(scan)
