"""Sites and maps of the CPU engine: thin owners of the C++ objects in rulebook.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spcli.engines.cpu.library import Handle, address, library
from spcli.errors import ConfigError, InputError, Problem
from spcli.geometry import ConvGeometry
from spcli.rulebook import Rulebook, RuleCounts


@dataclass(frozen=True)
class CpuSites:
    """Active sites in canonical order.

    Attributes:
        spatial_shape: the D sizes, z, y, x; empty for the one site a scan that a global pooling leaves.
        batch_size: scans in the batch.
        handle: the C++ sites; None where there is no spatial axis.
    """

    spatial_shape: tuple[int, ...]
    batch_size: int
    handle: Handle | None

    @cached_property
    def count(self) -> int:
        """Number of active sites."""
        return self.batch_size if self.handle is None else int(library().spcli_sites_count(self.handle.pointer))

    def indices(self) -> NDArray[np.int32]:
        """int32 `[N, 1 + D]`, newly written."""
        if self.handle is None:
            return np.arange(self.batch_size, dtype=np.int32)[:, None]
        indices = np.empty((self.count, 1 + len(self.spatial_shape)), np.int32)
        library().spcli_sites_indices(self.handle.pointer, address(indices))
        return indices


@dataclass(frozen=True)
class CpuMap:
    """An executable rulebook; an inverted one shares its source's rules and reads them the other way."""

    geometry: ConvGeometry
    inputs: CpuSites
    outputs: CpuSites
    handle: Handle
    inverted: bool = False


def own_sites(pointer: int, spatial_shape: tuple[int, ...], batch_size: int) -> CpuSites:
    """Takes over a C++ reference to sites."""
    return CpuSites(spatial_shape, batch_size, Handle(pointer, library().spcli_sites_free))


def make_sites(indices: NDArray[np.int32], spatial_shape: tuple[int, ...], batch_size: int) -> CpuSites:
    """Sites from canonical indices int32 `[N, 1 + D]`.

    Raises:
        InputError: they are of another shape, or a row lies outside the shape or batch or does not rise.
    """
    ndim = len(spatial_shape)
    indices = np.ascontiguousarray(indices, np.int32)
    if not ndim:
        raise InputError("the tensor has no grid, only one row a scan, as after a global pooling; give one with sites")
    if ndim not in (2, 3) or indices.ndim != 2 or indices.shape[1] != 1 + ndim:
        raise InputError(f"indices have shape {list(indices.shape)}; those of {ndim} axes are [N, 1 + 2] or [N, 1 + 3]")
    shape, wrong = np.array(_three(spatial_shape, 1), np.int64), np.zeros(1, np.int64)
    pointer = library().spcli_sites_new(
        address(indices), len(indices), ndim, address(shape), batch_size, address(wrong)
    )
    if wrong[0] >= 0:
        raise InputError(_wrong_row(indices, int(wrong[0]), spatial_shape, batch_size))
    return own_sites(pointer, spatial_shape, batch_size)


def _wrong_row(indices: NDArray[np.int32], row: int, spatial_shape: tuple[int, ...], batch_size: int) -> str:
    """What is wrong with the first row that cannot be a site."""
    site = indices[row].tolist()
    if any(not 0 <= place < size for place, size in zip(site, (batch_size, *spatial_shape), strict=True)):
        where = f"outside batch_size {batch_size} and spatial_shape {list(spatial_shape)}"
        return f"row {row} is at {site}, {where}; correct the indices or the shape"
    if site == indices[row - 1].tolist():
        return f"row {row} repeats the site {site}; a sparse tensor holds each site once"
    return f"row {row} at {site} comes after {indices[row - 1].tolist()}; sort the rows by (batch, z, y, x)"


def flatten(sites: CpuSites) -> CpuSites:
    """The 2-D sites (batch, y, x) that have at least one active z."""
    _, y, x = sites.spatial_shape
    flat = np.unique(_flat_keys(sites))
    indices = np.stack([flat // (y * x), flat // x % y, flat % x], axis=1)
    return make_sites(indices.astype(np.int32), (y, x), sites.batch_size)


def flat_rows(sites: CpuSites) -> NDArray[np.intp]:
    """The row of each 3-D site's flattened site, `[N]`."""
    return np.unique(_flat_keys(sites), return_inverse=True)[1]


def _flat_keys(sites: CpuSites) -> NDArray[np.int64]:
    batch, _, y, x = sites.indices().astype(np.int64).T
    keys: NDArray[np.int64] = (batch * sites.spatial_shape[1] + y) * sites.spatial_shape[2] + x
    return keys


def collapse(sites: CpuSites) -> CpuSites:
    """One row a scan of the batch."""
    return CpuSites((), sites.batch_size, None)


def build(sites: CpuSites, geometry: ConvGeometry) -> CpuMap:
    """The map of a convolution or pooling from `sites`.

    Raises:
        ConfigError: the output shape has an axis of 0 or less.
    """
    out_shape = geometry.out_spatial_shape(sites.spatial_shape)
    if min(out_shape) <= 0:
        message = f"an input of shape {list(sites.spatial_shape)} leaves an output of shape {list(out_shape)}"
        raise ConfigError(
            [
                Problem(
                    f"{message}: kernel_size {list(geometry.kernel_size)} does not fit; "
                    "use fewer strides, more padding or a larger spatial_shape_extra"
                )
            ]
        )
    sizes = np.array(
        [
            *_three(geometry.kernel_size, 1),
            *_three(geometry.stride, 1),
            *_three(geometry.padding, 0),
            *_three(geometry.dilation, 1),
        ],
        np.int32,
    )
    assert sites.handle is not None
    shape = np.array(_three(out_shape, 1), np.int64)
    pointer = library().spcli_map_build(
        sites.handle.pointer, address(sizes), geometry.keeps_sites, geometry.transposed, address(shape)
    )
    handle = Handle(pointer, library().spcli_map_free)
    outputs = sites
    if not geometry.keeps_sites:
        outputs = own_sites(library().spcli_map_outputs(pointer), out_shape, sites.batch_size)
    return CpuMap(geometry, sites, outputs, handle)


def invert(source: CpuMap) -> CpuMap:
    """The map with its ends swapped: same taps."""
    return CpuMap(source.geometry, source.outputs, source.inputs, source.handle, not source.inverted)


def rule_counts(source: CpuMap, fullest: bool = True) -> RuleCounts:
    """Sizes of a forward map."""
    return RuleCounts(
        source.inputs.count,
        source.outputs.count,
        source.inputs.spatial_shape,
        source.outputs.spatial_shape,
        source.inputs.batch_size,
        tuple(_pairs(source).tolist()),
        int(library().spcli_map_fullest(source.handle.pointer)) if fullest else 0,
    )


def rulebook(source: CpuMap) -> Rulebook:
    """The canonical rules of a map."""
    splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(_pairs(source))])
    in_rows = np.empty(splits[-1], np.int32)
    out_rows = np.empty(splits[-1], np.int32)
    library().spcli_map_rules(source.handle.pointer, address(in_rows), address(out_rows))
    if source.inverted:
        in_rows, out_rows = out_rows, in_rows
    in_indices = source.inputs.indices()
    return Rulebook(
        source.geometry,
        in_indices,
        in_indices if source.outputs is source.inputs else source.outputs.indices(),
        in_rows,
        out_rows,
        splits,
        source.inputs.spatial_shape,
        source.outputs.spatial_shape,
        source.inputs.batch_size,
    )


def _pairs(source: CpuMap) -> NDArray[np.int64]:
    pairs = np.empty(source.geometry.volume, np.int64)
    library().spcli_map_counts(source.handle.pointer, address(pairs))
    return pairs


def _three(sizes: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Sizes of three axes; a 2-D grid is one plane of a 3-D grid."""
    return (fill,) * (3 - len(sizes)) + sizes
