"""Raw float32 files: how many columns they have, and what else is told about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spcli.errors import InputError, UsageError
from spcli.points import PointCloud
from spcli.readers import read
from spcli.readers.columns import measure_steps
from spcli.sample import street_scan


def cloud(path: Path, columns: int | tuple[str, ...] | None = None) -> PointCloud:
    content = read(str(path), columns).content
    assert isinstance(content, PointCloud)
    return content


def write(path: Path, values: object, dtype: str = "<f4") -> Path:
    np.asarray(values, dtype).tofile(path)
    return path


def refusal(path: Path, columns: int | tuple[str, ...] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(str(path), columns)
    message = str(caught.value)
    assert message.startswith(str(path)), "an error names the file first"
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def ordered() -> np.ndarray:
    """A scan of 840 points in the order a LiDAR writes them: 840 divides by every count of 3 to 7."""
    return street_scan(3).values[:840]


@pytest.fixture(scope="module")
def shuffled() -> np.ndarray:
    """The same number of points in no order."""
    draw = np.random.default_rng(5)
    return np.column_stack([draw.uniform(-40, 40, (840, 3)), draw.random(840)]).astype(np.float32)


def with_columns(points: np.ndarray, count: int) -> np.ndarray:
    """`points` with further columns as datasets have them: a ring, a time, an echo number."""
    rows = len(points)
    ring, time = np.arange(rows) // 100, np.linspace(0, 0.1, rows)
    return np.column_stack([points, ring, time, np.ones(rows)]).astype(np.float32)[:, :count]


# --- the step test ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "points", "columns"),
    [
        ("kitti_000000_full.bin", 115384, ("x", "y", "z", "intensity")),
        ("kitti_000008_front.bin", 17238, ("x", "y", "z", "intensity")),
        ("nuscenes_single_sweep.bin", 34688, ("x", "y", "z", "intensity", "ring")),
        ("ouster_os1_128.bin", 107647, ("x", "y", "z", "intensity")),
    ],
)
def test_the_column_count_of_real_scans_is_found(
    shared: Path, name: str, points: int, columns: tuple[str, ...]
) -> None:
    scan = cloud(shared / "data" / name)
    assert scan.values.shape == (points, len(columns))
    assert scan.columns == columns
    assert scan.warnings == ()


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_the_column_count_of_points_in_scan_order_is_found_though_every_count_fits(
    tmp_path: Path, ordered: np.ndarray, count: int
) -> None:
    rows = with_columns(ordered, count)
    scan = cloud(write(tmp_path / "a.bin", rows))
    assert scan.columns == ("x", "y", "z", "intensity", "ring", "c5", "c6")[:count]
    np.testing.assert_array_equal(scan.values, rows)
    assert scan.warnings == ()


def test_the_values_are_float32_contiguous_and_the_caller_may_write_to_them(
    tmp_path: Path, ordered: np.ndarray
) -> None:
    values = cloud(write(tmp_path / "a.bin", ordered)).values
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert values.flags.writeable


def test_points_in_no_order_are_not_guessed_but_asked_about(tmp_path: Path, shuffled: np.ndarray) -> None:
    message = refusal(write(tmp_path / "a.bin", shuffled))
    assert "3 columns: 1120 points" in message
    assert "4 columns: 840 points" in message
    assert "median step" in message
    assert "--columns" in message


def test_points_in_no_order_are_read_with_a_warning_where_one_count_fits(tmp_path: Path, shuffled: np.ndarray) -> None:
    scan = cloud(write(tmp_path / "a.bin", shuffled[:838]))
    assert scan.values.shape == (838, 4)
    assert len(scan.warnings) == 1
    assert "the only count of 3 to 7 that fits" in scan.warnings[0]


@pytest.mark.parametrize(
    ("xs", "median", "usable"),
    [
        ([1, 2, 4, 8], 2, 3),
        ([1, 1, 2, 2, 4, 4, 8], 2, 3),
        ([1, 2, 0, 4, 8], 4, 2),
        ([1, 2, np.nan, 4, 8, np.inf], 4, 2),
        ([5, 5, 5], 0, 2),
        ([0, 0, 0], np.inf, 0),
        ([1], np.inf, 0),
    ],
    ids=["steps", "repeats", "no-returns", "non-finite", "one place", "nothing", "one point"],
)
def test_steps_lie_between_different_points_that_returned(xs: list[float], median: float, usable: int) -> None:
    rows = np.zeros((len(xs), 4), np.float32)
    rows[:, 0] = xs
    assert measure_steps(rows.ravel(), 4) == (median, usable)


def test_every_point_stored_twice_does_not_fool_the_step_test(tmp_path: Path, ordered: np.ndarray) -> None:
    assert cloud(write(tmp_path / "a.bin", np.repeat(ordered, 2, axis=0))).values.shape == (1680, 4)


@pytest.mark.parametrize("count", [4, 5])
def test_no_returns_at_zero_do_not_fool_the_step_test(tmp_path: Path, ordered: np.ndarray, count: int) -> None:
    """Organised Ouster clouds: 112,724 of 131,072 points are (0, 0, 0)."""
    rows = np.zeros((131040, count), np.float32)
    if count == 5:
        rows[:, 4] = np.arange(len(rows)) % 32
    start = 50000
    rows[start : start + 840] = with_columns(ordered, count)
    scan = cloud(write(tmp_path / "a.bin", rows))
    assert scan.values.shape == rows.shape


def test_no_returns_between_the_points_do_not_fool_the_step_test(tmp_path: Path, ordered: np.ndarray) -> None:
    """Two thirds of the differences are then between a point and (0, 0, 0)."""
    rows = ordered.copy()
    rows[::3] = 0
    scan = cloud(write(tmp_path / "a.bin", rows))
    assert scan.values.shape == rows.shape
    assert scan.warnings == (f"{len(rows[::3]):,} points are (0,0,0), no-returns",)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_point_repeated_throughout_is_known_by_its_stillness(tmp_path: Path, count: int) -> None:
    rows = np.tile(np.arange(1, count + 1, dtype=np.float32), (840, 1))
    assert cloud(write(tmp_path / "a.bin", rows)).values.shape == (840, count)


def test_three_columns_in_no_order_are_not_taken_for_six_nor_six_for_three(
    tmp_path: Path, shuffled: np.ndarray
) -> None:
    """Six columns over a file of three step twice as far, which alone proves nothing."""
    message = refusal(write(tmp_path / "a.bin", shuffled[:838, :3]))
    assert "3 columns: 838 points" in message
    assert "6 columns: 419 points" in message


def test_a_cloud_with_nan_for_no_returns_is_read(tmp_path: Path, ordered: np.ndarray) -> None:
    rows = np.full((8400, 4), np.nan, np.float32)
    rows[4000:4840] = ordered
    np.testing.assert_array_equal(cloud(write(tmp_path / "a.bin", rows)).values, rows)


def test_a_signalling_nan_is_a_nan(tmp_path: Path, ordered: np.ndarray) -> None:
    rows = ordered.copy()
    rows.view(np.uint32)[7, 1] = 0x7F800001
    np.testing.assert_array_equal(cloud(write(tmp_path / "a.bin", rows)).values, rows)


def test_nan_and_infinite_points_stay_in_the_scan(tmp_path: Path, ordered: np.ndarray) -> None:
    rows = ordered.copy()
    rows[::5, 0] = np.nan
    rows[1::5, 2] = np.inf
    scan = cloud(write(tmp_path / "a.bin", rows))
    np.testing.assert_array_equal(scan.values, rows)


# --- few points ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_one_point_is_a_scan(tmp_path: Path, count: int) -> None:
    point = np.arange(1, count + 1, dtype=np.float32)
    scan = cloud(write(tmp_path / "a.bin", point))
    np.testing.assert_array_equal(scan.values, [point])
    assert scan.warnings == ()


def test_two_points_of_four_columns_are_a_scan(tmp_path: Path) -> None:
    assert cloud(write(tmp_path / "a.bin", np.arange(8))).values.shape == (2, 4)


@pytest.mark.parametrize(("values", "taken"), [(12, 4), (15, 5), (6, 3), (60, 4), (21, 3)])
def test_too_few_points_to_tell_are_taken_as_the_commonest_layout_with_a_warning(
    tmp_path: Path, values: int, taken: int
) -> None:
    draw = np.random.default_rng(values)
    scan = cloud(write(tmp_path / "a.bin", draw.uniform(1, 9, values)))
    assert scan.values.shape == (values // taken, taken)
    assert len(scan.warnings) == 1
    assert "too few points to decide" in scan.warnings[0]
    assert "--columns" in scan.warnings[0]


def test_a_short_scan_is_told_by_its_steps_where_they_are_clear(tmp_path: Path, ordered: np.ndarray) -> None:
    scan = cloud(write(tmp_path / "a.bin", with_columns(ordered, 5)[:24]))
    assert scan.values.shape == (24, 5)
    assert scan.warnings == ()


def test_a_scan_of_no_returns_only_is_read_with_a_warning(tmp_path: Path) -> None:
    scan = cloud(write(tmp_path / "a.bin", np.zeros((600, 4))))
    assert scan.values.shape == (600, 4)
    assert "too few points to decide" in scan.warnings[0]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (None, ("x", "y", "z", "intensity")),
        (5, ("x", "y", "z", "intensity", "ring")),
        (("x", "y", "z", "dt"), ("x", "y", "z", "dt")),
    ],
)
def test_a_file_of_no_bytes_is_a_scan_of_no_points(
    tmp_path: Path, columns: int | tuple[str, ...] | None, names: tuple[str, ...]
) -> None:
    path = tmp_path / "a.bin"
    path.touch()
    scan = cloud(path, columns)
    assert scan.values.shape == (0, len(names))
    assert scan.values.dtype == np.float32
    assert scan.columns == names
    assert scan.warnings == ("is empty: 0 bytes, so 0 points",)


# --- cut short -------------------------------------------------------------------------------------------------------


def test_bytes_that_are_no_whole_number_of_float32_are_refused(tmp_path: Path, ordered: np.ndarray) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(ordered.tobytes()[:-3])
    assert "13437 bytes are no whole number of float32 values (1 left over)" in refusal(path)


def test_a_scan_cut_inside_a_point_is_told_by_its_steps_though_another_count_fits(
    tmp_path: Path, ordered: np.ndarray
) -> None:
    values = ordered.ravel()[: 840 * 4 - 3]
    assert len(values) % 3 == 0
    message = refusal(write(tmp_path / "a.bin", values))
    assert "step like 4 columns" in message
    assert "leaves 1 of 3357 float32 values over" in message
    assert "cut short" in message


def test_values_that_no_count_divides_are_refused(tmp_path: Path, ordered: np.ndarray, shuffled: np.ndarray) -> None:
    assert all(3323 % count for count in (3, 4, 5, 6, 7))
    assert "step like 4 columns" in refusal(write(tmp_path / "a.bin", ordered.ravel()[:3323]))
    assert "do not divide into points of 3 to 7" in refusal(write(tmp_path / "b.bin", shuffled.ravel()[:3323]))
    assert "do not divide" in refusal(write(tmp_path / "c.bin", [1, 2]))


# --- columns given by the caller -------------------------------------------------------------------------------------


def test_a_number_of_columns_decides_where_the_steps_do_not_tell(tmp_path: Path, shuffled: np.ndarray) -> None:
    scan = cloud(write(tmp_path / "a.bin", shuffled), 4)
    assert scan.columns == ("x", "y", "z", "intensity")
    assert scan.warnings == ()


def test_names_give_the_number_of_columns_and_their_order(tmp_path: Path, ordered: np.ndarray) -> None:
    scan = cloud(write(tmp_path / "a.bin", ordered[:, [3, 0, 1, 2]]), ("i", "x", "y", "z"))
    assert scan.columns == ("i", "x", "y", "z")
    np.testing.assert_array_equal(scan.xyz, ordered[:, :3])


def test_names_that_the_steps_contradict_are_refused_with_the_right_count(tmp_path: Path, ordered: np.ndarray) -> None:
    path = write(tmp_path / "a.bin", with_columns(ordered, 5))
    message = refusal(path, ("x", "y", "z", "intensity"))
    assert "step like 5 columns, not 4" in message
    assert "--columns 4" in message


def test_a_number_that_the_steps_contradict_is_obeyed_with_a_warning(tmp_path: Path, ordered: np.ndarray) -> None:
    scan = cloud(write(tmp_path / "a.bin", with_columns(ordered, 5)), 4)
    assert scan.values.shape == (1050, 4)
    assert "step like 5 columns, not 4" in scan.warnings[0]


def test_a_count_that_does_not_divide_the_values_is_refused_with_what_the_steps_say(
    tmp_path: Path, ordered: np.ndarray, shuffled: np.ndarray
) -> None:
    message = refusal(write(tmp_path / "a.bin", ordered[:838]), 5)
    assert "3352 float32 values do not divide into 5 columns (2 left over)" in message
    assert "step like 4 columns" in message
    assert "they divide into 4" in refusal(write(tmp_path / "b.bin", shuffled[:838]), 5)


def test_more_columns_than_are_looked_for_can_be_given(tmp_path: Path, ordered: np.ndarray) -> None:
    rows = np.column_stack([with_columns(ordered, 7), ordered[:, :2]])
    scan = cloud(write(tmp_path / "a.bin", rows), 9)
    assert scan.columns == ("x", "y", "z", "intensity", "ring", "c5", "c6", "c7", "c8")
    assert scan.warnings == ()


@pytest.mark.parametrize(
    ("columns", "why"),
    [(2, "2 columns"), (("x", "y"), "lack z"), (("x", "y", "z", "x"), "repeat a name")],
)
def test_columns_that_no_cloud_can_have_are_a_usage_error(
    tmp_path: Path, columns: int | tuple[str, ...], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        read(str(tmp_path / "a.bin"), columns)


# --- content that is no float32 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "name"), [("<f8", "float64"), ("<f2", "float16"), (">f4", "big-endian float32")])
@pytest.mark.parametrize("rounded", [False, True], ids=["all digits", "values from float32"])
def test_numbers_of_another_format_are_refused_with_their_conversion(
    tmp_path: Path, dtype: str, name: str, rounded: bool
) -> None:
    points = street_scan(0).values.astype(np.float32 if rounded else np.float64)
    if not rounded:
        points += np.random.default_rng(0).uniform(0, 1e-4, points.shape)
    message = refusal(write(tmp_path / "a.bin", points, dtype))
    assert f"holds {name} numbers, not float32" in message
    assert f'numpy.fromfile(path, "{dtype}")' in message


def test_float64_whole_numbers_are_told_from_float32(tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(1.0, 9.0)] * 3), axis=-1).reshape(-1, 3)
    assert "holds float64 numbers" in refusal(write(tmp_path / "a.bin", grid, "<f8"))


def test_the_named_conversion_gives_the_scan_back(tmp_path: Path) -> None:
    points = street_scan(0, points=3000).values
    path = write(tmp_path / "a.bin", points, "<f8")
    refusal(path)
    np.fromfile(path, "<f8").astype("<f4").tofile(tmp_path / "b.bin")
    np.testing.assert_array_equal(cloud(tmp_path / "b.bin").values, points)


def test_bytes_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(np.random.default_rng(1).bytes(4096))
    assert "does not hold float32 points" in refusal(path)


def test_a_timestamp_column_is_no_reason_to_refuse(tmp_path: Path, ordered: np.ndarray) -> None:
    rows = np.column_stack([ordered, np.full(840, 1.6e9)])
    scan = cloud(write(tmp_path / "a.bin", rows))
    assert scan.values.shape == (840, 5)
    assert "column ring reaches 1.6e+09" in scan.warnings[0]


def test_huge_intensities_are_read_with_a_warning_that_gives_the_largest(tmp_path: Path, ordered: np.ndarray) -> None:
    """Raw Waymo reaches 139,264."""
    rows = ordered.copy()
    rows[77, 3], rows[78, 3] = 139264, np.inf
    scan = cloud(write(tmp_path / "a.bin", rows))
    np.testing.assert_array_equal(scan.values, rows)
    assert len(scan.warnings) == 1
    assert "column intensity reaches 139264, beyond float16's 65504" in scan.warnings[0]


def test_an_intensity_that_float16_holds_is_not_warned_of(tmp_path: Path, ordered: np.ndarray) -> None:
    rows = ordered.copy()
    rows[77, 3] = 65504
    assert cloud(write(tmp_path / "a.bin", rows)).warnings == ()
