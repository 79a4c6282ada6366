"""Active sites on the device, and the index that finds a site's row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.checks import check_indices, three
from spcli.engines.cuda.arrays import download, empty, upload, zeroed
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.kernels import sites as kernels
from spcli.engines.cuda.launch import launch, only_outside_frames
from spcli.errors import ConfigError, Problem

BITMAP_BYTES = 256 << 20  # a larger bitmap would take longer to clear than keys take to search
MOST_CELLS = 1 << 62  # more, and a cell's number in raster order could overflow an int64
_LONGEST_LINE = 1 << 30  # bitmap kernels count in int32; strides and paddings must not carry them out of it
_LANES, _SCALED_LANES = 1024, 16384  # of a program; an interpreter pays by operation, not by lane


@dataclass(frozen=True)
class Bitmap:
    """One bit a cell, and the row of each word's first site.

    Attributes:
        words: int64 `[W]`, along x, as `kernels/sites.py` numbers them.
        base: int32 `[W]`, defined where the word is not 0.
    """

    words: Tensor
    base: Tensor


@dataclass(frozen=True)
class SortedKeys:
    """Cell numbers in raster order, int64 `[capacity or more]`, in row order; rows from the total on are undefined."""

    keys: Tensor


@dataclass(frozen=True)
class CudaSites:
    """Active sites in canonical order; how many and in which shape, the device knows.

    Attributes:
        spatial_shape: the D sizes, z, y, x, as the host knew them when the sites were made; empty for the one site
            per scan that a global pooling leaves. In a graph that serves grids of several shapes only `shape` is right.
        batch_size: scans in the batch.
        indices: int32 `[capacity, 1 + D]`; rows from `total` on are undefined.
        total: int32 `[1]`, number of active sites, never above the capacity.
        shape: int32 `[3]`, z, y, x on the device; a plane has z = 1.
        grows: whether frames of one graph may bring other shapes, so that nothing may be sized by the shape.
        made: the index where the sites were made together with it.
    """

    spatial_shape: tuple[int, ...]
    batch_size: int
    indices: Tensor
    total: Tensor
    shape: Tensor
    grows: bool = False
    made: Bitmap | SortedKeys | None = None

    @property
    def capacity(self) -> int:
        """Rows that are allocated."""
        return len(self.indices)

    @property
    def ndim(self) -> int:
        """Spatial axes, D."""
        return len(self.spatial_shape)

    @cached_property
    def index(self) -> Bitmap | SortedKeys:
        """What finds a site's row; where it was not made with the sites, the first to ask has it built."""
        if self.made is not None:
            return self.made
        words = bitmap_words(self)
        return sorted_keys(self) if words is None else filled_bitmap(self, words)

    def count(self) -> int:
        """Number of active sites; synchronises."""
        only_outside_frames("the number of sites")
        return int(self.total.item())

    def host_indices(self) -> NDArray[np.int32]:
        """int32 `[N, 1 + D]`, newly written; synchronises."""
        return download(self.indices, self.count())


def make_sites(indices: NDArray[np.int32], spatial_shape: tuple[int, ...], batch_size: int) -> CudaSites:
    """Sites from canonical indices int32 `[N, 1 + D]` on the host.

    Raises:
        InputError: they are of another shape, or a row lies outside the shape or batch or does not rise.
        ConfigError: the grid has more cells than a key can number.
    """
    indices = check_indices(indices, spatial_shape, batch_size)
    check_cells(spatial_shape, batch_size)
    total = upload(np.array([len(indices)], np.int32))
    shape = upload(np.array(three(spatial_shape, 1), np.int32))
    return CudaSites(spatial_shape, batch_size, upload(indices), total, shape)


def bitmap_words(sites: CudaSites) -> int | None:
    """Words of a bitmap over the sites' grid; None where it would be too large, or grow."""
    z, y, x = three(sites.spatial_shape, 1)
    words = sites.batch_size * z * y * -(-x // 64)
    fits = words * 8 <= BITMAP_BYTES and max(z, y, x) <= _LONGEST_LINE
    return words if fits and not sites.grows else None


def check_cells(spatial_shape: tuple[int, ...], batch_size: int) -> None:
    """Every cell of a grid must have a number that a key can hold.

    Raises:
        ConfigError: there are too many.
    """
    if batch_size * prod(spatial_shape) > MOST_CELLS:
        grid = f"a grid of spatial_shape {list(spatial_shape)} and batch_size {batch_size}"
        remedy = "set point_cloud_range, or use --device cpu"
        raise ConfigError([Problem(f"{grid} has more than 2^62 cells, too many for the CUDA engine: {remedy}")])


def filled_bitmap(sites: CudaSites, words: int) -> Bitmap:
    """The bitmap of sites."""
    bitmap = Bitmap(zeroed(words, torch.int64), empty(words, torch.int32))
    block = block_of(1)
    launch(
        kernels.fill_bitmap,
        (triton.cdiv(sites.capacity, block["ROWS"]),),
        *(sites.indices, sites.total, sites.shape, bitmap.words, bitmap.base),
        NDIM=sites.ndim,
        **block,
    )
    return bitmap


def sorted_keys(sites: CudaSites) -> SortedKeys:
    """The keys of sites, which their order has sorted already."""
    keys = empty_keys(sites.capacity)
    block = block_of(1)
    launch(
        kernels.write_keys,
        (triton.cdiv(sites.capacity, block["ROWS"]),),
        *(sites.indices, sites.total, sites.shape, keys.keys),
        NDIM=sites.ndim,
        **block,
    )
    return keys


def empty_keys(count: int) -> SortedKeys:
    """Space for so many keys."""
    return SortedKeys(empty(max(count, 1), torch.int64))


def block_of(columns: int) -> dict[str, int]:
    """ROWS, and the warps, of a program that looks at `columns` (a power of two) things for each row."""
    lanes = _SCALED_LANES if scaled() else _LANES
    rows = max(lanes // columns, 16)
    return {"ROWS": rows, "num_warps": min(max(rows * columns // 128, 4), 32)}
