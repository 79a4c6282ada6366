"""spcli as a contestant."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from benchmarks.common.workload import Workload
from spcli.config import load_config
from spcli.engines import load_engine
from spcli.engines.base import Want
from spcli.engines.cpu import set_threads
from spcli.weights import fold


class Contestant:
    """Times the voxelizer and a whole frame; the runner times its phases."""

    def __init__(self, workload: Workload, threads: int) -> None:
        self._engine = load_engine("cpu")
        set_threads(threads)
        self._points, self._tensor = workload.points, workload.tensor
        self._spec = load_config(workload.config).voxelize
        network = workload.network
        self._name = network.program.output
        want = Want((self._name,), counts=False)
        self._runner = self._engine.compile(network.program, fold(network, workload.parameters), want)

    def round(self) -> dict[str, float]:
        """Seconds of each stage. What hands the tensor over counts as part of the rulebooks."""
        assert self._spec is not None
        started = perf_counter()
        voxels = self._engine.voxelize(self._points, self._spec)
        voxelized = perf_counter()
        del voxels
        begun = perf_counter()
        frame = self._runner.result(self._runner.submit(self._tensor))
        done = perf_counter()
        phases = frame.time_s
        return {
            "voxelize": voxelized - started,
            "rulebooks": phases["voxelize"] + phases["index"],
            "convolution": phases["value"],
            "network": done - begun,
        }

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and features of the last layer."""
        tensor = self._runner.result(self._runner.submit(self._tensor)).outputs[self._name]
        return tensor.indices, tensor.features
