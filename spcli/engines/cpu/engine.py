"""Every operation of the protocol on host memory; each method's contract is in `engines/base.py`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Engine, KernelCounts, LayerParameters, Runner, Want
from spcli.engines.cpu import convolve, pointwise, pool, rulebook
from spcli.engines.cpu.library import aligned_empty
from spcli.engines.cpu.rulebook import CpuSites
from spcli.engines.cpu.runner import CpuRunner
from spcli.engines.cpu.voxelize import voxelize
from spcli.program import Program


class CpuEngine:
    """C++ kernels on numpy arrays, float32."""

    name = label = device = "cpu"
    dtype = "float32"
    dtypes: tuple[str, ...] = ("float32",)

    voxelize = staticmethod(voxelize)
    sites = staticmethod(rulebook.make_sites)
    flatten = staticmethod(rulebook.flatten)
    collapse = staticmethod(rulebook.collapse)
    build = staticmethod(rulebook.build)
    invert = staticmethod(rulebook.invert)
    rule_counts = staticmethod(rulebook.rule_counts)
    pack = staticmethod(convolve.pack)
    convolve = staticmethod(convolve.convolve)
    global_pool = staticmethod(pool.global_pool)
    concat = staticmethod(pointwise.concat)
    add = staticmethod(pointwise.add)
    layer_norm = staticmethod(pointwise.layer_norm)
    channel_reduction = staticmethod(pointwise.channel_reduction)
    height_compression = staticmethod(pointwise.height_compression)
    to_dense = staticmethod(pointwise.to_dense)
    empty = staticmethod(aligned_empty)
    # Last, since inside the class they hide the modules of their names.
    rulebook = staticmethod(rulebook.rulebook)
    pool = staticmethod(pool.pool)

    def with_dtype(self, dtype: str) -> Engine:
        """Itself: there is one dtype."""
        return self

    def identity(self) -> dict[str, str]:
        """Nothing: the bits are the same on every machine."""
        return {}

    def blocks(self, in_channels: int, out_channels: int, volume: int) -> str:
        """Nothing: the bits do not depend on how a layer is cut."""
        return ""

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

    def indices(self, sites: CpuSites) -> NDArray[np.int32]:
        """Indices of sites."""
        return sites.indices()

    def count(self, sites: CpuSites) -> int:
        """Number of active sites."""
        return sites.count

    def rows(self, sites: CpuSites) -> int:
        """Number of active sites."""
        return sites.count

    def compile(
        self, program: Program, parameters: Mapping[str, LayerParameters], want: Want, graph: bool = True
    ) -> Runner:
        """A program made ready; there are no graphs here."""
        return CpuRunner(self, program, parameters, want)

    def counted_kernels(self) -> AbstractContextManager[KernelCounts]:
        """None is compiled here."""
        return nullcontext(KernelCounts())
