"""Questions to rulebooks: every answer is what a loop over all rules would give."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spcli.engines import load_engine
from spcli.errors import InputError, UsageError
from spcli.geometry import regular_geometry, submanifold_geometry
from spcli.inspect import KeyedRulebook, Query, TableChunk, hash_tables, load_dump, rule_counts, rules, summary
from spcli.program import KeyedMap
from spcli.writers import write_rulebooks
from strategies import sparse_tensors

GEOMETRIES = (submanifold_geometry((3, 3, 3), (1, 1, 1)), regular_geometry((2, 3, 2), (2, 1, 2), (0, 1, 0), (1, 1, 1)))


def built(tensor, geometry, key="k") -> KeyedRulebook:
    engine = load_engine("cpu")
    sites = engine.sites(tensor.indices, tensor.spatial_shape, tensor.batch_size)
    return KeyedRulebook(key, ("layer",), engine.rulebook(engine.build(sites, geometry)))


def listed(chunks) -> list[tuple]:
    """(key, tap, count, in, out) of every rule."""
    return [
        (chunk.source.key, *rule)
        for chunk in chunks
        for rule in zip(
            chunk.taps.tolist(), chunk.counts.tolist(), chunk.in_rows.tolist(), chunk.out_rows.tolist(), strict=True
        )
    ]


def every_rule(keyed: KeyedRulebook) -> list[tuple]:
    book = keyed.rulebook
    return [
        (keyed.key, tap, count, int(book.in_rows[rule]), int(book.out_rows[rule]))
        for tap in range(book.geometry.volume)
        for count, rule in enumerate(range(book.pair_splits[tap], book.pair_splits[tap + 1]))
    ]


@st.composite
def questions(draw):
    """A rulebook, and a query over rows and taps that exist or not."""
    tensor = draw(sparse_tensors(ndim=3).filter(lambda t: min(t.spatial_shape) > 1))
    keyed = built(tensor, draw(st.sampled_from(GEOMETRIES)))
    row = st.integers(0, max(1, len(tensor.indices)))
    return keyed, Query(
        tap=draw(st.none() | st.integers(0, keyed.rulebook.geometry.volume - 1)),
        inputs=draw(st.none() | st.tuples(row)),
        outputs=draw(st.none() | st.tuples(row)),
        limit=draw(st.none() | st.integers(0, 9)),
    )


@given(questions())
def test_filters_are_those_of_a_loop_over_all_rules(question):
    keyed, query = question
    expected = [
        rule
        for rule in every_rule(keyed)
        if query.tap in (None, rule[1])
        and (query.inputs is None or query.inputs[0] == rule[3])
        and (query.outputs is None or query.outputs[0] == rule[4])
    ]
    assert listed(rules([keyed], query)) == expected[: query.limit]


@given(questions())
def test_counts_are_those_of_a_loop_over_all_rules(question):
    keyed, _ = question
    counts = rule_counts(keyed.rulebook)
    outputs = [rule[4] for rule in every_rule(keyed)]
    assert counts.pairs == len(outputs)
    assert counts.pairs_per_output_max == max(map(outputs.count, outputs), default=0)
    assert sum(counts.pairs_per_offset) == counts.pairs


@given(questions())
def test_a_dump_gives_back_the_rulebook(question):
    keyed, _ = question
    stream = io.BytesIO()
    write_rulebooks(stream, [KeyedMap("k", 0, ("layer",))], {"k": keyed.rulebook}, {})
    (loaded,) = load_dump(stream, "dump")
    assert loaded.layers == ("layer",)
    for name in ("in_indices", "out_indices", "in_rows", "out_rows", "pair_splits"):
        np.testing.assert_array_equal(getattr(loaded.rulebook, name), getattr(keyed.rulebook, name))
    assert loaded.rulebook.geometry == keyed.rulebook.geometry
    assert loaded.rulebook.in_spatial_shape == keyed.rulebook.in_spatial_shape
    assert loaded.rulebook.out_spatial_shape == keyed.rulebook.out_spatial_shape


@pytest.fixture
def keyed():
    """Sites (0, 0), (0, 1) of two scans in a 2-D grid of 1 x 3."""
    from spcli.sparse_tensor import SparseTensor

    indices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 1]], np.int32)
    tensor = SparseTensor(np.zeros((3, 1), np.float32), indices, (1, 3), 2)
    return built(tensor, submanifold_geometry((1, 3), (1, 1)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), [("k", 0, 0, 0, 1), ("k", 1, 0, 0, 0), ("k", 1, 1, 1, 1), ("k", 1, 2, 2, 2), ("k", 2, 0, 1, 0)]),
        (Query(offset=(0, 1)), [("k", 2, 0, 1, 0)]),
        (Query(offset=(0, 0), tap=1, limit=1), [("k", 1, 0, 0, 0)]),
        (Query(inputs=(0, 0, 1)), [("k", 1, 1, 1, 1), ("k", 2, 0, 1, 0)]),
        (Query(outputs=(0, 1)), [("k", 0, 0, 0, 1), ("k", 1, 1, 1, 1), ("k", 1, 2, 2, 2)]),
        (Query(inputs=(0, 0, 2)), []),
    ],
    ids=["all", "offset", "offset, tap and limit", "site with batch", "site of any batch", "inactive site"],
)
def test_a_rulebook_one_can_read(keyed, query, expected):
    assert listed(rules([keyed], query)) == expected


def test_the_limit_goes_across_rulebooks(keyed):
    other = KeyedRulebook("l", (), keyed.rulebook)
    assert [rule[0] for rule in listed(rules([keyed, other], Query(limit=7)))] == ["k"] * 5 + ["l"] * 2
    assert [rule[0] for rule in listed(rules([keyed, other], Query(keys=("l",))))] == ["l"] * 5


@pytest.mark.parametrize(
    "query",
    [Query(keys=("z",)), Query(tap=3), Query(offset=(0, 2)), Query(offset=(0, 0), tap=0), Query(inputs=(1, 2, 3, 4))],
)
def test_what_does_not_exist_is_a_usage_error(keyed, query):
    with pytest.raises(UsageError):
        list(rules([keyed], query))


def test_an_offset_that_only_one_kernel_has_skips_the_others(keyed):
    point = KeyedRulebook("p", (), built_point(keyed))
    assert {rule[0] for rule in listed(rules([keyed, point], Query(offset=(0, 1))))} == {"k"}


def built_point(keyed):
    from spcli.sparse_tensor import SparseTensor

    tensor = SparseTensor(np.zeros((3, 1), np.float32), keyed.rulebook.in_indices, (1, 3), 2)
    return built(tensor, submanifold_geometry((1, 1), (1, 1))).rulebook


ENTRIES = [("input", 0), ("input", 1), ("input", 2), ("output", 0), ("output", 1), ("output", 2)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            Query(),
            [*ENTRIES, (0, 0, 0, 1), (1, 0, 0, 0), (1, 1, 1, 1), (1, 2, 2, 2), (2, 0, 1, 0)],
        ),
        (Query(inputs=(0, 1)), [("input", 1), ("input", 2), (1, 1, 1, 1), (1, 2, 2, 2), (2, 0, 1, 0)]),
        (Query(outputs=(2,)), [("output", 2), (1, 2, 2, 2)]),
        (Query(inputs=(0,), outputs=(1,)), [("input", 0), ("output", 1), (0, 0, 0, 1)]),
        (Query(limit=4), [("input", 0), ("input", 1), ("input", 2), ("output", 0)]),
        (Query(limit=7, tap=2), [*ENTRIES, (2, 0, 1, 0)]),
    ],
    ids=["all", "input site", "output row", "both", "limit", "limit and tap"],
)  # fmt: skip
def test_hash_tables_hold_every_site_and_its_row_and_then_the_rules(keyed, query, expected):
    entries = []
    for chunk in hash_tables([keyed], query):
        if isinstance(chunk, TableChunk):
            entries += [(chunk.table, row) for row in chunk.rows.tolist()]
        else:
            columns = (chunk.taps, chunk.counts, chunk.in_rows, chunk.out_rows)
            entries += zip(*(column.tolist() for column in columns), strict=True)
    assert entries == expected


def test_a_summary_names_sizes_and_counts(keyed):
    entry = summary("k", ("a", "b"), keyed.rulebook.geometry, rule_counts(keyed.rulebook))
    assert (entry["key"], entry["layers"], entry["in_sites"], entry["pairs"]) == ("k", ["a", "b"], 3, 5)
    assert (entry["pairs_per_offset"], entry["offsets"]) == ([1, 3, 1], [[0, -1], [0, 0], [0, 1]])
    assert entry["pairs_per_output"] == {"mean": 5 / 3, "max": 2}
    assert entry["batch_size"] == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("k/pair_splits", np.array([0, 1, 4]), "does not divide 5 rules among 3 taps"),
        ("k/pair_splits", np.array([0, 4, 1, 5]), "does not divide"),
        ("k/in_rows", np.array([0, 0, 1, 2, 3], np.int32), "k/in_rows: needs 5 rows from 0 to 2"),
        ("k/out_rows", np.array([0], np.int32), "k/out_rows"),
        ("k/kernel_size", np.array([3]), "different numbers of axes"),
        ("k/in_indices", np.zeros((3, 4), np.int32), "different numbers of axes"),
        ("keys", np.array(["k", "l"]), "not a whole rulebook dump"),
    ],
)
def test_a_dump_that_contradicts_itself_is_refused(keyed, name, value, words):
    stream = io.BytesIO()
    write_rulebooks(stream, [KeyedMap("k", 0, ())], {"k": keyed.rulebook}, {})
    stream.seek(0)
    with np.load(stream) as data:
        arrays = {**{member: data[member] for member in data.files}, name: value}
    changed = io.BytesIO()
    np.savez(changed, **arrays)
    with pytest.raises(InputError, match=words):
        load_dump(changed, "dump")


def test_other_files_are_no_dumps():
    other = io.BytesIO()
    np.savez(other, keys=np.arange(3))
    assert load_dump(other, "x") is None
    assert load_dump(io.BytesIO(b"text"), "x") is None
