"""Every operation of the protocol on host memory; each method's contract is in `engines/base.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Engine, Epilogue, KernelCounts, LayerParameters, Points, Runner, Voxels, Want
from spcli.engines.cpu import convolve, pointwise, pool, rulebook
from spcli.engines.cpu.convolve import CpuPacked, Rows
from spcli.engines.cpu.library import aligned_empty
from spcli.engines.cpu.rulebook import CpuMap, CpuSites
from spcli.engines.cpu.runner import CpuRunner
from spcli.engines.cpu.voxelize import voxelize
from spcli.geometry import ConvGeometry
from spcli.grid import VoxelSpec
from spcli.program import Activation, Program
from spcli.rulebook import Rulebook, RuleCounts


class CpuEngine:
    """C++ kernels on numpy arrays, float32."""

    name = "cpu"
    dtype = "float32"
    dtypes: tuple[str, ...] = ("float32",)

    def with_dtype(self, dtype: str) -> Engine:
        """Itself: there is one dtype."""
        return self

    def upload(self, array: NDArray[Any]) -> NDArray[Any]:
        """An aligned copy of feature rows; other arrays are taken as they are."""
        if array.dtype != np.float32 or array.ndim != 2:
            return np.ascontiguousarray(array)
        copy = aligned_empty(*array.shape)
        copy[...] = array
        return copy

    def download(self, array: NDArray[Any], count: int | None = None) -> NDArray[Any]:
        """A contiguous copy that the caller owns."""
        return np.array(array[:count])

    def voxelize(self, points: Points, spec: VoxelSpec, *, point_map: bool = False, hard: bool = False) -> Voxels:
        """Points to voxels."""
        return voxelize(points, spec, point_map=point_map, hard=hard)

    def sites(self, indices: NDArray[np.int32], spatial_shape: tuple[int, ...], batch_size: int) -> CpuSites:
        """Sites from canonical indices."""
        return rulebook.make_sites(indices, spatial_shape, batch_size)

    def indices(self, sites: CpuSites) -> NDArray[np.int32]:
        """Indices of sites."""
        return sites.indices()

    def count(self, sites: CpuSites) -> int:
        """Number of active sites."""
        return sites.count

    def rows(self, sites: CpuSites) -> int:
        """Number of active sites."""
        return sites.count

    def flatten(self, sites: CpuSites) -> CpuSites:
        """2-D sites with at least one active z."""
        return rulebook.flatten(sites)

    def collapse(self, sites: CpuSites) -> CpuSites:
        """One row per scan."""
        return rulebook.collapse(sites)

    def build(self, sites: CpuSites, geometry: ConvGeometry) -> CpuMap:
        """The map of a convolution."""
        return rulebook.build(sites, geometry)

    def invert(self, source: CpuMap) -> CpuMap:
        """The map with its ends swapped."""
        return rulebook.invert(source)

    def rulebook(self, source: CpuMap) -> Rulebook:
        """The canonical rules of a map."""
        return rulebook.rulebook(source)

    def rule_counts(self, source: CpuMap, fullest: bool = True) -> RuleCounts:
        """Sizes of a map."""
        return rulebook.rule_counts(source, fullest)

    def pack(self, parameters: LayerParameters) -> CpuPacked:
        """Weights in the kernel's order."""
        return convolve.pack(parameters)

    def convolve(
        self, inputs: Rows, source: CpuMap | None, packed: CpuPacked, epilogue: Epilogue, out: Rows | None = None
    ) -> Rows:
        """Convolution, or a Linear layer."""
        return convolve.convolve(inputs, source, packed, epilogue, out)

    def pool(self, inputs: Rows, source: CpuMap, reduce: str, out: Rows | None = None) -> Rows:
        """Pooling over windows."""
        return pool.pool(inputs, source, reduce, out)

    def global_pool(self, inputs: Rows, sites: CpuSites, reduce: str) -> Rows:
        """Pooling over scans."""
        return pool.global_pool(inputs, sites, reduce)

    def concat(self, inputs: Sequence[Rows], out: Rows | None = None) -> Rows:
        """Channels side by side."""
        return pointwise.concat(inputs, out)

    def add(self, inputs: Sequence[Rows], activation: Activation, out: Rows | None = None) -> Rows:
        """Sum, then activation."""
        return pointwise.add(inputs, activation, out)

    def layer_norm(
        self, inputs: Rows, parameters: LayerParameters, eps: float, epilogue: Epilogue, out: Rows | None = None
    ) -> Rows:
        """Layer norm, then the epilogue."""
        return pointwise.layer_norm(inputs, parameters, eps, epilogue, out)

    def channel_reduction(self, inputs: Rows, channels: int) -> Rows:
        """Sums of neighbouring channels."""
        return pointwise.channel_reduction(inputs, channels)

    def height_compression(self, inputs: Rows, sites: CpuSites, flat: CpuSites) -> Rows:
        """Height into channels."""
        return pointwise.height_compression(inputs, sites, flat)

    def to_dense(self, inputs: Rows, sites: CpuSites) -> NDArray[np.float32]:
        """A dense array."""
        return pointwise.to_dense(inputs, sites)

    def empty(self, rows: int, channels: int) -> Rows:
        """Uninitialised rows."""
        return aligned_empty(rows, channels)

    def compile(
        self, program: Program, parameters: Mapping[str, LayerParameters], want: Want, graph: bool = True
    ) -> Runner:
        """A program made ready; there are no graphs here."""
        return CpuRunner(self, program, parameters, want)

    def counted_kernels(self) -> AbstractContextManager[KernelCounts]:
        """None is compiled here."""
        return nullcontext(KernelCounts())
