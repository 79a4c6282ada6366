"""The columns of rules: the same numbers whether they are picked for a file or read from the rulebook."""

from __future__ import annotations

import numpy as np

from spcli.geometry import ConvGeometry
from spcli.inspect import KeyedRulebook, Query, rule_columns, rule_kinds, rules
from spcli.rulebook import Rulebook


def test_each_column_holds_its_number_of_every_rule():
    indices = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    splits = np.array([0, 1, 1, 1, 1, 3, 3, 3, 3, 4])
    in_rows, out_rows = np.array([0, 0, 1, 1], np.int32), np.array([1, 0, 1, 0], np.int32)
    geometry = ConvGeometry((3, 3), (1, 1), (1, 1), (1, 1), (0, 0), submanifold=True)
    book = Rulebook(geometry, indices, indices, in_rows, out_rows, splits, (5, 5), (5, 5), 1)
    (chunk,) = rules([KeyedRulebook("conv", ("conv",), book)], Query())
    found = rule_columns(chunk, 3)
    assert list(found) == list(rule_kinds(3))
    assert {name: None if column is None else np.asarray(column).tolist() for name, column in found.items()} == {
        "key": "conv", "tap": [0, 4, 4, 8], "offset_z": None, "offset_y": [-1, 0, 0, 1], "offset_x": [-1, 0, 0, 1],
        "count": [0, 0, 1, 0], "in": [0, 0, 1, 1], "out": [1, 0, 1, 0],
        "in_batch": [0] * 4, "in_z": None, "in_y": [1, 1, 2, 2], "in_x": [2, 2, 3, 3],
        "out_batch": [0] * 4, "out_z": None, "out_y": [2, 1, 2, 1], "out_x": [3, 2, 3, 2],
    }  # fmt: skip
