"""The values that flow through a network: active sites and a feature row for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError
from spcli.grid import ScanCounts, VoxelGrid

INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class SparseTensor:
    """Active sites of a batch and their features, rows in lexicographic order of (batch, z, y, x).

    Attributes:
        features: float32 `[N, C]`.
        indices: int32 `[N, 1 + D]`, columns batch, z, y, x (2-D: batch, y, x).
        spatial_shape: the D sizes, z, y, x.
        batch_size: scans in the batch; 1 or more.
    """

    features: NDArray[np.float32]
    indices: NDArray[np.int32]
    spatial_shape: tuple[int, ...]
    batch_size: int = 1

    @property
    def density(self) -> float:
        """Active sites over cells of the grid (0 for a grid without cells)."""
        cells = self.batch_size * int(np.prod(self.spatial_shape, dtype=object))
        return len(self.indices) / cells if cells else 0.0


@dataclass(frozen=True)
class VoxelizedScan:
    """What the voxelizer made of one scan, on the host.

    Attributes:
        tensor: the voxels, `batch_size` 1.
        num_points: int32 `[N]`, points kept in each voxel.
        counts: where the points went.
        grid: metres to sites.
        point_rows: int32 `[P]`, each point's row, -1 where dropped; None where not asked for.
        points: float32 `[N, max_points, C]`, zero-padded hard voxels; None where not asked for.
    """

    tensor: SparseTensor
    num_points: NDArray[np.int32]
    counts: ScanCounts
    grid: VoxelGrid
    point_rows: NDArray[np.int32] | None = None
    points: NDArray[np.float32] | None = None


def lexicographic_order(indices: NDArray[np.int32]) -> NDArray[np.intp] | None:
    """The row order that sorts `indices` `[N, 1 + D]` by (batch, z, y, x); None where they are sorted already."""
    if _first_unsorted(indices) is None:
        return None
    return np.lexsort(indices.T[::-1])


def checked(tensor: SparseTensor, source: str) -> tuple[SparseTensor, bool]:
    """A tensor made by hand as `canonical` gives it: integers of any width become int32, features float32.

    Raises:
        InputError: types, numbers of rows and axes do not fit, or as in `canonical`.
    """
    indices, features = np.asarray(tensor.indices), np.asarray(tensor.features)
    shape = tuple(int(size) for size in tensor.spatial_shape)
    if indices.dtype.kind not in "iu" or features.dtype.kind not in "fiub":
        kinds = f"indices are {indices.dtype} and features {features.dtype}"
        raise InputError(f"{source}: its {kinds}; make them integers and float32")
    if len(shape) not in (2, 3) or indices.ndim != 2 or indices.shape[1] != 1 + len(shape):
        shapes = f"indices have shape {list(indices.shape)} and its spatial_shape is {list(shape)}"
        raise InputError(f"{source}: its {shapes}; D is 2 or 3, and indices are [N, 1 + D]")
    if features.ndim != 2 or len(features) != len(indices):
        raise InputError(f"{source}: its features have shape {list(features.shape)}, not [{len(indices)}, C]")
    if tensor.batch_size < 1 or not all(1 <= size <= INT32_MAX for size in shape):
        sizes = f"batch_size is {tensor.batch_size} and its spatial_shape {list(shape)}"
        raise InputError(f"{source}: its {sizes}; every size must be 1 to {INT32_MAX}")
    # Compared before they are narrowed, so that none wraps around into the grid.
    ordered, was_sorted = canonical(SparseTensor(features, indices, shape, int(tensor.batch_size)), source)
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(ordered.features, np.float32)
    sites = np.ascontiguousarray(ordered.indices, np.int32)
    return SparseTensor(rows, sites, shape, int(tensor.batch_size)), was_sorted


def canonical(tensor: SparseTensor, source: str) -> tuple[SparseTensor, bool]:
    """`tensor` with its rows in canonical order, and whether they had to be sorted.

    Raises:
        InputError: a site lies outside the shape or batch, or stands twice; names the first such row of the input.
    """
    bounds = np.array((tensor.batch_size, *tensor.spatial_shape), np.int64)
    outside = np.flatnonzero(((tensor.indices < 0) | (tensor.indices >= bounds)).any(axis=1))
    if len(outside):
        row = int(outside[0])
        site = tensor.indices[row].tolist()
        raise InputError(
            f"{source}: row {row} is at {site}, outside batch_size {tensor.batch_size} and spatial_shape "
            f"{list(tensor.spatial_shape)}; correct the indices or the shape"
        )
    order = lexicographic_order(tensor.indices)
    if order is None:
        return tensor, False
    indices = np.ascontiguousarray(tensor.indices[order])
    same = np.flatnonzero((indices[1:] == indices[:-1]).all(axis=1))
    if len(same):
        row = int(order[same + 1].min())
        site = tensor.indices[row].tolist()
        raise InputError(f"{source}: row {row} repeats the site {site}; a sparse tensor holds each site once")
    features = np.ascontiguousarray(tensor.features[order])
    return SparseTensor(features, indices, tensor.spatial_shape, tensor.batch_size), True


def _first_unsorted(indices: NDArray[np.int32]) -> int | None:
    """The first row that does not come strictly after the one before it, None where all do."""
    before, after = indices[:-1], indices[1:]
    rising = np.zeros(len(before), bool)
    equal = np.ones(len(before), bool)
    for axis in range(indices.shape[1]):
        rising |= equal & (after[:, axis] > before[:, axis])
        equal &= after[:, axis] == before[:, axis]
    wrong = np.flatnonzero(~rising)
    return int(wrong[0]) if len(wrong) else None
