"""Metres and integer sites: what a voxel is.

Parameters are given in x, y, z order as every LiDAR configuration does; sites and shapes are in z, y, x order as
spconv's are. This file says which cells a grid has; `placement` turns sites into metres and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spcli.errors import ConfigError, Problem

Reduce = Literal["mean", "first", "max", "sum"]


@dataclass(frozen=True)
class FeatureColumn:
    """One feature channel of a voxel, made from a column of the file before points are reduced.

    The channel is `tanh(column / scale)` with `tanh` and `scale` as set, or the constant `value` where the file has
    no such column.
    """

    name: str
    scale: float | None = None
    tanh: bool = False
    value: float | None = None


@dataclass(frozen=True)
class VoxelSpec:
    """How points become voxels (the `voxelize` section of a configuration).

    Attributes:
        voxel_size: metres, x, y, z.
        point_cloud_range: metres, x0, y0, z0, x1, y1, z1; None takes the range of each scan's finite points.
        max_points: points kept in a voxel, the first in file order; None keeps all.
        max_voxels: voxels kept, the first seen in file order; None keeps all.
        reduce: how the kept points of a voxel become its features.
        spatial_shape_extra: cells added to the grid's shape, z, y, x.
        columns: names of the file's columns; None lets the reader decide.
        features: the channels of a voxel, in order; None takes every column as it is.
    """

    voxel_size: tuple[float, float, float]
    point_cloud_range: tuple[float, float, float, float, float, float] | None = None
    max_points: int | None = None
    max_voxels: int | None = None
    reduce: Reduce = "mean"
    spatial_shape_extra: tuple[int, int, int] = (0, 0, 0)
    columns: tuple[str, ...] | None = None
    features: tuple[FeatureColumn, ...] | None = None


@dataclass(frozen=True)
class VoxelGrid:
    """A regular grid in metres.

    Attributes:
        origin: float32 `[3]`, metres, x, y, z: the lower corner of site (0, 0, 0).
        voxel_size: float32 `[3]`, metres, x, y, z.
        cells: (Z, Y, X) cells a point can fall into.
        spatial_shape: (Z, Y, X) of the sparse tensor: `cells` plus the configured extra.
    """

    origin: NDArray[np.float32]
    voxel_size: NDArray[np.float32]
    cells: tuple[int, int, int]
    spatial_shape: tuple[int, int, int]


@dataclass(frozen=True)
class PointCounts:
    """Where the points of a scan went; `read = in_range + nonfinite + out_of_range`, the caps' losses being part of
    `in_range`. `over_max_points` are the points a voxel's cap left out, `over_max_voxels` those of voxels left out."""

    read: int = 0
    in_range: int = 0
    nonfinite: int = 0
    out_of_range: int = 0
    over_max_points: int = 0
    over_max_voxels: int = 0


@dataclass(frozen=True)
class VoxelCounts:
    """Voxels made (`active`), left out by the cap (`dropped`), and the points of the fullest voxel before caps."""

    active: int = 0
    dropped: int = 0
    max_points_in_a_voxel: int = 0


@dataclass(frozen=True)
class ScanCounts:
    """Both counts of one voxelization."""

    points: PointCounts = field(default_factory=PointCounts)
    voxels: VoxelCounts = field(default_factory=VoxelCounts)


def fixed_grid(spec: VoxelSpec) -> VoxelGrid:
    """The grid of a specification with a range: `round((max - min) / voxel_size)` cells, in float64.

    Raises:
        ConfigError: an axis has no cell, or more than an int32 site can hold.
    """
    if spec.point_cloud_range is None:
        raise ConfigError([Problem("is null: the grid depends on the scan", "voxelize.point_cloud_range")])
    _float32(spec.voxel_size, "voxel_size")
    low = np.array(spec.point_cloud_range[:3], np.float64)
    high = np.array(spec.point_cloud_range[3:], np.float64)
    with np.errstate(all="ignore"):
        cells_xyz = np.round((high - low) / np.array(spec.voxel_size, np.float64))
    if not np.all((cells_xyz >= 1) & (cells_xyz <= 2**31 - 1)):
        message = f"gives a grid of {cells_xyz.tolist()} cells (x, y, z); every axis needs 1 to 2147483647"
        raise ConfigError([Problem(message, "voxelize.point_cloud_range")])
    origin = _float32(spec.point_cloud_range, "point_cloud_range")[:3]
    return _grid(origin, spec, (int(cells_xyz[2]), int(cells_xyz[1]), int(cells_xyz[0])))


def grid_around(low: NDArray[np.float32], high: NDArray[np.float32], spec: VoxelSpec) -> VoxelGrid:
    """The grid of one scan whose finite points span `low` to `high` (float32 `[3]`, metres, x, y, z).

    The origin is the largest multiple of the voxel size that is not above the lowest point; the shape ends at the
    highest occupied site. All in float32, as the voxelizer computes.

    Raises:
        ConfigError: the scan spans more cells than an int32 site can hold, or float32 cannot hold the voxel size.
    """
    size = _float32(spec.voxel_size, "voxel_size")
    with np.errstate(all="ignore"):  # what overflows becomes infinite or NaN, which no comparison lets pass
        steps = np.floor(low / size)
        origin = (steps * size).astype(np.float32)
        origin = np.where(origin > low, ((steps - 1) * size).astype(np.float32), origin)
        last_xyz = np.floor((high - origin) / size)
    if not np.all((last_xyz >= 0) & (last_xyz < 2**31 - 1)):
        message = f"the scan spans {last_xyz.tolist()} voxels (x, y, z): set a range or a larger voxel_size"
        raise ConfigError([Problem(message, "voxelize.voxel_size")])
    return _grid(origin, spec, (int(last_xyz[2]) + 1, int(last_xyz[1]) + 1, int(last_xyz[0]) + 1))


def _float32(values: tuple[float, ...], key: str) -> NDArray[np.float32]:
    """`values` as the voxelizer computes with them; refused where they become infinite, or a voxel size 0."""
    with np.errstate(all="ignore"):
        narrow = np.array(values, np.float32)
    if not np.isfinite(narrow).all() or (key == "voxel_size" and not (narrow > 0).all()):
        raise ConfigError([Problem(f"is {list(values)}; float32 cannot hold these, give metres", f"voxelize.{key}")])
    return narrow


def _grid(origin: NDArray[np.float32], spec: VoxelSpec, cells: tuple[int, int, int]) -> VoxelGrid:
    z, y, x = (n + extra for n, extra in zip(cells, spec.spatial_shape_extra, strict=True))
    return VoxelGrid(origin, np.array(spec.voxel_size, np.float32), cells, (z, y, x))
