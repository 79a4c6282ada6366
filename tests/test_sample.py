"""The synthetic street: made again byte for byte, laid out as KITTI's files, as sparse as real scans."""

from __future__ import annotations

import itertools
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from spcli.errors import UsageError
from spcli.points import PointCloud
from spcli.readers import read
from spcli.sample import SENSOR_HEIGHT, beam_elevations, street_scan

SAMPLES = Path(__file__).resolve().parents[1] / "sample_data"
NAMES = ("street_000.bin", "street_001.bin")


@pytest.fixture(scope="module", params=(0, 1))
def scan(request: pytest.FixtureRequest) -> PointCloud:
    return street_scan(request.param)


def test_the_committed_scans_are_what_the_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_scans.py", str(tmp_path)])
    runpy.run_path(str(SAMPLES / "make_scans.py"), run_name="__main__")
    made = (*NAMES, "worked_example.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == list(made)
    for name in made:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes()


def test_a_seed_gives_the_same_scan_and_another_seed_another() -> None:
    first = street_scan(4, points=5000).values
    np.testing.assert_array_equal(first, street_scan(4, points=5000).values)
    other = street_scan(6, points=5000).values
    assert first.shape != other.shape or (first != other).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_step_test_reads_a_committed_scan(name: str) -> None:
    content = read(str(SAMPLES / name)).content
    assert isinstance(content, PointCloud)
    assert content.columns == ("x", "y", "z", "intensity")
    assert content.warnings == ()


def test_the_readme_tells_the_number_of_points() -> None:
    text = (SAMPLES / "README.md").read_text()
    for name in NAMES:
        points = (SAMPLES / name).stat().st_size // 16
        assert f"{points:,}" in text


# --- the sensor ------------------------------------------------------------------------------------------------------


def test_the_beams_are_those_of_the_two_laser_blocks() -> None:
    beams = beam_elevations()
    np.testing.assert_allclose(beams[[0, 31, 32, 63]], [2.0, -8.33, -8.83, -24.33], atol=0.01)
    np.testing.assert_allclose(np.diff(beams[:32]), -1 / 3)
    np.testing.assert_allclose(np.diff(beams[32:]), -0.5)


def test_a_scan_has_about_115_000_points_within_a_hundred_metres(scan: PointCloud) -> None:
    assert abs(len(scan.values) - 115_000) < 5_000
    assert np.linalg.norm(scan.xyz, axis=1).max() < 100.2


def test_points_are_ordered_beam_by_beam_from_the_top_and_then_around_to_the_left(scan: PointCloud) -> None:
    x, y, z = scan.xyz.T.astype(np.float64)
    azimuth = np.arctan2(y, x) % (2 * np.pi)
    starts = np.flatnonzero(np.diff(azimuth) < -1.0) + 1
    turns = np.split(np.degrees(np.arctan2(z, np.hypot(x, y))), starts)
    assert len(turns) == 64
    elevations = np.array([np.median(turn) for turn in turns])
    assert (np.diff(elevations) < 0).all()
    np.testing.assert_allclose(elevations, beam_elevations(), atol=0.1)
    within = np.diff(azimuth)[np.diff(azimuth) > -1.0]
    assert (within > -1e-3).all(), "only the 1 mm lattice turns a point back"


def test_coordinates_lie_on_a_millimetre_lattice_and_intensities_on_hundredths(scan: PointCloud) -> None:
    assert scan.values.dtype == np.float32
    wide = scan.values.astype(np.float64)
    lattice = np.column_stack([np.round(wide[:, :3], 3), np.round(wide[:, 3], 2)]).astype(np.float32)
    np.testing.assert_array_equal(scan.values, lattice)
    assert 0 <= scan.values[:, 3].min() < 0.1
    assert 0.9 < scan.values[:, 3].max() <= 0.99


def test_the_road_is_the_sensor_s_height_below_with_two_centimetres_of_noise(scan: PointCloud) -> None:
    x, y, z = scan.xyz.T
    road = (np.abs(y) < 2) & (np.abs(x) < 9) & (z < -1.5)
    assert road.sum() > 5_000
    assert abs(float(np.median(z[road])) + SENSOR_HEIGHT) < 0.05
    beam = (np.abs(np.degrees(np.arctan2(z, np.hypot(x, y))) + 20.33) < 0.06) & (np.abs(y) < 1.5) & (x > 0)
    distance = np.linalg.norm(scan.xyz[beam], axis=1)
    # Neighbours differ by the noise of two ranges.
    assert 0.012 < np.std(np.diff(distance)) / np.sqrt(2) < 0.03


def test_fewer_points_come_from_wider_steps_over_the_same_street(scan: PointCloud) -> None:
    seed = int(scan.source.removeprefix("street "))
    few = street_scan(seed, points=20_000)
    assert abs(len(few.values) - 20_000) < 1_500
    extent = np.percentile(scan.xyz, [2, 98], axis=0)
    np.testing.assert_allclose(np.percentile(few.xyz, [2, 98], axis=0), extent, atol=3.0)


@pytest.mark.parametrize(("seed", "points"), [(-1, 100), (0, 0)])
def test_a_negative_seed_or_no_points_are_a_usage_error(seed: int, points: int) -> None:
    with pytest.raises(UsageError, match="the seed is 0 or more"):
        street_scan(seed, points)


# --- how real --------------------------------------------------------------------------------------------------------

LOW, SIZE, CELLS = (0.0, -40.0, -3.0), (0.05, 0.05, 0.1), (1408, 1600, 40)


def test_scans_are_as_sparse_as_real_ones_in_second_s_range(scan: PointCloud) -> None:
    """A full turn of KITTI has 62,853 points in range, 41,281 voxels and 5.7 rules per output."""
    sites = np.floor((scan.xyz - np.float32(LOW)) / np.float32(SIZE)).astype(np.int64)
    sites = sites[((sites >= 0) & (sites < CELLS)).all(axis=1)]
    voxels = np.unique(key(sites))
    assert 50_000 < len(sites) < 70_000
    assert 38_000 < len(voxels) < 44_000
    rules = sum(
        np.isin(voxels + key(np.array(offset)), voxels).sum() for offset in itertools.product((-1, 0, 1), repeat=3)
    )
    assert 4.0 < rules / len(voxels) < 6.0


def key(sites: np.ndarray) -> np.ndarray:
    """One number per site; the strides leave room for a neighbour outside the grid."""
    return (sites[..., 2] * 2000 + sites[..., 1]) * 2000 + sites[..., 0]
