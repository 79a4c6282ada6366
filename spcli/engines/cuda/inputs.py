"""What a frame begins with, in buffers of a fixed size: filled on the host, copied while the device computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spcli.engines.base import Points
from spcli.engines.bounds import grid_of
from spcli.engines.checks import check_indices
from spcli.engines.cuda.arrays import empty
from spcli.engines.cuda.capture import host_buffer
from spcli.engines.cuda.points import DeviceGrid, DevicePoints
from spcli.engines.cuda.sites import CudaSites
from spcli.engines.tensors import STORAGE, rounded_to_tf32
from spcli.grid import VoxelGrid, VoxelSpec
from spcli.sparse_tensor import SparseTensor


class Mirror:
    """A tensor on the device and its image in host memory."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.host = host_buffer(shape, dtype)
        self.device = empty(shape, dtype)

    def fill(self, values: NDArray[Any]) -> None:
        """Write the first rows of the image and send them; `values` may be changed as soon as this returns."""
        rows = self.host[: len(values)]
        if rows.dtype == torch.bfloat16:
            rows.copy_(torch.from_numpy(np.array(values)))
        else:
            np.copyto(rows.numpy(), values, casting="same_kind")
        self.device[: len(values)].copy_(rows, non_blocking=True)


@dataclass(frozen=True)
class PointsKind:
    """What two scans must share to go through the same recording.

    Attributes:
        stride, xyz, features: the columns.
        spatial_shape: None where every shape will do.
    """

    stride: int
    xyz: tuple[int, int, int]
    features: tuple[int, ...]
    spatial_shape: tuple[int, ...] | None


@dataclass(frozen=True)
class TensorKind:
    """What two tensors must share to go through the same recording."""

    channels: int
    spatial_shape: tuple[int, ...]
    batch_size: int


Kind = PointsKind | TensorKind


@dataclass(frozen=True)
class ExaminedScan:
    """One input with what the host works out about it."""

    content: Points | SparseTensor
    grid: VoxelGrid | None
    kind: Kind

    @property
    def rows(self) -> int:
        """Points or sites."""
        content = self.content
        return len(content.values) if isinstance(content, Points) else len(content.indices)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """The shape of the input's sites."""
        if self.grid is not None:
            return self.grid.spatial_shape
        assert isinstance(self.content, SparseTensor)
        return self.content.spatial_shape

    @property
    def batch_size(self) -> int:
        """Scans in the batch."""
        return self.content.batch_size if isinstance(self.content, SparseTensor) else 1


def examine(
    content: Points | SparseTensor, spec: VoxelSpec | None, fixed: VoxelGrid | None, any_shape: bool
) -> ExaminedScan:
    """What kind of input this is.

    `fixed` is the grid of a specification with a range; `any_shape` holds where nothing of the program is sized by the
    shape of the grid.

    Raises:
        InputError: the sites of a tensor are not canonical; a graph would not notice.
    """
    if isinstance(content, SparseTensor):
        check_indices(content.indices, content.spatial_shape, content.batch_size)
        return ExaminedScan(
            content, None, TensorKind(content.features.shape[1], tuple(content.spatial_shape), content.batch_size)
        )
    assert spec is not None
    grid = fixed or grid_of(content, spec)
    shape = None if any_shape and fixed is None else grid.spatial_shape
    kind = PointsKind(content.values.shape[1], content.xyz, content.features, shape)
    return ExaminedScan(content, grid, kind)


class PointsInput:
    """Points and their grid, for scans of one kind with at most `capacity` points."""

    def __init__(self, kind: PointsKind, capacity: int, grid: VoxelGrid) -> None:
        self._values = Mirror((capacity, kind.stride), torch.float32)
        # How many points, the cells and shape of the grid, and (as float32 bits) its origin and voxel size: one copy.
        self._head = Mirror((13,), torch.int32)
        head = self._head.device
        metres = head[7:].view(torch.float32)
        self.points = DevicePoints(self._values.device, head[:1], kind.xyz, kind.features)
        self.grid = DeviceGrid(
            metres[:3], metres[3:], head[1:4], head[4:7], grid.cells, grid.spatial_shape, kind.spatial_shape is None
        )

    def fill(self, scan: ExaminedScan) -> None:
        """Send a scan to the device."""
        assert isinstance(scan.content, Points) and scan.grid is not None
        numbers = np.array([scan.rows, *scan.grid.cells, *scan.grid.spatial_shape], np.int32)
        metres = np.concatenate([scan.grid.origin, scan.grid.voxel_size]).astype(np.float32, copy=False)
        self._head.fill(np.concatenate([numbers, metres.view(np.int32)]))
        self._values.fill(scan.content.values)


class TensorInput:
    """Sites and features, for tensors of one kind with at most `capacity` sites."""

    def __init__(self, kind: TensorKind, capacity: int, dtype: str) -> None:
        self._tf32 = dtype == "tf32"
        self._indices = Mirror((capacity, 1 + len(kind.spatial_shape)), torch.int32)
        self._features = Mirror((capacity, kind.channels), STORAGE[dtype])
        self._total = Mirror((1,), torch.int32)
        shape = torch.tensor([1, *kind.spatial_shape][-3:], dtype=torch.int32)
        self.features = self._features.device
        self.sites = CudaSites(
            kind.spatial_shape, kind.batch_size, self._indices.device, self._total.device,
            shape.to(self._total.device.device),
        )  # fmt: skip

    def fill(self, scan: ExaminedScan) -> None:
        """Send a tensor to the device."""
        assert isinstance(scan.content, SparseTensor)
        features = scan.content.features
        if self._tf32:
            features = rounded_to_tf32(torch.from_numpy(np.array(features))).numpy()
        self._features.fill(features)
        self._indices.fill(scan.content.indices)
        self._total.fill(np.array([scan.rows], np.int32))
