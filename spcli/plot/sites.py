"""The sets of active sites a network goes through, from its rulebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.plot.look import Ground
from spcli.program import FlattenSites, map_ends

if TYPE_CHECKING:
    from spcli.engines.base import Frame
    from spcli.grid import VoxelGrid
    from spcli.network import Network

INPUT = "input"


class SiteSet(Struct, frozen=True):
    """One set of active sites.

    Attributes:
        slot: the program's sites slot.
        layers: the layers whose outputs lie on it, in network order; "input" where the input does.
        indices: int32 `[N, 1 + D]`, batch, z, y, x.
        spatial_shape: the D sizes, z, y, x.
        batch_size: scans in the batch.
        ground: metres, None where nothing tells.
    """

    slot: int
    layers: tuple[str, ...]
    indices: NDArray[np.int32]
    spatial_shape: tuple[int, ...]
    batch_size: int = 1
    ground: Ground | None = None


def site_sets(
    network: Network, frame: Frame, strides: Mapping[int, Sequence[float]] | None = None
) -> tuple[SiteSet, ...]:
    """The sets of sites of a frame that has its rulebooks, in network order; global ones, without axes, are left out.

    Args:
        network: the network that ran.
        frame: what it gave, with `rulebooks`.
        strides: cells a site spans by sites slot (`spcli.pipeline.outputs.site_strides`); with it and the frame's grid
            sets know their ground in metres.
    """
    found = _indices(network, frame)
    names: dict[int, list[str]] = {0: [INPUT]}
    for layer in network.layers:
        names.setdefault(layer.out_sites, []).append(layer.name)
    batch_size = max((book.batch_size for book in frame.rulebooks.values()), default=1)
    grounds = {slot: _ground(frame.grid, (strides or {}).get(slot)) for slot in names}
    return tuple(
        SiteSet(slot, tuple(layers), found[slot], frame.shapes[slot], batch_size, grounds[slot])
        for slot, layers in names.items()
        if slot in found
    )


def _indices(network: Network, frame: Frame) -> dict[int, NDArray[np.int32]]:
    """Sites by slot, of every slot that a rulebook tells or that follows from one."""
    ends = map_ends(network.program)
    found: dict[int, NDArray[np.int32]] = {}
    for keyed in network.program.keys:
        inputs, outputs = ends[keyed.map]
        book = frame.rulebooks[keyed.key]
        found[inputs], found[outputs] = book.in_indices, book.out_indices
    for op in network.program.index_ops:
        if isinstance(op, FlattenSites) and op.sites in found:
            found.setdefault(op.outputs, np.unique(found[op.sites][:, [0, 2, 3]], axis=0))
    return found


def _ground(grid: VoxelGrid | None, stride: Sequence[float] | None) -> Ground | None:
    if grid is None or not stride:
        return None
    x, y = float(grid.voxel_size[0]) * stride[-1], float(grid.voxel_size[1]) * stride[-2]
    return Ground((float(grid.origin[0]), float(grid.origin[1])), (x, y))
