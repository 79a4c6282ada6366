"""The sets of active sites that a network goes through, from the rulebooks of a run: by sites slot of its program."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spcli.network import Network
from spcli.placement import Placement
from spcli.program import Program, fold_sites, map_ends
from spcli.rulebook import Rulebook

Sites = NDArray[np.int32]


def level_sites(program: Program, rulebooks: Mapping[str, Rulebook], batch_size: int) -> tuple[Sites | None, ...]:
    """The indices `[N, 1 + D]` of every sites slot.

    None where no rulebook begins or ends there and the sites do not follow from those before.

    Args:
        program: what ran.
        rulebooks: the rules of every key.
        batch_size: scans in the batch.
    """
    ends = map_ends(program)
    known: dict[int, Sites] = {}
    for keyed in program.keys:
        inputs, outputs = ends[keyed.map]
        known[inputs], known[outputs] = rulebooks[keyed.key].in_indices, rulebooks[keyed.key].out_indices
    return fold_sites(
        program,
        known.get(0),
        lambda op, before: known[op.outputs] if op.outputs in known else op.sites_after(before, batch_size),
    )


def level_placements(network: Network, placement: Placement | None) -> tuple[Placement | None, ...]:
    """Where the sites of every slot lie if the input's lie as `placement` says; None where no axis is left."""
    if placement is None:
        return (None,) * network.program.sites
    strides = network.strides(placement.stride)
    return tuple(placement.strided(stride) if stride else None for stride in strides)
