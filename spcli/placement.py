"""Where sites lie in metres: from sites in z, y, x to points in x, y, z and back.

Voxel sizes, ranges and points are in x, y, z order, as every LiDAR configuration has them; sites, shapes and strides
are in z, y, x order, as spconv's are. Only this file turns one into the other; `grid` defines the cells that a scan's
points fall into.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from spcli.grid import VoxelGrid

XYZ = tuple[float, float, float]


class Placement(Struct, frozen=True):
    """Where the sites of one set lie.

    Site o covers the voxels `stride * o` to `stride * o + stride - 1` on every axis.

    Attributes:
        voxel_size: metres, x, y, z.
        origin: metres in float64, x, y, z: the lower corner of the voxel (0, 0, 0).
        stride: voxels that a site spans, z, y, x (2-D: y, x).
    """

    voxel_size: XYZ
    origin: XYZ
    stride: tuple[float, ...] = (1, 1, 1)

    @classmethod
    def from_grid(cls, grid: VoxelGrid) -> Placement:
        """Of the voxels of a grid, in the float32 numbers that the voxelizer computes with."""
        return cls(_xyz(grid.voxel_size.tolist()), _xyz(grid.origin.tolist()))

    @classmethod
    def from_meta(cls, meta: object, ndim: int = 3) -> Placement | None:
        """What the `meta` of a file says of its sites with `ndim` axes; None where it does not say it all.

        `voxel_size` must be three finite numbers above 0, and `point_cloud_range` six finite numbers, of which the
        first three are the origin. `stride`, where there is one, must be `ndim` finite numbers above 0.
        """
        if not isinstance(meta, Mapping):
            return None
        size, limits = _numbers(meta.get("voxel_size"), 3), _numbers(meta.get("point_cloud_range"), 6)
        stride = stride_of(meta, ndim) if "stride" in meta else (1,) * ndim
        if size is None or limits is None or stride is None or min(size) <= 0:
            return None
        return cls(_xyz(size), _xyz(limits), stride)

    @classmethod
    def in_cells(cls, ndim: int) -> Placement:
        """Cells instead of metres: the centre of site (z, y, x) is at x, y, z."""
        return cls((1.0, 1.0, 1.0), (-0.5, -0.5, -0.5), (1,) * ndim)

    def strided(self, stride: tuple[float, ...]) -> Placement:
        """Of sites that span `stride` voxels of the same grid."""
        return structs.replace(self, stride=stride)

    @property
    def cell(self) -> tuple[float, ...]:
        """Metres that a site spans, x, y, z (2-D: x, y)."""
        return tuple(size * stride for size, stride in zip(self.voxel_size, reversed(self.stride), strict=False))

    def centres(self, indices: NDArray[np.int32]) -> NDArray[np.float64]:
        """Metres `[N, 3]`, x, y, z, of the centres of sites `[N, 1 + D]`; 2-D ones lie at height 0."""
        ndim = len(self.stride)
        xyz = np.zeros((len(indices), 3))
        xyz[:, :ndim] = self.origin[:ndim] + (indices[:, :0:-1] + 0.5) * np.array(self.cell)
        return xyz

    def site_at(self, xyz: XYZ) -> tuple[int, ...] | None:
        """The site, z, y, x, whose cell holds a point; None where float32 cannot count the voxels to it.

        The voxel is that of the voxelizer, by division in float32. A site of less than a voxel is the one that begins
        where its voxel does.
        """
        with np.errstate(all="ignore"):
            point, origin, size = (np.array(numbers, np.float32) for numbers in (xyz, self.origin, self.voxel_size))
            voxel = np.floor((point - origin) / size).astype(np.float64)
        if not np.isfinite(voxel).all():
            return None
        zyx = voxel[::-1][-len(self.stride) :]
        return tuple(int(cell) for cell in np.floor(zyx / np.array(self.stride, np.float64)))


def stride_of(meta: Mapping[str, object], ndim: int) -> tuple[float, ...] | None:
    """Voxels that a site of a file spans, z, y, x, by its `meta`; None where these are not `ndim` numbers above 0."""
    stride = _numbers(meta.get("stride"), ndim)
    return stride if stride is not None and min(stride, default=0) > 0 else None


def _numbers(values: object, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers as they are, None where `values` is anything else."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    good = all(isinstance(n, int | float) and abs(n) <= sys.float_info.max for n in values)
    return tuple(values) if good and not any(isinstance(n, bool) for n in values) else None


def _xyz(numbers: list[float] | tuple[float, ...]) -> XYZ:
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
