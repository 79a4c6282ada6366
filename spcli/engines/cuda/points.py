"""Points and their grid on the device, as the voxelizer reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spcli.engines.cuda.arrays import upload
from spcli.grid import VoxelGrid

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class DevicePoints:
    """Points on the device.

    Attributes:
        values: float32 `[capacity, C]`, contiguous; rows from `total` on may hold anything.
        total: int32 `[1]`.
        xyz, features: numbers of the columns.
    """

    values: Tensor
    total: Tensor
    xyz: tuple[int, int, int]
    features: tuple[int, ...]

    @property
    def capacity(self) -> int:
        """Rows that are allocated."""
        return len(self.values)

    @property
    def layout(self) -> dict[str, object]:
        """How the kernels find the features."""
        first, channels = self.features[0] if self.features else 0, len(self.features)
        return {
            "STRIDE": self.values.shape[1],
            "COLUMNS": self.features,
            "CHANNELS": channels,
            "CONSECUTIVE": channels > 0 and self.features == tuple(range(first, first + channels)),
        }


@dataclass(frozen=True)
class DeviceGrid:
    """A grid on the device.

    Attributes:
        origin, voxel_size: float32 `[3]`, x, y, z.
        cells, shape: int32 `[3]`, z, y, x: cells a point can fall into, and cells of the sparse tensor.
        host_cells, spatial_shape: the same as the host knew them when the grid was made.
        grows: whether frames of one graph may bring other shapes; then only the device's values are right.
    """

    origin: Tensor
    voxel_size: Tensor
    cells: Tensor
    shape: Tensor
    host_cells: tuple[int, int, int]
    spatial_shape: tuple[int, ...]
    grows: bool = False

    @property
    def key_type(self) -> torch.dtype:
        """What a cell's number fits; its largest value is left for points in no cell."""
        return torch.int64 if self.grows or math.prod(self.host_cells) >= _INT32_MAX else torch.int32


def device_grid(grid: VoxelGrid) -> DeviceGrid:
    """A grid uploaded."""
    cells, shape = (upload(np.array(sizes, np.int32)) for sizes in (grid.cells, grid.spatial_shape))
    return DeviceGrid(upload(grid.origin), upload(grid.voxel_size), cells, shape, grid.cells, grid.spatial_shape)
