"""The pair equation: sizes and offsets of spcli against hand-made tables, and the oracle against itself.

The oracle computes every convolution twice, by rules and by slices of a dense grid; only when both agree may the
engines be judged by it.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import oracle
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.sparse_tensor import SparseTensor
from strategies import channels, convolutions, examples, geometries, integer_features, submanifold_geometries


def line(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> ConvGeometry:
    """The same sizes on both axes of a plane."""
    return regular_geometry((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)


def transposed(kernel: int, stride: int, padding: int, dilation: int, extra: int) -> ConvGeometry:
    return ConvGeometry(*((n,) * 2 for n in (kernel, stride, padding, dilation, extra)), transposed=True)


@pytest.mark.parametrize(
    ("size", "geometry", "expected"),
    [
        (41, line(3, 2, 1), 21),  # SECOND's heights: 41, 21, 11, 5, 2
        (21, line(3, 2, 1), 11),
        (11, line(3, 2, 0), 5),
        (5, line(3, 2, 0), 2),
        (8, line(2, 2, 0), 4),
        (7, line(2, 2, 0), 3),
        (10, line(3, 1, 0, 2), 6),
        (5, line(7, 1, 3), 5),
        (2, line(3), 0),  # a window that does not fit
        (4, transposed(2, 2, 0, 1, 0), 8),
        (4, transposed(3, 2, 1, 1, 1), 8),
        (4, transposed(3, 2, 1, 2, 0), 9),  # dilation counts, as in torch
        (9, submanifold_geometry((5, 5), (3, 3)), 9),
    ],
)
def test_output_sizes_follow_the_formula(size: int, geometry: ConvGeometry, expected: int) -> None:
    assert geometry.out_spatial_shape((size, size)) == (expected, expected)
    assert oracle.out_shape_of((size, size), geometry) == (expected, expected)


@examples(40)
@given(geometries(3))
def test_output_sizes_are_the_definitions_for_every_geometry(geometry: ConvGeometry) -> None:
    assert geometry.out_spatial_shape((9, 4, 13)) == oracle.out_shape_of((9, 4, 13), geometry)


def test_offsets_are_centred_and_the_last_axis_runs_fastest() -> None:
    assert line(3).offsets() == [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1)]


def test_even_kernels_reach_one_further_up_than_down() -> None:
    assert line(2).offsets() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [y for y, x in line(4).offsets() if x == 0] == [-1, 0, 1, 2]


@examples(40)
@given(geometries(3))
def test_there_is_one_offset_a_tap(geometry: ConvGeometry) -> None:
    assert len(geometry.offsets()) == geometry.volume == len(oracle.taps_of(geometry))
    assert geometry.ndim == 3


@examples(40)
@given(submanifold_geometries(3))
def test_submanifold_padding_centres_the_kernel(geometry: ConvGeometry) -> None:
    assert geometry.padding == oracle.effective_padding(geometry)
    centre = geometry.offsets().index((0, 0, 0))
    assert centre == geometry.volume // 2
    assert oracle.output_of((0, 5, 6, 7), oracle.taps_of(geometry)[centre], geometry) == (0, 5, 6, 7)


def test_a_rule_by_hand() -> None:
    """Kernel 3, stride 2, padding 1 on a line: site 4 is seen by output 2 through its middle tap only, site 3 by
    output 1 through its last tap and by output 2 through its first."""
    window = regular_geometry((1, 3), (1, 2), (0, 1), (1, 1))
    rules = oracle.rules_of([(0, 0, 3), (0, 0, 4)], (1, 6), window)
    assert rules.out_sites == [(0, 0, 1), (0, 0, 2)]
    assert rules.by_tap == [[(0, 1)], [(1, 1)], [(0, 0)]]


def _tuples(tensor: SparseTensor) -> list[oracle.Site]:
    return [tuple(site) for site in tensor.indices.tolist()]


@examples(40)
@given(convolutions(channels=2))
def test_the_oracles_rules_and_its_dense_convolution_agree(case: tuple[SparseTensor, ConvGeometry]) -> None:
    tensor, geometry = case
    sites = _tuples(tensor)
    weight = integer_features(1, 3, geometry.volume * 2).reshape(3, *geometry.kernel_size, 2)
    rules = oracle.rules_of(sites, tensor.spatial_shape, geometry)
    dense = oracle.dense_of(sites, tensor.features, tensor.spatial_shape, tensor.batch_size)
    full = oracle.dense_convolve(dense, geometry, weight)
    assert full.shape == (tensor.batch_size, *geometry.out_spatial_shape(tensor.spatial_shape), 3)
    by_rules = oracle.convolve(tensor.features, rules, weight)
    np.testing.assert_array_equal(by_rules, np.array([full[site] for site in rules.out_sites]).reshape(-1, 3))


@examples(40)
@given(convolutions())
def test_the_oracles_output_sites_are_where_a_dense_convolution_of_ones_is_not_zero(
    case: tuple[SparseTensor, ConvGeometry],
) -> None:
    tensor, geometry = case
    sites = _tuples(tensor)
    rules = oracle.rules_of(sites, tensor.spatial_shape, geometry)
    ones = oracle.dense_of(sites, np.ones((len(sites), 1)), tensor.spatial_shape, tensor.batch_size)
    reached = oracle.dense_convolve(ones, geometry, np.ones((1, *geometry.kernel_size, 1)))[..., 0]
    if geometry.submanifold:
        assert rules.out_sites == sites
    else:
        assert rules.out_sites == [tuple(site) for site in np.argwhere(reached > 0).tolist()]
    assert [int(reached[site]) for site in rules.out_sites] == [
        sum(out == row for tap in rules.by_tap for _, out in tap) for row in range(len(rules.out_sites))
    ]


@examples(40)
@given(channels)
def test_exact_features_stay_exact_in_float32(columns: int) -> None:
    """The whole-number features that let tests demand equality keep every sum of 343 taps below 2**24."""
    assert np.abs(integer_features(0, 50, columns)).max() ** 2 * 343 * columns < 2**24
