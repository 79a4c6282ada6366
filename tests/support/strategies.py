"""Hypothesis strategies for the things spcli works on: small sparse tensors, geometries, point clouds."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from soak import EXAMPLES
from spcli.engines.base import Points
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.grid import VoxelSpec
from spcli.sparse_tensor import SparseTensor

CHANNELS = (1, 3, 4, 5, 16, 17, 32, 64, 131)


def examples(count: int) -> settings:
    """So many examples, or `soak.LONGER` times as many in the long runs."""
    profile = settings.default
    assert profile is not None
    return settings(max_examples=count * profile.max_examples // EXAMPLES)


channels = st.sampled_from(CHANNELS)
dimensions = st.sampled_from((2, 3))


def integer_features(seed: int, rows: int, columns: int) -> np.ndarray:
    """float32 `[rows, columns]` of whole numbers from -4 to 4: their products and sums are exact in float32."""
    return np.random.default_rng(seed).integers(-4, 5, (rows, columns)).astype(np.float32)


def real_features(seed: int, rows: int, columns: int) -> np.ndarray:
    """float32 `[rows, columns]`, normally distributed."""
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@st.composite
def sparse_tensors(draw: DrawFn, ndim: int = 3, max_sites: int = 24, channels: int = 1) -> SparseTensor:
    """Canonical tensors: empty, one site, or up to full, with odd shapes and batches in which a scan may be empty.

    Shapes are at most 7 a side so that sites have neighbours; features are whole numbers.
    """
    batch_size = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=ndim, max_size=ndim)))
    cells = batch_size * prod(shape)
    chosen = draw(st.sets(st.integers(0, cells - 1), max_size=max_sites))
    indices = np.stack(np.unravel_index(np.array(sorted(chosen), np.int64), (batch_size, *shape)), axis=1)
    features = integer_features(draw(st.integers(0, 2**16)), len(chosen), channels)
    return SparseTensor(features, np.ascontiguousarray(indices, np.int32), shape, batch_size)


def _sizes(draw: DrawFn, ndim: int, values: SearchStrategy[int]) -> tuple[int, ...]:
    """One integer for all axes or one for each."""
    if draw(st.booleans()):
        return (draw(values),) * ndim
    return tuple(draw(values) for _ in range(ndim))


@st.composite
def submanifold_geometries(draw: DrawFn, ndim: int = 3) -> ConvGeometry:
    """Odd kernels 1 to 7, mixed ones such as (3, 1, 1), dilation 1 to 3."""
    kernel = _sizes(draw, ndim, st.sampled_from((3, 1, 5, 7)))
    return submanifold_geometry(kernel, _sizes(draw, ndim, st.integers(1, 3)))


@st.composite
def regular_geometries(draw: DrawFn, ndim: int = 3) -> ConvGeometry:
    """Kernels 1 to 5 and 7, odd and even, with a stride that need not be the kernel's."""
    kernel = _sizes(draw, ndim, st.sampled_from((3, 2, 1, 4, 5, 7)))
    stride = _sizes(draw, ndim, st.integers(1, 3))
    padding = _sizes(draw, ndim, st.integers(0, 3))
    return regular_geometry(kernel, stride, padding, _sizes(draw, ndim, st.integers(1, 3)))


@st.composite
def transposed_geometries(draw: DrawFn, ndim: int = 3) -> ConvGeometry:
    """Transposed convolutions; output padding is smaller than the stride or the dilation, as torch demands."""
    base = draw(regular_geometries(ndim))
    limits = [max(s, d) - 1 for s, d in zip(base.stride, base.dilation, strict=True)]
    extra = tuple(draw(st.integers(0, limit)) for limit in limits)
    return ConvGeometry(base.kernel_size, base.stride, base.padding, base.dilation, extra, transposed=True)


def geometries(ndim: int = 3) -> SearchStrategy[ConvGeometry]:
    """Any of the three kinds."""
    return st.one_of(submanifold_geometries(ndim), regular_geometries(ndim), transposed_geometries(ndim))


@st.composite
def convolutions(draw: DrawFn, channels: int = 1) -> tuple[SparseTensor, ConvGeometry]:
    """A tensor and a geometry whose output grid has at least one cell on every axis."""
    ndim = draw(dimensions)
    tensor = draw(sparse_tensors(ndim, channels=channels))
    fits = geometries(ndim).filter(lambda geometry: min(geometry.out_spatial_shape(tensor.spatial_shape)) >= 1)
    return tensor, draw(fits)


VOXEL_SIZES = ((0.05, 0.05, 0.1), (0.1, 0.1, 0.2), (0.075, 0.075, 0.2), (0.16, 0.16, 4.0), (0.3, 0.1, 0.7))
CORNERS = ((0.0, -0.4, -0.3), (-1.2, -0.4, 0.0), (0.0, 0.0, 0.0), (-0.7, 0.1, -2.0))
NOT_FINITE = (np.nan, np.inf, -np.inf, -0.0)
FAR = (3e38, -3e38, 1e10)


@st.composite
def voxel_specs(draw: DrawFn) -> VoxelSpec:
    """Small grids, every reduction, with and without caps, with the range given or left to the data."""
    size = draw(st.sampled_from(VOXEL_SIZES))
    low = draw(st.sampled_from(CORNERS))
    cells = draw(st.tuples(*[st.integers(1, 9)] * 3))
    high = tuple(lo + n * s for lo, n, s in zip(low, cells, size, strict=True))
    return VoxelSpec(
        voxel_size=size,
        point_cloud_range=draw(st.sampled_from(((*low, *high), None))),
        max_points=draw(st.sampled_from((None, 1, 2, 5))),
        max_voxels=draw(st.sampled_from((None, 1, 3, 8))),
        reduce=draw(st.sampled_from(("mean", "first", "max", "sum"))),
        spatial_shape_extra=draw(st.sampled_from(((0, 0, 0), (1, 0, 0), (2, 1, 3)))),
    )


@st.composite
def point_clouds(draw: DrawFn, spec: VoxelSpec, max_points: int = 60) -> Points:
    """Points for `spec`: on a 1 mm lattice, on cell faces and one step beside them, repeated, outside, not finite."""
    low = np.array(spec.point_cloud_range[:3] if spec.point_cloud_range else (-0.5, -0.5, -0.5), np.float32)
    size = np.array(spec.voxel_size, np.float32)
    # Where the data decide the range, a far point is a usage error of its own, not a point out of range.
    odd = NOT_FINITE if spec.point_cloud_range is None else NOT_FINITE + FAR
    rows = [draw(_points(low, size, odd)) for _ in range(draw(st.integers(0, max_points)))]
    if rows and draw(st.booleans()):
        rows += rows[: draw(st.integers(1, len(rows)))]
    columns = draw(st.integers(3, 5))
    values = np.zeros((len(rows), columns), np.float32)
    values[:, :3] = np.array(rows, np.float32).reshape(-1, 3)
    values[:, 3:] = real_features(len(rows), len(rows), columns - 3)
    if columns > 3 and len(rows) and draw(st.booleans()):
        values[draw(st.integers(0, len(rows) - 1)), 3] = np.nan
    order = draw(st.permutations(range(columns)))
    xyz = (order.index(0), order.index(1), order.index(2))
    used = draw(st.sampled_from((tuple(range(columns)), tuple(range(columns))[::-1], xyz)))
    return Points(np.ascontiguousarray(values[:, order]), xyz, used)


@st.composite
def _points(draw: DrawFn, low: np.ndarray, size: np.ndarray, odd: tuple[float, ...]) -> tuple[float, ...]:
    kind = draw(st.sampled_from(("lattice", "lattice", "lattice", "face", "odd")))
    if kind == "lattice":
        return tuple(np.float32(draw(st.integers(-900, 2500)) / 1000) for _ in range(3))
    steps = [draw(st.integers(-1, 10)) for _ in range(3)]
    face = (low + np.array(steps, np.float32) * size).astype(np.float32)
    if kind == "face":
        towards = draw(st.sampled_from((None, -np.inf, np.inf)))
        return tuple(face if towards is None else np.nextafter(face, np.float32(towards)))
    face[draw(st.integers(0, 2))] = draw(st.sampled_from(odd))
    return tuple(face)
