"""Differences of rulebooks: sites and rules by where they are, not by their row numbers."""

from __future__ import annotations

import numpy as np
import pytest

from spcli.engines import load_engine
from spcli.geometry import submanifold_geometry
from spcli.inspect.diff import Difference, diff_rulebooks
from spcli.rulebook import Rulebook

ROW = submanifold_geometry((1, 3), (1, 1))


def row_of(*cells: int, geometry=ROW, width: int = 9) -> Rulebook:
    """The rulebook of active cells in one row of a 2-D grid."""
    engine = load_engine("cpu")
    sites = engine.sites(np.array([[0, 0, x] for x in cells], np.int32), (1, width), 1)
    return engine.rulebook(engine.build(sites, geometry))


def test_equal_rulebooks_do_not_differ():
    assert list(diff_rulebooks({"k": row_of(1, 2, 5)}, {"k": row_of(1, 2, 5)})) == []


def test_sites_and_rules_of_one_side_are_listed_whatever_their_rows():
    """Cell 1 shifts every row of the second; only what belongs to cell 1 differs."""
    found = list(diff_rulebooks({"k": row_of(2, 3)}, {"k": row_of(1, 2, 3)}))
    assert found == [
        Difference("b", "k", "input_site", in_site=(0, 0, 1)),
        Difference("b", "k", "output_site", out_site=(0, 0, 1)),
        Difference("b", "k", "rule", 0, (0, -1), (0, 0, 1), (0, 0, 2)),
        Difference("b", "k", "rule", 1, (0, 0), (0, 0, 1), (0, 0, 1)),
        Difference("b", "k", "rule", 2, (0, 1), (0, 0, 2), (0, 0, 1)),
    ]
    other = list(diff_rulebooks({"k": row_of(1, 2, 3)}, {"k": row_of(2, 3)}))
    assert [(d.what, d.in_site, d.out_site) for d in other] == [(d.what, d.in_site, d.out_site) for d in found]
    assert {d.only_in for d in other} == {"a"}


def test_keys_of_one_side_are_named():
    both = diff_rulebooks({"k": row_of(1), "a": row_of(1)}, {"k": row_of(1), "b": row_of(1)})
    assert list(both) == [Difference("a", "a", "key"), Difference("b", "b", "key")]


@pytest.mark.parametrize(
    ("other", "sizes"),
    [
        (row_of(1, width=8), [("in_spatial_shape", (1, 9), (1, 8)), ("out_spatial_shape", (1, 9), (1, 8))]),
        (
            row_of(1, geometry=submanifold_geometry((1, 3), (1, 2))),
            [("padding", (0, 1), (0, 2)), ("dilation", (1, 1), (1, 2))],
        ),
    ],
    ids=["shape", "dilation"],
)
def test_sizes_are_given_with_both_values(other, sizes):
    assert [difference.size for difference in diff_rulebooks({"k": row_of(1)}, {"k": other})] == sizes
