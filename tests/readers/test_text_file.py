"""Points as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spcli.errors import InputError
from spcli.points import PointCloud
from spcli.readers import read


def cloud(path: Path, text: str, columns: int | tuple[str, ...] | None = None) -> PointCloud:
    path.write_text(text)
    content = read(str(path), columns).content
    assert isinstance(content, PointCloud)
    return content


@pytest.mark.parametrize(
    "text",
    ["1 2 3 0.5\n4 5 6 0.25\n", "1,2,3,0.5\r\n4,5,6,0.25", "# x y z i\n\n 1;2;3;0.5 \n// more\n4\t5\t6\t.25\n"],
    ids=["blanks", "commas", "comments"],
)
def test_numbers_may_be_apart_by_blanks_commas_or_semicolons(tmp_path: Path, text: str) -> None:
    scan = cloud(tmp_path / "a.xyz", text)
    np.testing.assert_array_equal(scan.values, np.array([[1, 2, 3, 0.5], [4, 5, 6, 0.25]], np.float32))
    assert scan.values.dtype == np.float32
    assert scan.columns == ("x", "y", "z", "intensity")
    assert scan.warnings == ()


@pytest.mark.parametrize(
    ("name", "line", "columns"),
    [
        ("a.xyz", "1 2 3", ("x", "y", "z")),
        ("a.xyzi", "1 2 3 4", ("x", "y", "z", "intensity")),
        ("a.xyzn", "1 2 3 0 0 1", ("x", "y", "z", "nx", "ny", "nz")),
        ("a.xyzrgb", "1 2 3 0 0 1", ("x", "y", "z", "r", "g", "b")),
        ("a.pts", "1 2 3 9 0 0 1", ("x", "y", "z", "intensity", "r", "g", "b")),
        ("a.txt", "1 2 3 4 5", ("x", "y", "z", "intensity", "ring")),
        ("a.bin", "1 2 3 4", ("x", "y", "z", "intensity")),
    ],
)
def test_the_suffix_names_the_columns_beyond_x_y_z(
    tmp_path: Path, name: str, line: str, columns: tuple[str, ...]
) -> None:
    assert cloud(tmp_path / name, f"{line}\n{line}\n").columns == columns


def test_the_caller_s_names_come_first(tmp_path: Path) -> None:
    assert cloud(tmp_path / "a.xyz", "1 2 3 4\n", ("z", "y", "x", "t")).columns == ("z", "y", "x", "t")


def test_the_count_that_pts_files_begin_with_is_no_point(tmp_path: Path) -> None:
    assert cloud(tmp_path / "a.pts", "2\n1 2 3 9 0 0 1\n1 2 3 9 0 0 1\n").values.shape == (2, 7)


def test_nan_and_inf_are_numbers(tmp_path: Path) -> None:
    np.testing.assert_array_equal(cloud(tmp_path / "a.xyz", "nan inf -inf\n").values, [[np.nan, np.inf, -np.inf]])


def test_coordinates_that_lose_a_millimetre_in_float32_are_warned_of(tmp_path: Path) -> None:
    assert cloud(tmp_path / "a.xyz", "12.345 6.789 1.234\n").warnings == ()
    assert "rounded to float32" in cloud(tmp_path / "b.xyz", "4512345.678 6.789 1.234\n").warnings[0]


def test_comments_alone_are_a_scan_of_no_points(tmp_path: Path) -> None:
    scan = cloud(tmp_path / "a.xyz", "# nothing\n", ("x", "y", "z"))
    assert scan.values.shape == (0, 3)
    assert scan.warnings == ("holds no points",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 2 3\n\n1 two 3\n", "line 3 ('1 two 3') is not a point"),
        ("1 2 3\n1 2\n", "line 2 ('1 2') has 2 columns instead of 3"),
        ("1 2 3\n1 2 3 4\n", "line 2 ('1 2 3 4') has 4 columns instead of 3"),
        ("1 2\n1 2\n", "line 1 ('1 2') has 2 columns instead of 3 or more"),
        ("3\n1 2 3\n1 2 3\n", "says it has 3 points but has 2"),
        ("Lorem ipsum dolor sit amet\n", "line 1 ('Lorem ipsum dolor sit amet') is not a point"),
    ],
)
def test_a_wrong_line_is_refused_by_its_number(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.xyz"
    with pytest.raises(InputError) as caught:
        cloud(path, text)
    assert str(caught.value).startswith(f"{path}: {why}")


def test_another_number_of_columns_than_the_text_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 3 columns, not 4"):
        cloud(tmp_path / "a.xyz", "1 2 3\n", 4)
