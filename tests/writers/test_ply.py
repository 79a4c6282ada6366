"""PLY files: what the header promises is what follows, and open3d reads it back."""

from __future__ import annotations

import io

import numpy as np
import pytest

from spcli.errors import DeviceError, UsageError
from spcli.readers.open3d_file import load_open3d
from spcli.writers.ply import write_ply

XYZ = np.array([(1, 2, 3), (-4.5, 0, 1e-3)], np.float32)
COLOURS = np.array([(255, 0, 1), (7, 8, 9)], np.uint8)
NUMBERS = {"density": np.array([0.5, 1], np.float32), "row": np.array([0, 1], np.int32)}


def test_the_file_is_a_header_and_packed_little_endian_records():
    stream = io.BytesIO()
    write_ply(stream, XYZ, COLOURS, NUMBERS, ["source é.bin", "two\nlines"])
    header, _, data = stream.getvalue().partition(b"end_header\n")
    assert header.decode("ascii").splitlines() == [
        "ply", "format binary_little_endian 1.0", "comment source ?.bin", "comment two lines", "element vertex 2",
        "property float x", "property float y", "property float z",
        "property uchar red", "property uchar green", "property uchar blue", "property float density",
        "property int row",
    ]  # fmt: skip
    assert len(data) == 2 * (4 * 3 + 3 + 4 + 4)
    assert data[:15] == XYZ[0].astype("<f4").tobytes() + bytes([255, 0, 1])
    assert data[-4:] == (1).to_bytes(4, "little")


def test_no_points_make_a_whole_file():
    stream = io.BytesIO()
    write_ply(stream, XYZ[:0], COLOURS[:0], {name: values[:0] for name, values in NUMBERS.items()})
    assert b"element vertex 0\n" in stream.getvalue() and stream.getvalue().endswith(b"end_header\n")


@pytest.fixture
def open3d():
    try:
        return load_open3d()
    except DeviceError as reason:
        pytest.skip(f"open3d: {reason}")


def test_open3d_reads_every_number_back(open3d, tmp_path):
    write_ply(str(tmp_path / "a.ply"), XYZ, COLOURS, NUMBERS, ["spcli"])
    cloud = open3d.t.io.read_point_cloud(str(tmp_path / "a.ply")).point
    assert np.array_equal(cloud["positions"].numpy(), XYZ)
    assert np.array_equal(cloud["colors"].numpy(), COLOURS)
    assert cloud["density"].numpy().ravel().tolist() == [0.5, 1] and cloud["row"].numpy().ravel().tolist() == [0, 1]
    legacy = open3d.io.read_point_cloud(str(tmp_path / "a.ply"))  # what open3d's viewer opens
    assert np.allclose(np.asarray(legacy.colors) * 255, COLOURS)


def test_a_place_that_cannot_be_written_to_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_ply(str(tmp_path / "file" / "a.ply"), XYZ, COLOURS, {})
