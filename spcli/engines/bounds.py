"""The grid that a scan is voxelized in, for every engine: as configured, or around the scan's finite points."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Points
from spcli.grid import VoxelGrid, VoxelSpec, fixed_grid, grid_around


def grid_of(points: Points, spec: VoxelSpec) -> VoxelGrid:
    """The grid of a specification, or around a scan's finite points: one cell at the origin where there are none.

    Raises:
        ConfigError: the grid has an axis without a cell, or with more cells than an int32 site can hold.
    """
    if spec.point_cloud_range is not None:
        return fixed_grid(spec)
    return grid_around(*finite_bounds(points), spec)


def finite_bounds(points: Points) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest x, y and z, float32 `[3]` each, of the points that are finite in every column in use.

    Zeros where there is no such point.
    """
    columns = np.asarray(points.values, np.float32).T
    finite = reduce(np.logical_and, (np.isfinite(columns[column]) for column in {*points.xyz, *points.features}))
    axes = [columns[column] if finite.all() else columns[column][finite] for column in points.xyz]
    if not axes[0].size:
        return np.zeros(3, np.float32), np.zeros(3, np.float32)
    low, high = ([_first_of(axis, extreme(axis)) for axis in axes] for extreme in (np.min, np.max))
    return np.array(low, np.float32), np.array(high, np.float32)


def _first_of(axis: NDArray[np.float32], value: np.float32) -> np.float32:
    """Of equal values the first in file order: a zero has two signs, and which one numpy takes is not defined."""
    first: np.float32 = axis[np.argmax(axis == value)] if value == 0 else value
    return first
