"""A right rulebook passes every check; each of many kinds of damage fails the check that is meant for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spcli.engines import load_engine
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.inspect import KeyedRulebook, SiteTable
from spcli.inspect.verify import CHECKS, verify_inverse, verify_rulebook
from spcli.sparse_tensor import SparseTensor
from strategies import sparse_tensors

SUBM = submanifold_geometry((3, 3, 3), (1, 1, 1))
DOWN = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
UP = ConvGeometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1), (0, 0, 0), transposed=True)
OTHERS = (
    regular_geometry((2, 3, 2), (2, 1, 2), (0, 1, 0), (1, 1, 1)),
    regular_geometry((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    submanifold_geometry((3, 1, 3), (2, 1, 1)),
)


def built(tensor: SparseTensor, geometry: ConvGeometry) -> KeyedRulebook:
    engine = load_engine("cpu")
    sites = engine.sites(tensor.indices, tensor.spatial_shape, tensor.batch_size)
    return KeyedRulebook("k", ("layer",), engine.rulebook(engine.build(sites, geometry)))


def failing(keyed: KeyedRulebook) -> dict[str, str]:
    return {check.name: check.found for check in verify_rulebook(keyed.rulebook, keyed.key) if check.ok is False}


@pytest.fixture(scope="module")
def tensor() -> SparseTensor:
    draw = np.random.default_rng(5)
    cells = np.unique(draw.integers(0, (2, 6, 8, 8), (150, 4)), axis=0).astype(np.int32)
    return SparseTensor(np.zeros((len(cells), 1), np.float32), cells, (6, 8, 8), 2)


@given(sparse_tensors(ndim=3), st.sampled_from((SUBM, DOWN, UP, *OTHERS)))
def test_what_an_engine_builds_passes(tensor, geometry):
    if min(geometry.out_spatial_shape(tensor.spatial_shape)) < 1:
        return
    keyed = built(tensor, geometry)
    assert failing(keyed) == {}
    if not geometry.submanifold:
        assert verify_inverse(keyed.rulebook, load_engine("cpu")).ok


def test_every_check_is_carried_out_on_a_submanifold_rulebook(tensor):
    checks = verify_rulebook(built(tensor, SUBM).rulebook)
    assert [check.name for check in checks] == list(CHECKS)
    assert all(check.ok is True for check in checks)


def rule_of(book, draw, tap=None):
    """A random rule, of one tap where asked for."""
    low, high = (0, len(book.in_rows)) if tap is None else book.pair_splits[tap : tap + 2]
    return int(draw.integers(low, high))


def with_rules(book, in_rows, out_rows):
    return replace(book, in_rows=in_rows.astype(np.int32), out_rows=out_rows.astype(np.int32))


def without(book, rule, tap):
    splits = book.pair_splits.copy()
    splits[tap + 1 :] -= 1
    shorter = with_rules(book, np.delete(book.in_rows, rule), np.delete(book.out_rows, rule))
    return replace(shorter, pair_splits=splits)


def tap_at(book, rule):
    return int(np.searchsorted(book.pair_splits, rule, side="right")) - 1


def a_wrong_input(book, draw):
    rows, rule = book.in_rows.copy(), rule_of(book, draw)
    rows[rule] = (rows[rule] + 1) % len(book.in_indices)
    return with_rules(book, rows, book.out_rows), "pair equation"


def a_wrong_output(book, draw):
    rows, rule = book.out_rows.copy(), rule_of(book, draw)
    rows[rule] = (rows[rule] + 1) % len(book.out_indices)
    return with_rules(book, book.in_rows, rows), "pair equation"


def a_row_that_does_not_exist(book, draw):
    rows = book.in_rows.copy()
    rows[rule_of(book, draw)] = len(book.in_indices)
    return with_rules(book, rows, book.out_rows), "rows"


def a_negative_row(book, draw):
    rows = book.out_rows.copy()
    rows[rule_of(book, draw)] = -1
    return with_rules(book, book.in_rows, rows), "rows"


def a_rule_twice(book, draw):
    rule = rule_of(book, draw)
    splits = book.pair_splits.copy()
    splits[tap_at(book, rule) + 1 :] += 1
    rows = (np.insert(rows, rule, rows[rule]) for rows in (book.in_rows, book.out_rows))
    return replace(with_rules(book, *rows), pair_splits=splits), "duplicates"


def two_rules_swapped(book, draw):
    taps = np.flatnonzero(np.diff(book.pair_splits) >= 2)
    tap = int(draw.choice(taps))
    rule = int(draw.integers(book.pair_splits[tap], book.pair_splits[tap + 1] - 1))
    order = np.arange(len(book.in_rows))
    order[[rule, rule + 1]] = order[[rule + 1, rule]]
    return with_rules(book, book.in_rows[order], book.out_rows[order]), "order"


def a_rule_in_the_next_tap(book, draw):
    splits = book.pair_splits.copy()
    tap = int(draw.integers(1, book.geometry.volume))
    splits[tap] -= 1
    return replace(book, pair_splits=splits), "pair equation"


def a_rule_left_out(book, draw):
    tap = 0
    return without(book, rule_of(book, draw, tap), tap), "complete"


def a_centre_left_out(book, draw):
    tap = book.geometry.volume // 2
    return without(book, rule_of(book, draw, tap), tap), "centre" if book.geometry.submanifold else "complete"


def a_mirrored_pair_left_out(book, draw):
    """Still symmetric: only the equation tells that it is missing."""
    if not book.geometry.submanifold:
        return a_rule_left_out(book, draw)
    last = book.geometry.volume - 1
    rule = rule_of(book, draw, 0)
    ends = int(book.out_rows[rule]), int(book.in_rows[rule])
    part = range(book.pair_splits[last], book.pair_splits[last + 1])
    other = next(r for r in part if (book.in_rows[r], book.out_rows[r]) == ends)
    return without(without(book, other, last), rule, 0), "complete"


def splits_that_fall(book, draw):
    splits = book.pair_splits.copy()
    tap = int(draw.integers(1, book.geometry.volume))
    splits[tap] = splits[-1] + 1
    return replace(book, pair_splits=splits), "splits"


def a_site_twice(book, draw):
    indices, row = book.in_indices.copy(), int(draw.integers(1, len(book.in_indices)))
    indices[row] = indices[row - 1]
    return replace(book, in_indices=indices), "input table"


def two_output_sites_swapped(book, draw):
    indices, row = book.out_indices.copy(), int(draw.integers(1, len(book.out_indices)))
    indices[[row - 1, row]] = indices[[row, row - 1]]
    return replace(book, out_indices=indices), "output table"


def a_site_outside_the_shape(book, draw):
    indices = book.out_indices.copy()
    indices[int(draw.integers(len(indices))), 1] = book.out_spatial_shape[0]
    return replace(book, out_indices=indices), "sites"


def another_output_shape(book, draw):
    shape = tuple(size + int(draw.integers(1, 4)) for size in book.out_spatial_shape)
    return replace(book, out_spatial_shape=shape), "shapes"


def another_dilation(book, draw):
    dilation = (1, 1, 2)
    padding = tuple(p + (d - 1) for p, d in zip(book.geometry.padding, dilation, strict=True))
    return replace(book, geometry=replace(book.geometry, dilation=dilation, padding=padding)), "pair equation"


def an_output_site_left_out(book, draw):
    """With its rules, so that nothing else tells."""
    if book.geometry.submanifold:
        return a_mirrored_pair_left_out(book, draw)
    row = int(draw.integers(len(book.out_indices)))
    kept = book.out_rows != row
    taps = np.repeat(np.arange(book.geometry.volume), np.diff(book.pair_splits))[kept]
    splits = np.searchsorted(taps, np.arange(book.geometry.volume + 1)).astype(np.int64)
    out_rows = book.out_rows[kept] - (book.out_rows[kept] > row)
    fewer = replace(book, out_indices=np.delete(book.out_indices, row, axis=0), pair_splits=splits)
    return with_rules(fewer, book.in_rows[kept], out_rows), "complete"


DAMAGE = (
    a_wrong_input,
    a_wrong_output,
    a_row_that_does_not_exist,
    a_negative_row,
    a_rule_twice,
    two_rules_swapped,
    a_rule_in_the_next_tap,
    a_rule_left_out,
    a_centre_left_out,
    a_mirrored_pair_left_out,
    splits_that_fall,
    a_site_twice,
    two_output_sites_swapped,
    a_site_outside_the_shape,
    another_output_shape,
    another_dilation,
    an_output_site_left_out,
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("geometry", [SUBM, DOWN], ids=["submanifold", "regular"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_fails_the_check_that_is_meant_for_it(tensor, damage, geometry, seed):
    book, check = damage(built(tensor, geometry).rulebook, np.random.default_rng(seed))
    found = failing(KeyedRulebook("k", (), book))
    assert check in found
    assert any(word in found[check] for word in ("tap", "row", "site", "shape")), found[check]


def test_a_one_sided_rule_fails_the_mirror_and_names_both_taps(tensor):
    book, _ = a_rule_left_out(built(tensor, SUBM).rulebook, np.random.default_rng(0))
    found = failing(KeyedRulebook("k", (), book))
    assert found["mirror"].startswith("tap 26 joins in ")
    assert "tap 0 does not join them the other way" in found["mirror"]


def test_a_broken_rule_is_named_with_its_tap_number_rows_and_sites():
    cells = np.array([[0, 0, 1], [0, 0, 2]], np.int32)
    tensor = SparseTensor(np.zeros((2, 1), np.float32), cells, (1, 4))
    book = built(tensor, submanifold_geometry((1, 3), (1, 1))).rulebook
    wrong = with_rules(book, np.array([1, 0, 1, 1]), book.out_rows)
    found = failing(KeyedRulebook("k", (), wrong))["pair equation"]
    assert found == (
        "tap 0 (offset 0,-1), rule 0: in 1 at [0, 0, 2], out 1 at [0, 0, 2]: in is not stride * out - padding + "
        "dilation * k"
    )


def test_checks_that_build_on_a_broken_one_are_left_out(tensor):
    book, _ = splits_that_fall(built(tensor, SUBM).rulebook, np.random.default_rng(0))
    checks = verify_rulebook(book)
    assert [check.ok for check in checks] == [False] + [None] * (len(CHECKS) - 1)


def test_an_inverse_that_is_not_the_rules_swapped_is_found(tensor):
    keyed = built(tensor, DOWN)
    book, _ = two_rules_swapped(keyed.rulebook, np.random.default_rng(0))
    check = verify_inverse(book, load_engine("cpu"))
    assert (check.ok, "of the inverse are not" in check.found) == (False, True)


@given(sparse_tensors(ndim=3), st.integers(0, 2**31 - 1))
def test_a_site_table_gives_every_site_its_row_and_no_other(tensor, shift):
    """However far sites lie apart: keys that do not fit 64 bits are made from ranks."""
    far = tensor.indices.astype(np.int64) * np.array([1, shift, shift, shift]) if shift else tensor.indices
    far = np.unique(far, axis=0)
    table = SiteTable(far)
    assert table.rows(far).tolist() == list(range(len(far)))
    others = far + 1
    known = {tuple(site): row for row, site in enumerate(far.tolist())}
    assert table.rows(others).tolist() == [known.get(tuple(site), -1) for site in others.tolist()]


@pytest.mark.parametrize("name", ["stride", "dilation"])
def test_a_size_below_one_fails_the_shapes(tensor, name):
    book = built(tensor, DOWN).rulebook
    found = failing(KeyedRulebook("k", (), replace(book, geometry=replace(DOWN, **{name: (0, 2, 2)}))))
    assert found == {"shapes": f"the {name} is [0, 2, 2] where every axis needs 1 or more"}
