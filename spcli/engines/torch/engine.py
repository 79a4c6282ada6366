"""Every operation of the protocol as torch operations; each method's contract is in `engines/base.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.base import Engine, Epilogue, KernelCounts, LayerParameters, Points, Runner, Voxels, Want
from spcli.engines.cpu.engine import CpuEngine
from spcli.engines.cpu.rulebook import CpuSites
from spcli.engines.tensors import STORAGE, stored, to_host, torch_identity
from spcli.engines.torch import convolve, pointwise, pool, rulebook
from spcli.engines.torch.convolve import TorchPacked
from spcli.engines.torch.rulebook import TorchMap
from spcli.engines.torch.runner import TorchRunner
from spcli.geometry import ConvGeometry
from spcli.grid import VoxelSpec
from spcli.program import Activation, Program


class TorchEngine:
    """Sites and maps by the CPU engine, values by torch on any of its devices.

    Slower than kernels of its own would be, and at home wherever torch is: old cards, AMD's, or the processor, where
    it is a second opinion on the other engines.
    """

    name = label = "torch"
    dtypes: tuple[str, ...] = tuple(STORAGE)

    invert = staticmethod(rulebook.invert)
    rule_counts = staticmethod(rulebook.rule_counts)
    concat = staticmethod(pointwise.concat)
    height_compression = staticmethod(pointwise.height_compression)
    to_dense = staticmethod(pointwise.to_dense)
    download = staticmethod(to_host)
    # Last, since inside the class they hide the modules of their names.
    convolve = staticmethod(convolve.convolve)
    rulebook = staticmethod(rulebook.rulebook)

    def __init__(self, device: str = "cpu", dtype: str = "float32") -> None:
        self.device = device
        self.dtype = dtype
        self._where = torch.device(device)
        self._host = CpuEngine()
        self.sites = self._host.sites
        self.indices = self._host.indices
        self.flatten = self._host.flatten
        self.collapse = self._host.collapse
        self.count = self._host.count
        self.rows = self._host.rows

    def with_dtype(self, dtype: str) -> Engine:
        """This engine with features in another format."""
        return type(self)(self.device, dtype)

    def identity(self) -> dict[str, str]:
        """The card, the driver and torch."""
        return dict(torch_identity(self.device))

    def blocks(self, in_channels: int, out_channels: int, volume: int) -> str:
        """Nothing that is known: torch's libraries decide."""
        return ""

    def upload(self, array: NDArray[Any]) -> Tensor:
        """A copy on the device; floats in the engine's format."""
        tensor = torch.from_numpy(np.array(array, order="C")).to(self._where)
        return stored(tensor, self.dtype) if tensor.dtype == torch.float32 else tensor

    def voxelize(self, points: Points, spec: VoxelSpec, *, point_map: bool = False, hard: bool = False) -> Voxels:
        """Points to voxels, on the host."""
        made = self._host.voxelize(points, spec, point_map=point_map, hard=hard)
        rows, num_points, point_rows, slots = (
            None if each is None else torch.from_numpy(np.array(each))
            for each in (made.features, made.num_points, made.point_rows, made.points)
        )
        assert rows is not None
        features = stored(rows.to(self._where), self.dtype)
        return replace(made, features=features, num_points=num_points, point_rows=point_rows, points=slots)

    def build(self, sites: CpuSites, geometry: ConvGeometry) -> TorchMap:
        """The map of a convolution."""
        return rulebook.build(sites, geometry, self._where)

    def pack(self, parameters: LayerParameters) -> TorchPacked:
        """Weights on the device in the engine's format."""
        return convolve.pack(parameters, self.dtype, self._where)

    def pool(self, inputs: Tensor, source: TorchMap, reduce: str, out: Tensor | None = None) -> Tensor:
        """Pooling over windows."""
        return pool.pool(inputs, source, reduce, self.dtype, out)

    def global_pool(self, inputs: Tensor, sites: CpuSites, reduce: str) -> Tensor:
        """Pooling over scans."""
        return pool.global_pool(inputs, sites, reduce, self.dtype)

    def add(self, inputs: Sequence[Tensor], activation: Activation, out: Tensor | None = None) -> Tensor:
        """Sum, then activation."""
        return pointwise.add(inputs, activation, self.dtype, out)

    def layer_norm(
        self, inputs: Tensor, parameters: LayerParameters, eps: float, epilogue: Epilogue, out: Tensor | None = None
    ) -> Tensor:
        """Layer norm, then the epilogue."""
        return pointwise.layer_norm(inputs, parameters, eps, epilogue, self.dtype, out)

    def channel_reduction(self, inputs: Tensor, channels: int) -> Tensor:
        """Sums of neighbouring channels."""
        return pointwise.channel_reduction(inputs, channels, self.dtype)

    def empty(self, rows: int, channels: int) -> Tensor:
        """Uninitialised rows in the engine's format."""
        return torch.empty((rows, channels), dtype=STORAGE[self.dtype], device=self._where)

    def compile(
        self, program: Program, parameters: Mapping[str, LayerParameters], want: Want, graph: bool = True
    ) -> Runner:
        """A program made ready; there are no graphs here."""
        return TorchRunner(self, program, parameters, want, self._where)

    def counted_kernels(self) -> AbstractContextManager[KernelCounts]:
        """None is compiled here."""
        return nullcontext(KernelCounts())
