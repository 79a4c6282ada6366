"""`.pcd` and `.ply` through open3d: every attribute kept, broken files refused before open3d sees them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spcli.errors import DeviceError, InputError
from spcli.points import PointCloud
from spcli.readers import open3d_file, read

POINTS = 40


@pytest.fixture(scope="module")
def open3d() -> Any:
    try:
        return open3d_file.load_open3d()
    except DeviceError as reason:
        pytest.skip(f"open3d: {reason}")


@pytest.fixture(scope="module")
def attributes() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "positions": draw.uniform(-40, 40, (POINTS, 3)).astype(np.float32),
        "intensity": draw.random((POINTS, 1)).astype(np.float32),
        "ring": draw.integers(0, 64, (POINTS, 1)).astype(np.uint8),
        "colors": draw.integers(0, 255, (POINTS, 3)).astype(np.uint8),
        "normals": draw.random((POINTS, 3)).astype(np.float32),
    }


KINDS = {
    "binary.pcd": {},
    "ascii.pcd": {"write_ascii": True},
    "packed.pcd": {"compressed": True},
    "binary.ply": {},
    "ascii.ply": {"write_ascii": True},
}


@pytest.fixture(scope="module")
def files(open3d: Any, attributes: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same cloud in every encoding."""
    folder = tmp_path_factory.mktemp("clouds")
    cloud = open3d.t.geometry.PointCloud()
    for name, values in attributes.items():
        cloud.point[name] = open3d.core.Tensor(values)
    for name, options in KINDS.items():
        assert open3d.t.io.write_point_cloud(str(folder / name), cloud, **options)
    return folder


def points(path: Path | str, columns: int | tuple[str, ...] | None = None) -> PointCloud:
    content = read(str(path), columns).content
    assert isinstance(content, PointCloud)
    return content


def refusal(path: Path, columns: int | tuple[str, ...] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(str(path), columns)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def pcd(fields: str, points: int, encoding: str = "ascii") -> bytes:
    count = len(fields.split())
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE{' 4' * count}\nTYPE{' F' * count}\nCOUNT{' 1' * count}\n"
        f"WIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {encoding}\n"
    ).encode()


# --- content ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_attribute_is_kept_positions_and_intensity_first(
    files: Path, attributes: dict[str, np.ndarray], name: str
) -> None:
    cloud = points(files / name)
    assert cloud.columns == ("x", "y", "z", "intensity", "r", "g", "b", "nx", "ny", "nz", "ring")
    order = ("positions", "intensity", "colors", "normals", "ring")
    expected = np.hstack([attributes[each].astype(np.float32) for each in order])
    np.testing.assert_allclose(cloud.values, expected, rtol=1e-5, atol=1e-6)  # an ascii ply holds six digits
    assert cloud.values.dtype == np.float32
    assert cloud.warnings == ()


def test_names_pick_columns_and_a_number_takes_the_first(files: Path) -> None:
    assert points(files / "binary.pcd", ("x", "y", "z", "ring")).columns == ("x", "y", "z", "ring")
    assert points(files / "binary.pcd", 4).columns == ("x", "y", "z", "intensity")


def test_a_column_the_file_lacks_is_refused_with_those_it_has(files: Path) -> None:
    message = refusal(files / "binary.pcd", ("x", "y", "z", "dt"))
    assert "has no column dt; it has x, y, z, intensity" in message
    assert "has 11 columns" in refusal(files / "binary.pcd", 12)


def test_the_suffix_does_not_matter(files: Path, tmp_path: Path) -> None:
    disguised = tmp_path / "cloud.bin"
    disguised.write_bytes((files / "packed.pcd").read_bytes())
    assert points(disguised).values.shape == (POINTS, 11)


def test_a_cloud_comes_from_standard_input_though_a_file_has_its_name(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("no cloud")
    with (files / "binary.ply").open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", Piped(stream))
        assert points("-").values.shape == (POINTS, 11)


class Piped:
    """Standard input with the bytes of a stream."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def isatty(self) -> bool:
        return False


def test_nan_points_stay(open3d: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd("x y z", 2, "binary") + np.array([1, np.nan, 3, 4, 5, np.inf], "<f4").tobytes())
    np.testing.assert_array_equal(points(path).values, [[1, np.nan, 3], [4, 5, np.inf]])


def test_double_positions_are_rounded_with_a_warning(open3d: Any, tmp_path: Path) -> None:
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
    header += "".join(f"property double {axis}\n" for axis in "xyz") + "end_header\n"
    path = tmp_path / "a.ply"
    path.write_bytes(header.encode() + np.array([4512345.678, 2, 3], "<f8").tobytes())
    assert "column x is float64: rounded to float32, by up to 0.178" in points(path).warnings


def test_a_header_that_promises_no_points_is_a_scan_of_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd("x y z intensity normal_x normal_y normal_z", 0))
    cloud = points(path)
    assert cloud.values.shape == (0, 7)
    assert cloud.columns == ("x", "y", "z", "intensity", "nx", "ny", "nz")


# --- broken files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_cut_short_is_refused(files: Path, tmp_path: Path, name: str, share: float) -> None:
    """open3d would return what lay in memory for the missing points."""
    data = (files / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    message = refusal(path)
    assert "the file is cut short" in message or "header is broken" in message


@pytest.mark.parametrize(
    "data",
    [
        b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y\ngarbage",
        b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4\nTYPE F F F\nPOINTS 1\nDATA ascii\n1 2 3\n",
        b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS many\nDATA ascii\n1 2 3\n",
        pcd("x y z normal_x", 1) + b"1 2 3 4\n",
        pcd("x y z", 1, "morse") + b"1 2 3\n",
    ],
    ids=["no data line", "sizes", "count", "half a normal", "encoding"],
)
def test_a_broken_pcd_header_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(data)
    assert "PCD header is broken" in refusal(path)


@pytest.mark.parametrize(
    "data",
    [
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\n",
        b"ply\nnothing\nend_header\n",
        b"ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int i\nelement vertex 1\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\nend_header\n1\n",
    ],
    ids=["no end", "no format", "faces first", "negative", "unknown type"],
)
def test_a_broken_ply_header_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(data)
    assert "PLY header is broken" in refusal(path)


def test_a_header_that_promises_more_than_the_file_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd("x y z", 10**11, "binary") + bytes(24))
    assert "promises 100000000000 points but holds 2" in refusal(path)


def test_a_packed_body_of_another_size_than_promised_is_refused(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes((files / "packed.pcd").read_bytes().replace(b" 40\n", b" 39\n"))
    assert "promises 39 points but holds 0" in refusal(path)


def test_a_cloud_without_positions_is_refused(open3d: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd("a b c", 1) + b"1 2 3\n")
    assert "open3d cannot read its 1 points" in refusal(path)


def test_nothing_is_printed_for_a_body_that_open3d_rejects(
    open3d: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd("x y z", 2, "binary_compressed") + np.array([8, 24], "<u4").tobytes() + b"\xff" * 8)
    refusal(path)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


# --- open3d itself ---------------------------------------------------------------------------------------------------


def test_without_open3d_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    path = tmp_path / "a.pcd"
    path.write_bytes(pcd("x y z", 1) + b"1 2 3\n")
    with pytest.raises(DeviceError, match="pip install open3d"):
        read(str(path))


def test_a_missing_libusb_is_loaded_from_its_wheel_and_open3d_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fail_once() -> str:
        tried.append("open3d")
        if len(tried) == 1:
            raise ImportError("libusb-1.0.so.0: cannot open shared object file")
        return "the module"

    monkeypatch.setattr(open3d_file, "_import_quietly", fail_once)
    monkeypatch.setattr(open3d_file, "_load_libusb", lambda: tried.append("libusb"))
    assert open3d_file.load_open3d() == "the module"
    assert tried == ["open3d", "libusb", "open3d"]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ImportError("libusb-1.0.so.0: cannot open shared object file"), "pip install libusb-package"),
        (ImportError("libGL.so.1: cannot open shared object file"), "pip install --force-reinstall open3d"),
        (ModuleNotFoundError("No module named 'dash'", name="dash"), "open3d needs dash"),
    ],
)
def test_an_open3d_that_does_not_load_is_reported_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, error: ImportError, remedy: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(open3d_file, "_import_quietly", fail)
    monkeypatch.setitem(sys.modules, "libusb_package", None)
    with pytest.raises(DeviceError, match=remedy):
        open3d_file.load_open3d()
