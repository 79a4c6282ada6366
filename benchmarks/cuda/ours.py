"""spcli's CUDA engine as a contestant: phases by graphs of the first part, of the first two, and of all of a frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np

from benchmarks.common.workload import Workload
from benchmarks.cuda.card import Memory, seconds_of
from spcli.engines import load_engine
from spcli.engines.base import Want
from spcli.engines.cuda.capacity import FixedCapacity
from spcli.engines.cuda.capture import Stream
from spcli.engines.cuda.engine import CudaEngine
from spcli.engines.cuda.inputs import PointsInput, PointsKind, examine
from spcli.engines.cuda.runner import CudaRunner, LearningRunner
from spcli.engines.cuda.runs import VoxelOptions
from spcli.engines.cuda.voxelize import record
from spcli.engines.eager import Index, walk_index
from spcli.sparse_tensor import SparseTensor
from spcli.weights import fold

STAGES = ("voxelize", "maps", "convolutions")


class Contestant:
    """The engine in one number format.

    Attributes:
        memory: bytes that the runner's first frames took at most, one frame in flight.
    """

    def __init__(self, workload: Workload, dtype: str) -> None:
        engine = load_engine("cuda").with_dtype(dtype)
        assert isinstance(engine, CudaEngine)
        self._points, self._engine, program = workload.points, engine, workload.network.program
        parameters = fold(workload.network, workload.parameters)
        want = Want((program.output,), counts=False)
        self._output, self._program = program.output, program
        with Memory() as memory:
            self._runner = CudaRunner(engine, program, parameters, want)
            self._tensor = [self._frame() for _ in range(2)][-1]
        self.memory = memory.peak
        self._learner = LearningRunner(engine, program, parameters, want)
        self._graphs = self._captured()

    def round(self) -> dict[str, float]:
        """Seconds of one frame's stages and of all, from points on the device to features there.

        A stage is the time that its part adds: each graph holds the frame up to the end of one stage, since what one
        stage leaves to the next may be made where it is first needed.
        """
        seconds, before = {}, 0.0
        for stage, replay in zip(STAGES, self._graphs, strict=True):
            until = seconds_of(replay)
            seconds[stage] = until - before
            before = until
        return seconds | {"network": seconds["maps"] + seconds["convolutions"], "total": before}

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and features of the last layer, through the runner's graph."""
        return self._tensor.indices, self._tensor.features

    def frames_a_second(self, count: int) -> float:
        """Frames a second of a stream, host points to host features, as many in flight as the runner takes."""
        self._stream_of(self._runner.proved + self._runner.depth)  # captures what is not yet
        started = perf_counter()
        self._stream_of(count)
        return count / (perf_counter() - started)

    def _stream_of(self, count: int) -> None:
        flying: deque[int] = deque()
        for _ in range(count):
            if len(flying) == self._runner.depth:
                self._runner.result(flying.popleft())
            flying.append(self._runner.submit(self._points))
        while flying:
            self._runner.result(flying.popleft())

    def _frame(self) -> SparseTensor:
        return self._runner.result(self._runner.submit(self._points)).outputs[self._output]

    def _captured(self) -> list[Callable[[], None]]:
        runner = self._runner
        scan = examine(self._points, self._program.voxelize, runner._grid, runner._any_shape)
        assert isinstance(scan.kind, PointsKind) and scan.grid is not None
        _, sizes = self._learner.learn(scan)
        self._lists, self._stream = sizes.lists, Stream()
        with self._stream:
            self._input = PointsInput(scan.kind, sizes.rows, scan.grid)
            self._input.fill(scan)
        self._stream.wait()
        return [self._stream.capture(partial(self._until, stage))[0].replay for stage in STAGES]

    def _until(self, stage: str) -> object:
        """A frame's work up to the end of a stage."""
        spec, capacity = self._program.voxelize, FixedCapacity(self._lists)
        assert spec is not None
        voxels = record(self._input.points, self._input.grid, spec, capacity, self._engine.dtype, VoxelOptions())
        if stage == "voxelize":
            return voxels
        index: Index = walk_index(self._engine.with_capacity(capacity), self._program, voxels.sites)
        return index if stage == "maps" else self._learner.walk(index).run(voxels.features)
