"""spconv on CUDA as a contestant: its voxelizer, its layers, torch's batch norm and ReLU, as its users have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import spconv.pytorch as spconv
import torch
from spconv import constants
from spconv.cppconstants import CPU_ONLY_BUILD
from spconv.pytorch import ops

from benchmarks.common.spconv_network import Peer, host_points, voxelizer
from benchmarks.common.workload import Workload
from benchmarks.cuda.card import Memory

FINDERS = ("get_indice_pairs", "get_indice_pairs_implicit_gemm")
WARM_UP = 5  # frames: spconv tries its kernels out on the first ones


class Spans:
    """Stretches of the current stream, each between two events, added up by stage."""

    def __init__(self) -> None:
        self._spans: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """What is started inside belongs to `stage`."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._spans.append((stage, begin, end))

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, once the device is done."""
        torch.cuda.synchronize()
        total = {"maps": 0.0}
        for stage, begin, end in self._spans:
            total[stage] = total.get(stage, 0.0) + begin.elapsed_time(end) / 1000
        return total


class Contestant:
    """spconv in one number format.

    Attributes:
        memory: bytes that the first frames took at most.

    Raises:
        ImportError: spconv is a build without CUDA.
    """

    def __init__(self, workload: Workload, dtype: str, warm_up: int = WARM_UP) -> None:
        if CPU_ONLY_BUILD:
            raise ImportError("the spconv that is installed is a build without CUDA")
        self._kind, self._tf32 = torch.float16 if dtype == "float16" else torch.float32, dtype == "tf32"
        self._shape = list(workload.tensor.spatial_shape)
        self._host = host_points(workload)
        with Memory() as memory:
            self._network = Peer(workload.network, workload.parameters).cuda().to(self._kind)
            self._points = self._host.cuda()
            self._indices = torch.from_numpy(workload.tensor.indices).cuda()
            self._features = torch.from_numpy(workload.tensor.features).cuda().to(self._kind)
            self._voxelizer = voxelizer(workload, "cuda:0")
            for _ in range(warm_up):
                self.round()
        self.memory = memory.peak

    def round(self) -> dict[str, float]:
        """Seconds of one frame's stages and of all, from points on the device to features there.

        Where its voxelizer cannot do what is asked a frame begins with the voxels, and there is no total.
        """
        spans = Spans()
        with _settings(self._tf32), _timed_finders(spans), spans.of("total"):
            with spans.of("voxelize"):
                voxels = self._voxelized(self._points)
            with spans.of("network"):
                self._network(voxels)
        seconds = spans.seconds()
        seconds["convolutions"] = seconds["network"] - seconds["maps"]
        if self._voxelizer is None:
            del seconds["voxelize"], seconds["total"]
        return seconds

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and features of the last layer over the voxels that the CPU made, in canonical order."""
        with _settings(self._tf32):
            result = self._network(self._tensor(self._indices, self._features))
        indices, features = result.indices.cpu().numpy(), result.features.float().cpu().numpy()
        order = np.lexsort(indices.T[::-1])
        return indices[order], features[order]

    def frames_a_second(self, count: int) -> float:
        """Frames a second of a stream, host points to host features, one after another."""
        with _settings(self._tf32):
            started = perf_counter()
            for _ in range(count):
                result = self._network(self._voxelized(self._host.cuda()))
                result.features.float().cpu(), result.indices.cpu()
            return count / (perf_counter() - started)

    def _voxelized(self, points: torch.Tensor) -> Any:
        if self._voxelizer is None:
            return self._tensor(self._indices, self._features)
        slots, sites, counts = self._voxelizer(points)
        means = slots.sum(dim=1) / counts.clamp(min=1).view(-1, 1).to(slots.dtype)
        return self._tensor(torch.nn.functional.pad(sites, (1, 0)), means.to(self._kind))

    def _tensor(self, indices: torch.Tensor, features: torch.Tensor) -> Any:
        return spconv.SparseConvTensor(features, indices, self._shape, 1)


@contextmanager
def _settings(tf32: bool) -> Iterator[None]:
    """No gradients; tf32 in spconv's products and in torch's, or in neither."""
    products = torch.backends.cuda.matmul
    before = constants.SPCONV_ALLOW_TF32, products.allow_tf32
    constants.SPCONV_ALLOW_TF32 = products.allow_tf32 = tf32
    try:
        with torch.no_grad():
            yield
    finally:
        constants.SPCONV_ALLOW_TF32, products.allow_tf32 = before


@contextmanager
def _timed_finders(spans: Spans) -> Iterator[None]:
    """Spans of "maps" around the functions that find indice pairs."""
    finders = {name: getattr(ops, name) for name in FINDERS}

    def timed(find: Callable[..., Any]) -> Callable[..., Any]:
        def inside(*args: Any, **kwargs: Any) -> Any:
            with spans.of("maps"):
                return find(*args, **kwargs)

        return inside

    for name, find in finders.items():
        setattr(ops, name, timed(find))
    try:
        yield
    finally:
        for name, find in finders.items():
            setattr(ops, name, find)
