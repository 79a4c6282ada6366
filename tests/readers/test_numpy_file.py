"""`.npy` and `.npz`: points, and tensors that were voxelized before."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spcli.errors import InputError
from spcli.points import PointCloud
from spcli.readers import StoredTensor, read

POINTS = np.arange(20, dtype=np.float32).reshape(5, 4)

# Two sites and a batch of two, in the order (batch, z, y, x).
TENSOR: dict[str, Any] = {
    "indices": np.array([[0, 1, 2, 3], [0, 1, 2, 4], [1, 0, 0, 0]], np.int32),
    "features": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32),
    "spatial_shape": np.array([2, 3, 5], np.int32),
}


def npy(path: Path, array: np.ndarray) -> Path:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True)
    return path


def npz(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def cloud(path: Path, columns: int | tuple[str, ...] | None = None) -> PointCloud:
    content = read(str(path), columns).content
    assert isinstance(content, PointCloud)
    return content


def stored(path: Path) -> StoredTensor:
    content = read(str(path)).content
    assert isinstance(content, StoredTensor)
    return content


def refusal(path: Path, columns: int | tuple[str, ...] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(str(path), columns)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


# --- points ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "<i4", "u1"])
def test_any_number_type_becomes_float32(tmp_path: Path, dtype: str) -> None:
    scan = cloud(npy(tmp_path / "a.npy", POINTS.astype(dtype)))
    assert scan.values.dtype == np.dtype(np.float32)
    assert scan.values.flags.c_contiguous
    np.testing.assert_array_equal(scan.values, POINTS)
    assert scan.columns == ("x", "y", "z", "intensity")
    assert not any("rounded" in warning for warning in scan.warnings), "every value has an exact float32"


def test_an_npy_named_bin_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    np.testing.assert_array_equal(cloud(npy(tmp_path / "a.bin", POINTS)).values, POINTS)


def test_column_order_in_memory_does_not_matter(tmp_path: Path) -> None:
    np.testing.assert_array_equal(cloud(npy(tmp_path / "a.npy", np.asfortranarray(POINTS))).values, POINTS)


def test_float64_that_float32_cannot_hold_is_rounded_with_a_warning(tmp_path: Path) -> None:
    wide = POINTS.astype(np.float64)
    wide[1, 2] = 4_512_345.678
    scan = cloud(npy(tmp_path / "a.npy", wide))
    assert scan.values[1, 2] == np.float32(4_512_345.678)
    assert scan.warnings == ("the array is float64: rounded to float32, by up to 0.178",)


def test_float64_beyond_float32_overflows_with_a_warning(tmp_path: Path) -> None:
    wide = POINTS.astype(np.float64)
    wide[1, 2] = 1e300
    assert "by up to inf" in cloud(npy(tmp_path / "a.npy", wide)).warnings[0]


def test_nan_in_float64_is_no_loss(tmp_path: Path) -> None:
    wide = POINTS.astype(np.float64)
    wide[1, 2] = np.nan
    assert cloud(npy(tmp_path / "a.npy", wide)).warnings == ("the array is float64: converted to float32",)


@pytest.mark.parametrize("rows", [0, 1])
def test_no_points_and_one_point_are_scans(tmp_path: Path, rows: int) -> None:
    assert cloud(npy(tmp_path / "a.npy", POINTS[:rows])).values.shape == (rows, 4)


def test_names_name_the_columns(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", POINTS)
    assert cloud(path, ("x", "y", "z", "dt")).columns == ("x", "y", "z", "dt")
    assert cloud(path, 4).columns == ("x", "y", "z", "intensity")


@pytest.mark.parametrize("columns", [5, ("x", "y", "z")])
def test_another_number_of_columns_than_the_array_has_is_refused(
    tmp_path: Path, columns: int | tuple[str, ...]
) -> None:
    assert "has 4 columns, not" in refusal(npy(tmp_path / "a.npy", POINTS), columns)


@pytest.mark.parametrize("shape", [(20,), (2, 2, 5), (10, 2)])
def test_an_array_that_is_no_table_of_points_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "points are [P, C]" in refusal(npy(tmp_path / "a.npy", np.zeros(shape, np.float32)))


def test_a_transposed_array_is_refused_with_the_remedy(tmp_path: Path) -> None:
    assert "save the transpose" in refusal(npy(tmp_path / "a.npy", np.zeros((4, 1000), np.float32)))


def test_huge_intensities_are_warned_of(tmp_path: Path) -> None:
    points = POINTS.copy()
    points[0, 3] = 139264
    assert "column intensity reaches 139264" in cloud(npy(tmp_path / "a.npy", points)).warnings[0]


def test_objects_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    assert "Python objects" in refusal(npy(tmp_path / "a.npy", np.array([[Trap()] * 3], object)))
    assert "Python objects" in refusal(npz(tmp_path / "a.npz", points=np.array([[Trap()] * 3], object)))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("dtype", ["c8", "U4", "M8[s]"])
def test_arrays_that_are_no_real_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    assert "not numbers" in refusal(npy(tmp_path / "a.npy", np.zeros((5, 4), dtype)))


@pytest.mark.parametrize("keep", [9, 60, 200])
def test_a_cut_short_npy_is_refused(tmp_path: Path, keep: int) -> None:
    path = npy(tmp_path / "a.npy", POINTS)
    path.write_bytes(path.read_bytes()[:keep])
    assert "broken NumPy file" in refusal(path)


@pytest.mark.parametrize(("old", "new"), [(b"(5, 4)", b"(5, (4"), (b"'<f4'", b"'<z4'"), (b"'descr'", b"'desc\0'")])
def test_an_npy_with_a_damaged_header_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = npy(tmp_path / "a.npy", POINTS)
    path.write_bytes(path.read_bytes().replace(old, new))
    assert "broken NumPy file" in refusal(path)


def test_an_npy_that_claims_more_than_memory_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 4)}
    np.lib.format.write_array_header_1_0(stream, header)
    path = tmp_path / "a.npy"
    path.write_bytes(stream.getvalue() + b"\0" * 64)
    assert "copy or save it again" in refusal(path)


# --- structured arrays -----------------------------------------------------------------------------------------------


def structured() -> np.ndarray:
    dtype = [("intensity", "u1"), ("x", "f8"), ("y", "f4"), ("z", "f4"), ("ring", "u2")]
    return np.array([(7, 1.5, 2.5, 3.5, 9), (8, 4.5, 5.5, 6.5, 10)], dtype)


def test_fields_of_a_structured_array_are_the_columns(tmp_path: Path) -> None:
    scan = cloud(npy(tmp_path / "a.npy", structured()))
    assert scan.columns == ("intensity", "x", "y", "z", "ring")
    np.testing.assert_array_equal(scan.values, [[7, 1.5, 2.5, 3.5, 9], [8, 4.5, 5.5, 6.5, 10]])
    np.testing.assert_array_equal(scan.xyz, [[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]])


def test_names_pick_fields_in_their_order_and_a_number_takes_the_first(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", structured())
    scan = cloud(path, ("x", "y", "z", "intensity"))
    np.testing.assert_array_equal(scan.values, [[1.5, 2.5, 3.5, 7], [4.5, 5.5, 6.5, 8]])
    assert cloud(path, 4).columns == ("intensity", "x", "y", "z")


def test_fields_that_are_missing_or_no_numbers_are_refused(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", structured())
    assert "has no column dt; it has intensity, x, y, z, ring" in refusal(path, ("x", "y", "z", "dt"))
    assert "has 5 columns" in refusal(path, 6)
    assert "has no column z" in refusal(npy(tmp_path / "b.npy", np.zeros(3, [("x", "f4"), ("y", "f4")])))
    wide = np.zeros(3, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("rgb", "f4", 3)])
    assert "field rgb" in refusal(npy(tmp_path / "c.npy", wide))


# --- points in npz ---------------------------------------------------------------------------------------------------


def test_an_npz_gives_its_points_array(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", points=POINTS, labels=np.zeros(5, np.int64))
    np.testing.assert_array_equal(cloud(path).values, POINTS)


def test_an_npz_with_one_array_gives_that(tmp_path: Path) -> None:
    np.testing.assert_array_equal(cloud(npz(tmp_path / "a.npz", anything=POINTS)).values, POINTS)


def test_a_deflated_npz_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, points=POINTS)
    np.testing.assert_array_equal(cloud(path).values, POINTS)


def test_an_npz_without_points_or_a_tensor_is_refused_with_what_it_has(tmp_path: Path) -> None:
    assert "holds a, b; a scan is one array named points" in refusal(npz(tmp_path / "a.npz", a=POINTS, b=POINTS))
    assert "holds nothing" in refusal(npz(tmp_path / "b.npz"))
    assert r"holds 'a\nb', c;" in refusal(npz(tmp_path / "c.npz", **{"a\nb": POINTS, "c": POINTS}))


def test_a_dump_of_rulebooks_is_refused_with_the_command_that_reads_it(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", keys=np.array(["subm1"]), **{"subm1/pair_splits": np.zeros(28, np.int64)})
    assert "spcli inspect-rulebook" in refusal(path)


def test_another_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "no NumPy array" in refusal(path)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_npz_is_refused(tmp_path: Path, damage: str) -> None:
    path = npz(tmp_path / "a.npz", points=POINTS)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[200] ^= 1
    path.write_bytes(data)
    assert "broken NumPy file" in refusal(path)


# --- tensors ---------------------------------------------------------------------------------------------------------


def test_a_voxelized_tensor_is_read_as_it_was_stored(tmp_path: Path) -> None:
    meta = {"schema": "spcli.voxels/1", "axes": ["batch", "z", "y", "x"]}
    content = stored(
        npz(
            tmp_path / "a.voxels.npz",
            **TENSOR,
            batch_size=np.array(3, np.int32),
            num_points=np.array([2, 1, 4], np.int32),
            meta=np.array(json.dumps(meta)),
            points=np.zeros((3, 5, 4), np.float32),
        )
    )
    np.testing.assert_array_equal(content.tensor.indices, TENSOR["indices"])
    np.testing.assert_array_equal(content.tensor.features, TENSOR["features"])
    assert content.tensor.indices.dtype == np.int32
    assert content.tensor.features.dtype == np.float32
    assert content.tensor.spatial_shape == (2, 3, 5)
    assert content.tensor.batch_size == 3
    assert content.num_points is not None
    assert content.num_points.tolist() == [2, 1, 4]
    assert content.meta == meta
    assert content.warnings == ()


def test_what_the_writer_stores_the_reader_gives_back(tmp_path: Path) -> None:
    from spcli.sparse_tensor import SparseTensor
    from spcli.writers.features import write_features

    path = tmp_path / "a.features.npz"
    write_features(str(path), SparseTensor(TENSOR["features"], TENSOR["indices"], (2, 3, 5), 2), {"stride": 8})
    content = stored(path)
    np.testing.assert_array_equal(content.tensor.features, TENSOR["features"])
    assert (content.tensor.batch_size, content.meta["stride"]) == (2, 8)


def test_a_foreign_tensor_needs_only_indices_features_and_spatial_shape(tmp_path: Path) -> None:
    foreign = TENSOR | {"indices": TENSOR["indices"].astype(np.int64), "features": TENSOR["features"].astype("f2")}
    content = stored(npz(tmp_path / "a.npz", **foreign))
    assert content.tensor.batch_size == 2, "one more than the largest batch index"
    assert content.tensor.indices.dtype == np.int32
    assert content.tensor.features.dtype == np.float32
    assert content.num_points is None
    assert content.meta == {}


def test_a_two_dimensional_tensor_is_read(tmp_path: Path) -> None:
    flat = {"indices": TENSOR["indices"][:, [0, 2, 3]], "features": TENSOR["features"], "spatial_shape": [3, 5]}
    assert stored(npz(tmp_path / "a.npz", **flat)).tensor.spatial_shape == (3, 5)


def test_a_tensor_without_sites_is_read(tmp_path: Path) -> None:
    empty = TENSOR | {"indices": np.zeros((0, 4), np.int32), "features": np.zeros((0, 7), np.float32)}
    tensor = stored(npz(tmp_path / "a.npz", **empty)).tensor
    assert tensor.features.shape == (0, 7)
    assert tensor.batch_size == 1


def test_unsorted_rows_are_sorted_with_their_features_and_counts_and_that_is_said(tmp_path: Path) -> None:
    order = [2, 0, 1]
    mixed = TENSOR | {"indices": TENSOR["indices"][order], "features": TENSOR["features"][order]}
    content = stored(npz(tmp_path / "a.npz", **mixed, num_points=np.array([4, 2, 1])))
    np.testing.assert_array_equal(content.tensor.indices, TENSOR["indices"])
    np.testing.assert_array_equal(content.tensor.features, TENSOR["features"])
    assert content.num_points is not None
    assert content.num_points.tolist() == [2, 1, 4]
    assert content.warnings == ("its rows were not in the order (batch, z, y, x) and have been sorted",)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"indices": [[0, 1, 2, 3], [0, 1, 2, 3], [1, 0, 0, 0]]}, "row 1 repeats the site [0, 1, 2, 3]"),
        ({"indices": [[0, 1, 2, 3], [0, 1, 3, 4], [1, 0, 0, 0]]}, "row 1 is at [0, 1, 3, 4], outside"),
        ({"indices": [[0, 1, 2, 3], [0, 1, 2, -1], [1, 0, 0, 0]]}, "row 1 is at [0, 1, 2, -1], outside"),
        ({"indices": [[0, 1, 2, 3], [0, 1, 2, 2**40], [1, 0, 0, 0]]}, "row 1 is at [0, 1, 2, 1099511627776], beyond"),
        ({"batch_size": 1}, "row 2 is at [1, 0, 0, 0], outside batch_size 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": [1, 2]}, "batch_size is [1, 2]"),
        ({"indices": np.zeros((3, 3), np.int32)}, "they are [N, 4]"),
        ({"indices": np.zeros((3, 4), np.float32)}, "indices is float32; it must be integers"),
        ({"indices": np.full((3, 4), 2**63, np.uint64)}, "more than an int32 holds"),
        ({"spatial_shape": [2, 0, 5]}, "every size must be 1 to"),
        ({"spatial_shape": [2, 2**31, 5]}, "every size must be 1 to"),
        ({"features": np.zeros((2, 2), np.float32)}, "3 indices need [3, C]"),
        ({"features": np.zeros((3, 2), np.complex64)}, "must be numbers"),
        ({"num_points": np.zeros(2, np.int32)}, "num_points has shape [2]"),
        ({"indices": np.array([[0, -(2**63), 0, 0]] * 3, np.int64)}, "row 0 is at [0, -9223372036854775808, 0, 0]"),
        ({"meta": np.array("{not json")}, "its meta is not JSON"),
        ({"meta": np.array('{"a": NaN}')}, "its meta is not JSON"),
        ({"meta": np.array('{"a": 1e400}')}, "its meta is not JSON"),
        ({"meta": np.array('{"a": "\\ud800"}')}, "its meta is not JSON"),
        ({"meta": np.array('{"a":' + "[" * 5000 + "]" * 5000 + "}")}, "its meta is not JSON"),
        ({"meta": np.array('{"axes": ["batch", "x", "y", "z"]}')}, "in the order ['batch', 'x', 'y', 'z']"),
    ],
)
def test_a_tensor_that_is_not_one_is_refused_with_the_first_wrong_row(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    assert why in refusal(npz(tmp_path / "a.npz", **(TENSOR | change)))


@pytest.mark.parametrize("lacking", ["indices", "features", "spatial_shape"])
def test_a_tensor_that_lacks_an_array_is_refused_with_its_name(tmp_path: Path, lacking: str) -> None:
    some = {name: array for name, array in TENSOR.items() if name != lacking}
    assert f"a tensor also needs {lacking}; it has" in refusal(npz(tmp_path / "a.npz", **some))


def test_rounding_of_float64_features_is_warned_of(tmp_path: Path) -> None:
    wide = TENSOR | {"features": TENSOR["features"].astype(np.float64) / 3}
    assert "features is float64: rounded" in stored(npz(tmp_path / "a.npz", **wide)).warnings[0]
