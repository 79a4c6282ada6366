"""A rulebook in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spcli.geometry import ConvGeometry
from spcli.inspect.dump import KeyedRulebook
from spcli.rulebook import Rulebook, RuleCounts

SUMMARY_SCHEMA = "spcli.rulebook_summary/1"


def rule_counts(rulebook: Rulebook) -> RuleCounts:
    """A rulebook's sizes."""
    outputs = rulebook.out_rows
    return RuleCounts(
        len(rulebook.in_indices),
        len(rulebook.out_indices),
        rulebook.in_spatial_shape,
        rulebook.out_spatial_shape,
        rulebook.batch_size,
        tuple(np.diff(rulebook.pair_splits).tolist()),
        int(np.bincount(outputs).max()) if len(outputs) else 0,
    )


def summary(key: str, layers: Sequence[str], geometry: ConvGeometry, counts: RuleCounts) -> dict[str, Any]:
    """One rulebook in numbers, as `inspect-rulebook --summary` prints it."""
    mean = counts.pairs / counts.out_sites if counts.out_sites else None
    return {
        "key": key,
        "layers": list(layers),
        "kernel_size": list(geometry.kernel_size),
        "stride": list(geometry.stride),
        "padding": list(geometry.padding),
        "dilation": list(geometry.dilation),
        "submanifold": geometry.submanifold,
        "transposed": geometry.transposed,
        "in_sites": counts.in_sites,
        "out_sites": counts.out_sites,
        "in_spatial_shape": list(counts.in_spatial_shape),
        "out_spatial_shape": list(counts.out_spatial_shape),
        "batch_size": counts.batch_size,
        "pairs": counts.pairs,
        "pairs_per_offset": list(counts.pairs_per_offset),
        "offsets": [list(offset) for offset in geometry.offsets()],
        "pairs_per_output": {"mean": mean, "max": counts.pairs_per_output_max},
    }


def rulebook_summary(keyed: KeyedRulebook) -> dict[str, Any]:
    """`summary`, and what takes a look at every rule.

    `pairs_per_output.histogram[n]` output sites have n rules. `sites_without_neighbour` are the outputs that one input
    alone feeds: in a submanifold convolution, the site itself. `inputs_without_rules` feed no output. `symmetric` is
    whether the rules of tap k are those of tap V - 1 - k with their ends swapped, null where the ends differ.
    """
    rulebook = keyed.rulebook
    found = summary(keyed.key, keyed.layers, rulebook.geometry, rule_counts(rulebook))
    of_output = np.bincount(rulebook.out_rows, minlength=len(rulebook.out_indices))
    of_input = np.bincount(rulebook.in_rows, minlength=len(rulebook.in_indices))
    found["pairs_per_output"]["histogram"] = np.bincount(of_output).tolist()
    return {
        "schema": SUMMARY_SCHEMA,
        **found,
        "sites_without_neighbour": int(np.count_nonzero(of_output == 1)),
        "inputs_without_rules": int(np.count_nonzero(of_input == 0)),
        "symmetric": is_symmetric(rulebook) if rulebook.geometry.keeps_sites else None,
    }


def is_symmetric(rulebook: Rulebook) -> bool:
    """Whether the rules of each tap are those of the mirrored tap with their ends swapped."""
    return asymmetric_tap(rulebook) is None


def asymmetric_tap(rulebook: Rulebook) -> int | None:
    """The first tap k whose rules are not those of tap V - 1 - k with their ends swapped, None where all are."""
    splits, volume = rulebook.pair_splits, rulebook.geometry.volume
    for tap in range((volume + 1) // 2):
        own = slice(splits[tap], splits[tap + 1])
        mirrored = slice(splits[volume - 1 - tap], splits[volume - tap])
        if not (
            np.array_equal(rulebook.in_rows[own], rulebook.out_rows[mirrored])
            and np.array_equal(rulebook.out_rows[own], rulebook.in_rows[mirrored])
        ):
            return tap
    return None
