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


def rows_outside(indices: NDArray[np.integer], spatial_shape: tuple[int, ...], batch_size: int) -> NDArray[np.bool_]:
    """Whether each row of `indices` `[N, 1 + D]` lies outside the shape or the batch."""
    sizes = np.array((batch_size, *spatial_shape), np.int64)
    outside: NDArray[np.bool_] = np.any((indices < 0) | (indices >= sizes), axis=1)
    return outside


def rows_unsorted(indices: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each row of `indices` `[N, 1 + D]` does not come strictly after the row before it."""
    before, after = indices[:-1], indices[1:]
    rising, equal = np.zeros(len(before), bool), np.ones(len(before), bool)
    for axis in range(indices.shape[1]):
        rising |= equal & (after[:, axis] > before[:, axis])
        equal &= after[:, axis] == before[:, axis]
    unsorted = np.zeros(len(indices), bool)
    unsorted[1:] = ~rising
    return unsorted


def row_problem(row: int, site: list[int], before: list[int], sizes: tuple[int, ...]) -> str:
    """What is wrong with row number `row`, which has `site` and follows `before`, in a grid of (batch_size, *shape)."""
    if any(not 0 <= place < size for place, size in zip(site, sizes, strict=True)):
        where = f"outside batch_size {sizes[0]} and spatial_shape {list(sizes[1:])}"
        return f"row {row} is at {site}, {where}; correct the indices or the shape"
    if site == before:
        return f"row {row} repeats the site {site}; a sparse tensor holds each site once"
    return f"row {row} at {site} comes after {before}; sort the rows by (batch, z, y, x)"


def lexicographic_order(indices: NDArray[np.integer]) -> NDArray[np.intp] | None:
    """The row order that sorts `indices` `[N, 1 + D]` by (batch, z, y, x); None where they are sorted already."""
    return np.lexsort(indices.T[::-1]) if rows_unsorted(indices).any() else None


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
    outside = np.flatnonzero(rows_outside(tensor.indices, tensor.spatial_shape, tensor.batch_size))
    if len(outside):
        raise _refused(tensor, int(outside[0]), source)
    order = lexicographic_order(tensor.indices)
    if order is None:
        return tensor, False
    indices = np.ascontiguousarray(tensor.indices[order])
    repeated = order[rows_unsorted(indices)]  # in sorted rows nothing else can be wrong
    if len(repeated):
        raise _refused(tensor, int(repeated.min()), source)
    features = np.ascontiguousarray(tensor.features[order])
    return SparseTensor(features, indices, tensor.spatial_shape, tensor.batch_size), True


def _refused(tensor: SparseTensor, row: int, source: str) -> InputError:
    """A row that lies outside, or stands twice in the tensor."""
    site = tensor.indices[row].tolist()
    return InputError(f"{source}: {row_problem(row, site, site, (tensor.batch_size, *tensor.spatial_shape))}")
