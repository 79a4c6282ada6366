"""The sets of active sites that a network goes through, from its rulebooks."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.engines.base import Frame
from spcli.inspect.levels import level_placements, level_sites
from spcli.network import Network
from spcli.placement import Placement

INPUT = "input"


class SiteSet(Struct, frozen=True):
    """One set of active sites.

    Attributes:
        slot: the program's sites slot.
        layers: the layers whose outputs lie on it, in network order; "input" where the input does.
        indices: int32 `[N, 1 + D]`, batch, z, y, x.
        spatial_shape: the D sizes, z, y, x.
        batch_size: scans in the batch.
        placement: where they lie in metres, None where that is not known.
    """

    slot: int
    layers: tuple[str, ...]
    indices: NDArray[np.int32]
    spatial_shape: tuple[int, ...]
    batch_size: int = 1
    placement: Placement | None = None


def site_sets(network: Network, frame: Frame, placement: Placement | None = None) -> tuple[SiteSet, ...]:
    """The sets of sites of a frame that has its rulebooks, in network order; global ones, without axes, are left out.

    Args:
        network: the network that ran.
        frame: what it gave, with `rulebooks`.
        placement: where the input's sites lie; None takes the frame's grid, where it has one.
    """
    names: dict[int, list[str]] = {0: [INPUT]}
    for layer in network.layers:
        names.setdefault(layer.out_sites, []).append(layer.name)
    batch_size = max((book.batch_size for book in frame.rulebooks.values()), default=1)
    sites = level_sites(network.program, frame.rulebooks, batch_size)
    if placement is None and frame.grid is not None:
        placement = Placement.from_grid(frame.grid)
    placements = level_placements(network, placement)
    found = ((slot, layers, sites[slot]) for slot, layers in names.items() if frame.shapes[slot])
    return tuple(
        SiteSet(slot, tuple(layers), indices, frame.shapes[slot], batch_size, placements[slot])
        for slot, layers, indices in found
        if indices is not None
    )
