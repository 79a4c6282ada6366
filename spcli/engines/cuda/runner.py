"""A program made ready on CUDA: a whole frame is one graph, and several frames are in flight at once.

The first scan of a kind is carried out step by step, which tells how long every list is. Capacities with some slack
are derived from that; from then on a frame copies its points in, replays a graph that never waits for the host, and
copies its results out. The true lengths come back with the results: where one passed its capacity nothing was written
beyond it, and the frame is repeated with more room. So a result is never cut short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from spcli.engines.base import Frame, LayerParameters, Points, Want
from spcli.engines.checks import site_shapes
from spcli.engines.cuda.capacity import LearningRoom
from spcli.engines.cuda.capture import Stream
from spcli.engines.cuda.engine import CudaEngine
from spcli.engines.cuda.frame import Lane, Work
from spcli.engines.cuda.inputs import Kind, Scan, examine
from spcli.engines.cuda.launch import INTERPRETED
from spcli.engines.cuda.memory import device_errors
from spcli.engines.eager import EagerRunner, check_rows
from spcli.grid import fixed_grid
from spcli.program import HeightCompression, Program, ToDense
from spcli.sparse_tensor import SparseTensor


def bucket(rows: int) -> int:
    """A capacity for a list of `rows`: a tenth more, rounded up to one of four sizes in each octave."""
    wanted = max(64, rows + rows // 10)
    step = 1 << max(wanted.bit_length() - 3, 0)
    return -(-wanted // step) * step


@dataclass(frozen=True)
class Sizes:
    """Capacities for one kind of input: of the input itself, and of the lists made from it in order."""

    rows: int = 0
    lists: tuple[int, ...] = ()

    def grown(self, rows: int, lists: tuple[int, ...]) -> Sizes:
        """Sizes with room for these lengths, larger where there was too little."""
        known = self.lists or (-1,) * len(lists)
        return Sizes(
            bucket(rows) if rows > self.rows else self.rows,
            tuple(bucket(need) if need > have else have for need, have in zip(lists, known, strict=True)),
        )


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

    def learn(self, scan: Scan) -> tuple[Frame, Sizes]:
        """The frame of `scan`, and sizes that hold it."""
        engine = self.engine
        assert isinstance(engine, CudaEngine)
        room = LearningRoom()
        self.engine = engine.with_room(room)
        try:
            frame = self.compute(scan.content)
        finally:
            self.engine = engine
        return frame, Sizes().grown(scan.rows, tuple(int(total.item()) for total in room.totals))


@dataclass
class Slot:
    """One of the frames that may be in flight: its queue, and the lane that was last captured for it."""

    stream: Stream = field(default_factory=Stream)
    lane: Lane | None = None
    busy: bool = False


class CudaRunner:
    """Replays a graph a frame. Up to `depth` frames are in flight, each in buffers and on a stream of its own."""

    depth = 3

    @device_errors()
    def __init__(self, engine: CudaEngine, program: Program, parameters: Mapping[str, LayerParameters], want: Want):
        self._learner = LearningRunner(engine, program, parameters, want)
        self._work = Work(engine, program, want, self._learner)
        # Dense outputs and folded heights are sized by the shape: then every shape is captured for itself.
        self._any_shape = not any(isinstance(op, ToDense | HeightCompression) for op in program.value_ops)
        spec = program.voxelize
        self._grid = None if spec is None or spec.point_cloud_range is None else fixed_grid(spec)
        self._sizes: dict[Kind, Sizes] = {}
        self._slots = [Slot() for _ in range(self.depth)]
        self._flying: dict[int, tuple[Scan, Slot]] = {}
        self._done: dict[int, Frame | Exception] = {}
        self._tickets = 0

    @device_errors()
    def submit(self, scan: Points | SparseTensor) -> int:
        """Begin one frame and return its ticket; returns at once except for the first scan of a kind."""
        if isinstance(scan, SparseTensor):
            check_rows(scan)
        examined = examine(scan, self._work.program.voxelize, self._grid, self._any_shape)
        self._tickets += 1
        if examined.kind not in self._sizes:
            self._done[self._tickets], self._sizes[examined.kind] = self._learner.learn(examined)
        else:
            site_shapes(self._work.program, examined.spatial_shape)  # a graph does not refuse what leaves no output
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
        scan, slot = self._flying.pop(ticket)
        try:
            return self._finish(scan, slot)
        finally:
            slot.busy = False

    def _start(self, ticket: int, scan: Scan) -> None:
        slot = next((slot for slot in self._slots if not slot.busy), None)
        if slot is None:  # more than `depth`: the oldest has to end first
            self._end_oldest()
            slot = next(slot for slot in self._slots if not slot.busy)
        self._run(scan, slot, self._sizes[scan.kind].lists)
        slot.busy = True
        self._flying[ticket] = (scan, slot)

    def _end_oldest(self) -> None:
        """Waits for the oldest frame; what went wrong with it is its own caller's to hear."""
        oldest = next(iter(self._flying))
        try:
            self._done[oldest] = self.result(oldest)
        except Exception as error:
            self._done[oldest] = error

    def _run(self, scan: Scan, slot: Slot, lists: tuple[int, ...]) -> None:
        sizes = self._sizes[scan.kind].grown(scan.rows, lists)
        if slot.lane is None or not slot.lane.fits(scan.kind, sizes.rows, sizes.lists):
            slot.lane = None  # its memory is free for the new one
            slot.lane = Lane(self._work, scan, slot.stream, sizes.rows, sizes.lists)
        self._sizes[scan.kind] = sizes  # only now: where there was no memory for them, smaller scans still fit
        slot.lane.start(scan)

    def _finish(self, scan: Scan, slot: Slot) -> Frame:
        while True:
            assert slot.lane is not None
            lengths = slot.lane.wait()
            if all(length <= capacity for length, capacity in zip(lengths, slot.lane.lists, strict=True)):
                return slot.lane.frame(scan)
            self._run(scan, slot, lengths)
