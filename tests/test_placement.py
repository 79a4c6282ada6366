"""Where sites lie in metres: what a file says and what is refused, centres, and the site at a point."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spcli.engines import load_engine
from spcli.engines.base import Points, download_voxels
from spcli.grid import VoxelSpec, fixed_grid
from spcli.placement import Placement, stride_of
from strategies import examples

META: dict[str, Any] = {
    "voxel_size": [0.1, 0.2, 0.5],
    "point_cloud_range": [10, -20, -3, 11, -18, 1],
    "stride": [4, 2, 1],
}
KITTI = VoxelSpec((0.05, 0.05, 0.1), (0, -40, -3, 70.4, 40, 1), spatial_shape_extra=(1, 0, 0))
NOT_A_NUMBER = st.sampled_from([None, "0.1", True, float("nan"), float("inf"), 10**400, [1], {}])

sizes = st.floats(0.01, 10)
metres = st.floats(-100, 100)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Of 2-D or 3-D sites that span whole numbers of voxels."""
    ndim = draw(st.sampled_from((2, 3)))
    stride = draw(st.tuples(*[st.integers(1, 16)] * ndim))
    return Placement(draw(st.tuples(*[sizes] * 3)), draw(st.tuples(*[metres] * 3)), stride)


def placed(meta: object, ndim: int = 3) -> Placement:
    found = Placement.from_meta(meta, ndim)
    assert found is not None
    return found


def test_a_centre_is_the_middle_of_a_cell_and_axes_are_turned_round() -> None:
    centres = placed(META).centres(np.array([(0, 5, 6, 7)], np.int32))
    assert centres.dtype == np.float64
    assert centres[0] == pytest.approx((10 + 7.5 * 0.1, -20 + 6.5 * 0.4, -3 + 5.5 * 2.0))
    flat = placed({**META, "stride": [2, 1]}, 2).centres(np.array([(0, 6, 7)], np.int32))
    assert flat[0] == pytest.approx((10.75, -17.4, 0.0))


def test_the_centres_of_a_grid_are_those_of_its_cells() -> None:
    centres = Placement.from_grid(fixed_grid(KITTI)).centres(np.array([[0, 0, 0, 0], [9, 1, 2, 3]], np.int32))
    np.testing.assert_allclose(centres, [[0.025, -39.975, -2.95], [0.175, -39.875, -2.85]], atol=1e-5)


def test_a_cell_is_as_large_as_the_voxels_it_spans() -> None:
    assert placed(META).cell == (0.1, 0.4, 2.0)
    assert placed(META).strided((3, 0.5)).cell == (0.05, pytest.approx(0.6))


@examples(200)
@given(placements(), st.data())
def test_the_site_at_a_sites_centre_is_that_site(placement: Placement, data: st.DataObject) -> None:
    """For places within reach of float32, which counts voxels to half a voxel there."""
    site = data.draw(st.tuples(*[st.integers(-200, 200)] * len(placement.stride)))
    (centre,) = placement.centres(np.array([(0, *site)], np.int32)).tolist()
    assert placement.site_at(tuple(centre)) == site


@examples(200)
@given(placements(), st.tuples(metres, metres, metres))
def test_a_point_is_within_half_a_cell_of_the_centre_of_its_site(placement: Placement, xyz: Any) -> None:
    site = placement.site_at(xyz)
    assert site is not None
    (centre,) = placement.centres(np.array([(0, *site)], np.int32))
    axes = len(placement.stride)
    assert (np.abs(centre - xyz)[:axes] <= 0.5 * np.array(placement.cell) + 1e-3).all()


def test_a_site_of_half_a_voxel_is_the_one_that_the_voxel_begins_with() -> None:
    placement = Placement((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.5, 1, 1))
    assert placement.site_at((0.0, 0.0, 3.9)) == (6, 0, 0)


@pytest.mark.parametrize("xyz", [(1e99, 0, 0), (0, -3e38, 0), (0, 0, float("nan"))])
def test_there_is_no_site_where_float32_cannot_count_voxels(xyz: Any) -> None:
    assert placed(META).site_at(xyz) is None


@examples(100)
@given(st.lists(st.tuples(*[st.floats(-1, 5, width=32)] * 3), min_size=1, max_size=12), sizes, st.booleans())
def test_the_site_at_a_point_is_the_voxel_that_the_voxelizer_puts_it_into(
    points: list[Any], size: float, ranged: bool
) -> None:
    """Bit by bit, on cell borders too: the points are multiples of float32's steps, and so are half of the sizes."""
    size = size if ranged else float(np.float32(size))
    spec = VoxelSpec((size, 0.1, 0.5), (-1, -1, -1, 12, 6, 6) if ranged else None)
    check_sites(np.array(points, np.float32), spec)


def test_the_voxels_of_a_lattice_on_cell_borders_are_those_of_the_voxelizer() -> None:
    """Decimal multiples of the voxel size fall to either side of a border; reciprocals and float64 get some wrong."""
    steps = np.arange(1400) / 20
    check_sites(np.stack([steps, steps - 40, np.zeros(len(steps))], axis=1).astype(np.float32), KITTI)


def check_sites(values: np.ndarray, spec: VoxelSpec) -> None:
    """The voxelizer's site of every point is the one at the point."""
    engine = load_engine("cpu")
    scan = download_voxels(engine, engine.voxelize(Points(values, (0, 1, 2), (0, 1, 2)), spec, point_map=True))
    assert scan.point_rows is not None
    placement = Placement.from_grid(scan.grid)
    for point, row in zip(values.tolist(), scan.point_rows.tolist(), strict=True):
        if row >= 0:
            assert placement.site_at(tuple(point)) == tuple(scan.tensor.indices[row, 1:].tolist())


@given(placements())
def test_a_file_gives_back_what_it_was_told(placement: Placement) -> None:
    limits = [*placement.origin, *(low + 1 for low in placement.origin)]
    meta = {"voxel_size": list(placement.voxel_size), "point_cloud_range": limits, "stride": list(placement.stride)}
    assert Placement.from_meta(json.loads(json.dumps(meta)), len(placement.stride)) == placement


@pytest.mark.parametrize("ndim", [2, 3])
def test_sites_of_a_file_without_a_stride_span_one_voxel(ndim: int) -> None:
    meta = {name: value for name, value in META.items() if name != "stride"}
    assert placed(meta, ndim).stride == (1,) * ndim


@examples(300)
@given(st.sampled_from(sorted(META)), st.integers(0, 2), NOT_A_NUMBER | st.sampled_from([0, -1.5]), st.booleans())
def test_a_damaged_number_says_nothing(name: str, at: int, bad: Any, whole: bool) -> None:
    """Of the range the numbers may be 0 and below, nothing else."""
    meta = {**META, name: bad if whole else [*META[name][:at], bad, *META[name][at + 1 :]]}
    fine = name == "point_cloud_range" and not whole and bad in (0, -1.5) and not isinstance(bad, bool)
    assert (Placement.from_meta(meta) is not None) == fine


@given(st.sampled_from(sorted(META)), st.integers(0, 9))
def test_a_list_of_another_length_says_nothing(name: str, length: int) -> None:
    meta = {**META, name: (META[name] * 5)[:length]}
    meta[name] = [abs(number) + 1 for number in meta[name]]
    assert (Placement.from_meta(meta) is not None) == (length == len(META[name]))


@given(st.recursive(NOT_A_NUMBER | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_is_no_meta_says_nothing(meta: Any) -> None:
    assert Placement.from_meta(meta) is None


@pytest.mark.parametrize("missing", ["voxel_size", "point_cloud_range"])
def test_half_of_the_metres_say_nothing(missing: str) -> None:
    assert Placement.from_meta({name: value for name, value in META.items() if name != missing}) is None


def test_a_stride_is_known_without_metres_and_keeps_its_whole_numbers() -> None:
    stride = stride_of({"stride": [2, 1.5, 1]}, 3)
    assert stride == (2, 1.5, 1) and [type(number) for number in stride] == [int, float, int]
    assert stride_of({"stride": [2, 0, 1]}, 3) is None and stride_of({}, 3) is None
