"""Archives are plain npz: numpy and zip tools read them, and equal arrays give equal bytes."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from spcli.writers import npz, save_npz

ARRAYS = {
    "indices": np.arange(12, dtype=np.int32).reshape(3, 4),
    "features": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
    "subm1/in_rows": np.zeros(0, np.int32),
    "batch_size": np.array(2, np.int32),
    "flag": np.array(True),
    "layers": np.array(["conv1", "größe"]),
    "meta": np.array('{"a": 1}'),
    "transposed_view": np.arange(6, dtype=np.float64).reshape(2, 3).T,
}


def saved(arrays, **options) -> bytes:
    stream = io.BytesIO()
    save_npz(stream, arrays, **options)
    return stream.getvalue()


@pytest.mark.parametrize("compress", [False, True])
def test_numpy_reads_back_what_was_written(compress):
    with np.load(io.BytesIO(saved(ARRAYS, compress=compress)), allow_pickle=False) as data:
        assert data.files == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert data[name].dtype == array.dtype
            assert data[name].shape == array.shape
            np.testing.assert_array_equal(data[name], array)


@given(
    npst.arrays(st.sampled_from([np.int32, np.float32, np.int64, np.bool_]), npst.array_shapes(min_dims=0, min_side=0))
)
def test_any_shape_survives(array):
    with np.load(io.BytesIO(saved({"a": array})), allow_pickle=False) as data:
        assert data["a"].shape == array.shape
        np.testing.assert_array_equal(data["a"], array)


@pytest.mark.parametrize("compress", [False, True])
def test_checksums_hold_and_no_clock_time_is_stored(compress):
    with zipfile.ZipFile(io.BytesIO(saved(ARRAYS, compress=compress))) as archive:
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_equal_arrays_give_equal_bytes():
    copies = {name: array.copy() for name, array in ARRAYS.items()}
    assert saved(ARRAYS) == saved(copies)


def test_members_are_stored_unless_compression_is_asked_for():
    zeros = {"zeros": np.zeros(10_000, np.int32)}
    assert len(saved(zeros)) > 40_000
    assert len(saved(zeros, compress=True)) < 1_000


@pytest.mark.parametrize("compress", [False, True])
def test_archives_past_4_gib_use_the_zip64_records(monkeypatch, compress):
    """The limit is lowered so that a small archive takes the path of a large one."""
    monkeypatch.setattr(npz, "ZIP64_LIMIT", 50)
    archive = saved(ARRAYS, compress=compress)
    assert b"PK\6\6" in archive
    with np.load(io.BytesIO(archive), allow_pickle=False) as data:
        np.testing.assert_array_equal(data["indices"], ARRAYS["indices"])
        np.testing.assert_array_equal(data["transposed_view"], ARRAYS["transposed_view"])


def test_the_stream_need_not_be_seekable():
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.parts = []

        def writable(self):
            return True

        def write(self, data):
            self.parts.append(bytes(data))
            return len(data)

    pipe = Pipe()
    save_npz(pipe, ARRAYS)
    assert b"".join(pipe.parts) == saved(ARRAYS)
