"""The sets of active sites of a run: known from its rulebooks, or following from those that are."""

from __future__ import annotations

from typing import Any

import numpy as np

import spcli
from spcli.config import read_config
from spcli.inspect.levels import level_placements, level_sites
from spcli.placement import Placement
from spcli.sparse_tensor import SparseTensor

SITES = np.array([(0, 0, 1, 2), (0, 3, 1, 2), (0, 3, 2, 0), (1, 2, 0, 5)], np.int32)
TENSOR = SparseTensor(np.ones((4, 3), np.float32), SITES, (4, 6, 8), 2)
COLUMNS = [[0, 1, 2], [0, 2, 0], [1, 0, 5]]


def run(*layers: str) -> Any:
    config = read_config("version: 1\nlayers:\n" + "".join(f"  - {{{layer}}}\n" for layer in layers))
    return spcli.run(config, TENSOR, want=spcli.Want(rulebooks=True, values=False))


def levels(result: Any) -> list[Any]:
    found = level_sites(result.network.program, result.rulebooks, 2)
    return [None if sites is None else sites.tolist() for sites in found]


def test_rulebooks_tell_the_sites_at_both_ends() -> None:
    result = run(
        "name: a, type: SubMConv3d, out_channels: 2, kernel_size: 3",
        "name: b, type: SparseConv3d, out_channels: 2, kernel_size: 2, stride: 2",
    )
    assert levels(result) == [SITES.tolist(), result.rulebooks["b"].out_indices.tolist()]


def test_flat_and_global_sites_follow_from_those_before() -> None:
    result = run(
        "name: a, type: SubMConv3d, out_channels: 2, kernel_size: 3",
        "name: b, type: HeightCompression",
        "name: c, type: SparseGlobalAvgPool",
    )
    assert levels(result) == [SITES.tolist(), COLUMNS, [[0], [1]]]


def test_sites_that_a_later_rulebook_begins_at_are_known_without_those_before() -> None:
    """No rulebook begins at the input; the one of `b` tells the columns."""
    result = run(
        "name: a, type: HeightCompression",
        "name: b, type: SubMConv2d, out_channels: 2, kernel_size: 3",
    )
    assert levels(result) == [None, COLUMNS]


def test_placements_follow_the_strides_until_no_axis_is_left() -> None:
    result = run(
        "name: a, type: SparseConv3d, out_channels: 2, kernel_size: 2, stride: [1, 2, 4]",
        "name: b, type: HeightCompression",
        "name: c, type: SparseGlobalAvgPool",
    )
    placement = Placement((0.1, 0.2, 0.5), (1.0, 2.0, 3.0), (2, 1, 1))
    assert level_placements(result.network, placement) == (
        placement, placement.strided((2, 2, 4)), placement.strided((2, 4)), None,
    )  # fmt: skip
    assert level_placements(result.network, None) == (None,) * 4
