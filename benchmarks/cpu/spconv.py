"""spconv on the CPU as a contestant: the same program with its own layers, its own voxelizer.

Its CPU scatter races on more than one thread and then gives wrong features, so it runs on one. In evaluation its CPU
layers refuse a bias.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import spconv.pytorch as spconv
import torch
from spconv.pytorch import ops

from benchmarks.common.spconv_network import Peer, host_points, voxelizer
from benchmarks.common.workload import Workload


class Clock:
    """Adds up the time spconv spends on indice pairs, by standing in for the function that finds them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._find = ops.get_indice_pairs
        ops.get_indice_pairs = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The pairs, timed."""
        started = perf_counter()
        found = self._find(*args, **kwargs)
        self.seconds += perf_counter() - started
        return found


class Contestant:
    """Times spconv's voxelizer with a mean, and its network; indice pairs apart from the rest."""

    def __init__(self, workload: Workload, threads: int) -> None:
        if threads != 1:
            raise ValueError("spconv's CPU features are right on one thread only")
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        for info in workload.network.layers:
            if info.key is not None and f"{info.name}.bias" in info.parameters:
                raise TypeError(f"{info.name} has a bias, which spconv's CPU layers refuse in evaluation")
        self._network = Peer(workload.network, workload.parameters)
        self._features = torch.from_numpy(workload.tensor.features)
        self._indices = torch.from_numpy(workload.tensor.indices)
        self._shape = list(workload.tensor.spatial_shape)
        self._points, self._voxelizer = host_points(workload), voxelizer(workload, "cpu")
        self._clock = Clock()

    def round(self) -> dict[str, float]:
        """Seconds of each stage; what is not spent on indice pairs is convolution, norm and activation."""
        seconds = {}
        if self._voxelizer is not None:
            started = perf_counter()
            points, _, counts = self._voxelizer(self._points)
            points.sum(dim=1).div_(counts.clamp(min=1).view(-1, 1).type_as(points))
            seconds["voxelize"] = perf_counter() - started
        self._clock.seconds = 0.0
        started = perf_counter()
        self._forward()
        network = perf_counter() - started
        rulebooks = self._clock.seconds
        return seconds | {"rulebooks": rulebooks, "convolution": network - rulebooks, "network": network}

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and features of the last layer, in spconv's own order."""
        result = self._forward()
        return result.indices.numpy(), result.features.numpy()

    def _forward(self) -> Any:
        return self._network(spconv.SparseConvTensor(self._features, self._indices, self._shape, 1))
