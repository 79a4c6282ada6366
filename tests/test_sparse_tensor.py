"""Canonical row order, and what is refused in tensors from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spcli.errors import InputError
from spcli.sparse_tensor import SparseTensor, canonical, lexicographic_order
from strategies import examples, sparse_tensors


def tensor(rows: list[list[int]], shape: tuple[int, ...] = (4, 4, 4), batch_size: int = 2) -> SparseTensor:
    """Sites with their own row number as the feature."""
    indices = np.array(rows, np.int32).reshape(-1, 1 + len(shape))
    return SparseTensor(np.arange(len(rows), dtype=np.float32)[:, None], indices, shape, batch_size)


def test_rows_are_sorted_by_batch_then_z_then_y_then_x() -> None:
    shuffled = tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]])
    result, was_sorted = canonical(shuffled, "a.npz")
    assert was_sorted
    assert result.indices.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert result.features.ravel().tolist() == [4, 2, 3, 1, 0]


@examples(40)
@given(sparse_tensors(), st.integers(0, 1000))
def test_any_order_of_rows_becomes_the_same_tensor(sorted_tensor: SparseTensor, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(sorted_tensor.indices))
    shuffled = SparseTensor(
        sorted_tensor.features[order], sorted_tensor.indices[order], sorted_tensor.spatial_shape,
        sorted_tensor.batch_size,
    )  # fmt: skip
    result, _ = canonical(shuffled, "a.npz")
    np.testing.assert_array_equal(result.indices, sorted_tensor.indices)
    np.testing.assert_array_equal(result.features, sorted_tensor.features)
    assert lexicographic_order(result.indices) is None


def test_a_sorted_tensor_is_returned_as_it_is() -> None:
    given_tensor = tensor([[0, 0, 0, 0], [0, 0, 0, 3]])
    result, was_sorted = canonical(given_tensor, "a.npz")
    assert result is given_tensor and not was_sorted


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 0, 0, 0], [0, 0, 0, 4]], r"a\.npz: row 1 is at \[0, 0, 0, 4\], outside"),
        ([[0, 0, 0, 0], [2, 0, 0, 0]], "row 1"),
        ([[0, -1, 0, 0]], "row 0"),
        ([[0, 0, 0, 3], [0, 0, 0, 1], [0, 0, 0, 3]], r"row 2 repeats the site \[0, 0, 0, 3\]"),
        ([[0, 0, 0, 1], [0, 0, 0, 1]], "row 1 repeats"),
    ],
)
def test_sites_outside_the_shape_and_repeated_sites_are_named(rows: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        canonical(tensor(rows), "a.npz")


def test_density_counts_every_cell_of_every_scan() -> None:
    assert tensor([[0, 0, 0, 0], [1, 0, 0, 0]]).density == 2 / 128
    assert tensor([], shape=(201, 4000, 4000)).density == 0.0
    assert tensor([[0, 200, 3999, 3999]], shape=(201, 4000, 4000), batch_size=1).density == 1 / 3_216_000_000
    assert tensor([], shape=(0, 4, 4)).density == 0.0
