"""Active sites on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.cuda.arrays import download


@dataclass(frozen=True)
class CudaSites:
    """Active sites in canonical order; how many and in which shape, the device knows.

    Attributes:
        spatial_shape: the D sizes, z, y, x, as the host knew them when the sites were made; empty for the one site a
            scan that a global pooling leaves. In a graph that serves grids of several shapes only `shape` is right.
        batch_size: scans in the batch.
        indices: int32 `[capacity, 1 + D]`; rows from `total` on are undefined.
        total: int32 `[1]`, number of active sites, never above the capacity.
        shape: int32 `[3]`, z, y, x on the device; a plane has z = 1.
        grows: whether frames of one graph may bring other shapes, so that nothing may be sized by the shape.
    """

    spatial_shape: tuple[int, ...]
    batch_size: int
    indices: Tensor
    total: Tensor
    shape: Tensor
    grows: bool = False

    @property
    def capacity(self) -> int:
        """Rows that are allocated."""
        return len(self.indices)

    @property
    def ndim(self) -> int:
        """Spatial axes, D."""
        return len(self.spatial_shape)

    def count(self) -> int:
        """Number of active sites; synchronises."""
        return int(self.total.item())

    def host_indices(self) -> NDArray[np.int32]:
        """int32 `[N, 1 + D]`, newly written; synchronises."""
        return download(self.indices, self.count())
