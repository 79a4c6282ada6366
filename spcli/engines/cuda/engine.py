"""Every operation of the protocol on a CUDA device; each method's contract is in `engines/base.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.base import Engine, Epilogue, KernelCounts, LayerParameters, Points, Runner, Voxels, Want
from spcli.engines.cuda import arrays, convolve, pointwise, pool, rulebook, rules, sites, voxelize
from spcli.engines.cuda.arrays import empty
from spcli.engines.cuda.blocks import blocks_for, describe
from spcli.engines.cuda.capacity import Capacity, ExactCapacity
from spcli.engines.cuda.compiled import counted_kernels
from spcli.engines.cuda.convolve import CudaPacked
from spcli.engines.cuda.launch import INTERPRETED
from spcli.engines.cuda.memory import device_errors
from spcli.engines.cuda.rulebook import CudaMap
from spcli.engines.cuda.runner import CudaRunner, StepRunner
from spcli.engines.cuda.runs import VoxelOptions
from spcli.engines.cuda.sites import CudaSites
from spcli.engines.tensors import STORAGE, torch_identity
from spcli.geometry import ConvGeometry
from spcli.grid import VoxelSpec
from spcli.program import Activation, Program


class CudaEngine:
    """Operations on device tensors. `capacity` decides how much is allocated for what only the device can count."""

    name = device = "cuda"
    label = "triton"
    dtypes: tuple[str, ...] = tuple(STORAGE)

    sites = staticmethod(sites.make_sites)
    collapse = staticmethod(rulebook.collapse)
    invert = staticmethod(rulebook.invert)
    rulebook = staticmethod(rules.rulebook)
    rule_counts = staticmethod(rules.rule_counts)
    convolve = staticmethod(convolve.convolve)
    concat = staticmethod(pointwise.concat)
    height_compression = staticmethod(pointwise.height_compression)
    to_dense = staticmethod(pointwise.to_dense)
    download = staticmethod(arrays.download)

    def __init__(self, dtype: str = "float32", capacity: Capacity | None = None) -> None:
        self.dtype = dtype
        self.capacity = ExactCapacity() if capacity is None else capacity

    def with_dtype(self, dtype: str) -> Engine:
        """This engine with features in another format."""
        return CudaEngine(dtype, self.capacity)

    def with_capacity(self, capacity: Capacity) -> CudaEngine:
        """This engine with other capacities."""
        return CudaEngine(self.dtype, capacity)

    def identity(self) -> dict[str, str]:
        """The card, the driver, torch and Triton."""
        card = {"torch": str(torch.__version__), "card": "the interpreter"} if INTERPRETED else torch_identity("cuda")
        return {**card, "triton": triton.__version__}

    def blocks(self, in_channels: int, out_channels: int, volume: int) -> str:
        """Rows, columns and depth of a block, taps of one product, warps and stages."""
        return describe(blocks_for(self.dtype, in_channels, out_channels, volume))

    def upload(self, array: NDArray[Any]) -> Tensor:
        """A copy on the device; floats in the engine's format."""
        return arrays.upload(array, self.dtype)

    @device_errors()
    def voxelize(self, points: Points, spec: VoxelSpec, *, point_map: bool = False, hard: bool = False) -> Voxels:
        """Points to voxels."""
        return voxelize.voxelize(points, spec, self.capacity, self.dtype, VoxelOptions(point_map, hard))

    def indices(self, sites: CudaSites) -> NDArray[np.int32]:
        """Host indices of sites."""
        return sites.host_indices()

    def count(self, sites: CudaSites) -> int:
        """Number of active sites; synchronises."""
        return sites.count()

    def rows(self, sites: CudaSites) -> int:
        """Rows that are allocated for sites."""
        return sites.capacity

    def flatten(self, sites: CudaSites) -> CudaSites:
        """2-D sites with at least one active z."""
        return rulebook.flatten(sites, self.capacity)

    def build(self, sites: CudaSites, geometry: ConvGeometry) -> CudaMap:
        """The map of a convolution."""
        return rulebook.build(sites, geometry, self.capacity)

    def pack(self, parameters: LayerParameters) -> CudaPacked:
        """Weights in the kernel's layout and the engine's format."""
        return convolve.pack(parameters, self.dtype)

    def pool(self, inputs: Tensor, source: CudaMap, reduce: str, out: Tensor | None = None) -> Tensor:
        """Pooling over windows."""
        return pool.pool(inputs, source, reduce, self.dtype, out)

    def global_pool(self, inputs: Tensor, sites: CudaSites, reduce: str) -> Tensor:
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
        return empty((rows, channels), STORAGE[self.dtype])

    @device_errors()
    def compile(
        self, program: Program, parameters: Mapping[str, LayerParameters], want: Want, graph: bool = True
    ) -> Runner:
        """A program made ready; a frame is one CUDA graph unless `graph` is False."""
        return (CudaRunner if graph else StepRunner)(self, program, parameters, want)

    def counted_kernels(self) -> AbstractContextManager[KernelCounts]:
        """Counts what Triton compiles or finds in its cache."""
        return counted_kernels()
