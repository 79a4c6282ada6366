"""Sites and maps of the CPU engine: thin owners of the C++ objects in rulebook.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spcli.engines.checks import indices_of, out_shape_of, three, wrong_row
from spcli.engines.cpu.library import Handle, address, library
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
    indices, ndim = indices_of(indices, spatial_shape), len(spatial_shape)
    shape, wrong = np.array(three(spatial_shape, 1), np.int64), np.zeros(1, np.int64)
    pointer = library().spcli_sites_new(
        address(indices), len(indices), ndim, address(shape), batch_size, address(wrong)
    )
    if wrong[0] >= 0:
        raise wrong_row(indices, int(wrong[0]), spatial_shape, batch_size)
    return own_sites(pointer, spatial_shape, batch_size)


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
    """One row per scan of the batch."""
    return CpuSites((), sites.batch_size, None)


def build(sites: CpuSites, geometry: ConvGeometry) -> CpuMap:
    """The map of a convolution or pooling from `sites`.

    Raises:
        ConfigError: the output shape has an axis of 0 or less.
    """
    out_shape = out_shape_of(sites.spatial_shape, geometry)
    sizes = np.array(
        [
            *three(geometry.kernel_size, 1),
            *three(geometry.stride, 1),
            *three(geometry.padding, 0),
            *three(geometry.dilation, 1),
        ],
        np.int32,
    )
    assert sites.handle is not None
    shape = np.array(three(out_shape, 1), np.int64)
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
