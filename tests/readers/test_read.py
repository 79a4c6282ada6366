"""What every format shares: where bytes come from, how their format is told, what a scan carries."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from spcli.errors import InputError, UsageError
from spcli.points import PointCloud
from spcli.readers import READERS, StoredTensor, read
from spcli.readers.formats import scan_suffixes

ROOT = Path(__file__).resolve().parents[2]
POINT = np.array([[1, 2, 3, 0.5]], "<f4")


class Stdin:
    """Standard input that holds `data`."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        self.buffer = io.BytesIO(data)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


# --- where bytes come from -------------------------------------------------------------------------------------------


def test_a_scan_carries_its_source_and_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(POINT.tobytes())
    scan = read(str(path))
    assert scan.source == str(path)
    assert scan.digest == hashlib.sha256(POINT.tobytes()).hexdigest()
    assert isinstance(scan.content, PointCloud)
    assert scan.content.source == str(path)


@pytest.mark.parametrize(
    "data",
    [POINT.tobytes(), npy_bytes(POINT), npz_bytes(points=POINT), b"1 2 3 0.5\n"],
    ids=["bin", "npy", "npz", "text"],
)
def test_standard_input_is_read_by_what_it_holds(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    scan = read("-")
    assert isinstance(scan.content, PointCloud)
    np.testing.assert_array_equal(scan.content.values, POINT)
    assert scan.source == "-"


def test_a_voxelized_tensor_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = npz_bytes(
        indices=np.zeros((1, 4), np.int32), features=np.ones((1, 2), np.float32), spatial_shape=np.array([1, 1, 1])
    )
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    assert isinstance(read("-").content, StoredTensor)


def test_a_terminal_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"", terminal=True))
    with pytest.raises(UsageError, match="pipe a scan in"):
        read("-")


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    os.mkfifo(path)
    rows = np.tile(POINT, (50000, 1))
    writer = threading.Thread(target=lambda: path.write_bytes(rows.tobytes()))
    writer.start()
    content = read(str(path), 4).content
    writer.join()
    assert isinstance(content, PointCloud)
    np.testing.assert_array_equal(content.values, rows)


def test_a_path_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.bin", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(InputError, match=why):
            read(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        read("a\0b.bin")


# --- which format ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [suffix for known in READERS if known.magic for suffix in known.suffixes])
def test_a_file_that_does_not_begin_as_its_name_promises_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(POINT.tobytes())
    with pytest.raises(InputError, match=f"does not begin as a {suffix} file does"):
        read(str(path))


@pytest.mark.parametrize("suffix", [*scan_suffixes(), ""])
def test_a_file_of_no_bytes_is_an_empty_scan_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    content = read(str(path)).content
    assert isinstance(content, PointCloud)
    assert content.values.shape == (0, 4)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (gzip.compress(POINT.tobytes(), mtime=0), "gunzip"),
        (b"LASF" + bytes(400), "LAS file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(400), "HDF5"),
        (pickle.dumps([1.0] * 100, protocol=4), "pickle"),
    ],
    ids=["gzip", "las", "hdf5", "pickle"],
)
def test_formats_that_are_not_read_are_named_with_what_to_do(tmp_path: Path, data: bytes, remedy: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with pytest.raises(InputError, match=remedy):
        read(str(path))


def test_every_reader_of_the_table_exists_and_reads() -> None:
    from importlib import import_module

    for known in READERS:
        assert callable(import_module(known.module).read)


# --- cost ------------------------------------------------------------------------------------------------------------


def imported_by(code: str) -> set[str]:
    shown = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", shown], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(run.stdout.split())


def test_importing_the_readers_imports_nothing_heavy(tmp_path: Path) -> None:
    """`numpy.ma`, which numpy.median loads, alone takes longer than reading a scan."""
    path = tmp_path / "a.bin"
    np.arange(400, dtype="<f4").tofile(path)
    loaded = imported_by(f"import spcli.readers; spcli.readers.read({str(path)!r}, 4)")
    assert "spcli.readers.kitti_bin" in loaded
    assert not loaded & {"open3d", "torch", "tempfile", "json", "zipfile", "numpy.ma", "spcli.readers.numpy_file"}


@pytest.mark.parametrize(("zeros", "told"), [(9000, True), (101, True), (100, False)])
def test_many_no_returns_are_warned_of(tmp_path: Path, zeros: int, told: bool) -> None:
    points = np.ones((10000, 4), np.float32)
    points[:zeros, :3] = 0
    np.save(tmp_path / "scan.npy", points)
    content = read(str(tmp_path / "scan.npy")).content
    assert content.warnings == ((f"{zeros:,} points are (0,0,0), no-returns",) if told else ())


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_another_float_type_is_told_even_where_nothing_is_lost(tmp_path: Path, dtype: str) -> None:
    with (tmp_path / "scan.bin").open("wb") as file:
        np.save(file, np.ones((5, 4), dtype))
    assert read(str(tmp_path / "scan.bin")).content.warnings == (f"the array is {dtype}: converted to float32",)
