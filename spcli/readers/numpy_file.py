"""NumPy's own files: points in `.npy` and `.npz`, and tensors that were voxelized before.

Pickled objects are never loaded.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError
from spcli.points import PointCloud
from spcli.readers.columns import attribute_warnings, names_for
from spcli.readers.convert import named_cloud, to_float32
from spcli.readers.scan import SORTED, Columns, RawScan, StoredTensor
from spcli.sparse_tensor import SparseTensor, canonical, lexicographic_order

_TENSOR_ARRAYS = ("indices", "features", "spatial_shape")
_OPTIONAL_ARRAYS = ("batch_size", "num_points", "meta")
_MOST_COLUMNS = 64
_INT32_MAX = 2**31 - 1


def read(raw: RawScan, columns: Columns) -> PointCloud | StoredTensor:
    """The points, or the sparse tensor, in an `.npy` or `.npz` file.

    An `.npy` holds `[P, C]` numbers of any float type, or a structured array with fields x, y, z and more. An `.npz`
    holds the same under `points` or as its only array, or `indices`, `features` and `spatial_shape`.

    Raises:
        InputError: the file is broken, holds objects, or holds neither points nor a tensor.
    """
    loaded = _load(raw)
    if isinstance(loaded, np.ndarray):
        return cloud_of(loaded, columns, raw.source)
    return _tensor(loaded, raw.source)


def _load(raw: RawScan) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The points of the file, or the arrays of its tensor by name."""
    try:
        loaded = np.load(io.BytesIO(raw.data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return _members(loaded, raw.source)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{raw.source}: claims more data than memory holds; copy or save it again") from None
    # A damaged header or archive ends in a dozen unrelated errors of zipfile, zlib, tokenize and numpy.
    except Exception as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{raw.source}: holds Python objects, which can run code and are not read; save numbers instead"
            ) from None
        raise InputError(f"{raw.source}: is a broken NumPy file ({_reason(error)}); copy or save it again") from None


def _members(archive: Mapping[str, NDArray[Any]], source: str) -> NDArray[Any] | dict[str, NDArray[Any]]:
    names = list(archive)
    if "points" in names and "indices" not in names:
        return _array(archive, "points", source)
    if len(names) == 1 and names[0] not in _TENSOR_ARRAYS:
        return _array(archive, names[0], source)
    _require_tensor(names, source)
    return {name: _array(archive, name, source) for name in (*_TENSOR_ARRAYS, *_OPTIONAL_ARRAYS) if name in names}


def _array(archive: Mapping[str, NDArray[Any]], name: str, source: str) -> NDArray[Any]:
    member = archive[name]
    if not isinstance(member, np.ndarray):
        raise InputError(f"{source}: is a zip whose {_listed([name])} is no NumPy array; unpack it and name a scan")
    return member


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name if name.isprintable() else ascii(name) for name in names[:8]) or "nothing"


def cloud_of(array: NDArray[Any], columns: Columns, source: str) -> PointCloud:
    """Points from an array `[P, C]` of numbers, or a structured one.

    Raises:
        InputError: it is of another shape or type, or has other columns.
    """
    if array.dtype.names is not None:
        return _structured(array, columns, source)
    if array.ndim != 2 or array.shape[1] < 3:
        raise InputError(
            f"{source}: has shape {list(array.shape)}; points are [P, C], one row per point, x, y, z and more"
        )
    if array.shape[1] > _MOST_COLUMNS and array.shape[0] <= 7:
        raise InputError(f"{source}: has shape {list(array.shape)}, a column a point; save the transpose, [P, C]")
    count = array.shape[1]
    wanted = len(columns) if isinstance(columns, tuple) else columns
    if wanted not in (None, count):
        raise InputError(f"{source}: has {count} columns, not {wanted}; name its {count} columns with --columns")
    values, warnings = to_float32(array, f"{source}: the array" if array.dtype.kind not in "fiub" else "the array")
    names = names_for(count, columns)
    warnings = warnings or _converted(array.dtype, "the array")
    return PointCloud(values, names, source, warnings + attribute_warnings(values, names))


def _converted(dtype: np.dtype[Any], what: str) -> tuple[str, ...]:
    """A warning for numbers of another float type than a scan's, even where nothing is lost."""
    return (f"{what} is {dtype}: converted to float32",) if dtype.kind == "f" and dtype.itemsize != 4 else ()


def _structured(array: NDArray[Any], columns: Columns, source: str) -> PointCloud:
    names = array.dtype.names or ()
    flat = array.reshape(-1)
    wide = [name for name in names if flat[name].ndim != 1 or flat[name].dtype.kind not in "fiub"]
    if wide:
        raise InputError(f"{source}: field {wide[0]} is {array.dtype[wide[0]]}, not one number per point; split it")
    cloud = named_cloud({name: flat[name] for name in names}, columns, source)
    warnings = tuple(text for name in cloud.columns for text in _converted(array.dtype[name], f"column {name}"))
    return cloud if cloud.warnings else replace(cloud, warnings=warnings[:1])


def _tensor(loaded: Mapping[str, NDArray[Any]], source: str) -> StoredTensor:
    shape = tuple(int(size) for size in _integers(loaded["spatial_shape"], "spatial_shape", source).ravel())
    indices = _integers(loaded["indices"], "indices", source)
    if indices.ndim != 2 or indices.shape[1] != 1 + len(shape):
        raise InputError(
            f"{source}: indices have shape {list(indices.shape)}; with spatial_shape {list(shape)} they are "
            f"[N, {1 + len(shape)}]: batch and then a column for each axis"
        )
    features, warnings = _features(loaded["features"], len(indices), source)
    batch_size = _batch_size(loaded, indices, source)
    _check_int32(indices, shape, source)
    given = SparseTensor(features, indices.astype(np.int32), shape, batch_size)
    tensor, sorted_here = canonical(given, source)
    num_points = _numcloud_of(loaded, given, source)
    if sorted_here:
        warnings += (SORTED,)
        order = lexicographic_order(given.indices)
        num_points = num_points[order] if num_points is not None and order is not None else num_points
    return StoredTensor(tensor, num_points, _meta(loaded, len(shape), source), warnings)


def _require_tensor(names: Sequence[str], source: str) -> None:
    missing = [name for name in _TENSOR_ARRAYS if name not in names]
    if not missing:
        return
    if "keys" in names and any(name.endswith("/pair_splits") for name in names):
        raise InputError(f"{source}: holds rulebooks, not a scan; read it with spcli inspect-rulebook")
    if len(missing) < len(_TENSOR_ARRAYS):
        raise InputError(f"{source}: a tensor also needs {', '.join(missing)}; it has {_listed(names)}")
    raise InputError(
        f"{source}: holds {_listed(names)}; a scan is one array named points, a tensor {', '.join(_TENSOR_ARRAYS)}"
    )


def _integers(array: NDArray[Any], name: str, source: str) -> NDArray[np.int64]:
    if array.dtype.kind not in "iu":
        raise InputError(f"{source}: {name} is {array.dtype}; it must be integers")
    if array.dtype.kind == "u" and array.size and int(array.max()) > _INT32_MAX:
        raise InputError(f"{source}: {name} reaches {int(array.max())}, more than an int32 holds")
    return array.astype(np.int64)


def _check_int32(indices: NDArray[np.int64], shape: tuple[int, ...], source: str) -> None:
    if any(not 1 <= size <= _INT32_MAX for size in shape):
        raise InputError(f"{source}: spatial_shape is {list(shape)}; every size must be 1 to {_INT32_MAX}")
    wrong = np.flatnonzero(((indices > _INT32_MAX) | (indices < -_INT32_MAX)).any(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{source}: row {row} is at {indices[row].tolist()}, beyond an int32; correct the indices")


def _features(array: NDArray[Any], rows: int, source: str) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if array.ndim != 2 or len(array) != rows:
        raise InputError(f"{source}: features have shape {list(array.shape)}; {rows} indices need [{rows}, C]")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{source}: features are {array.dtype}; they must be numbers")
    values, warnings = to_float32(array, "features")
    return values, warnings or _converted(array.dtype, "features")


def _batch_size(loaded: Mapping[str, NDArray[Any]], indices: NDArray[np.int64], source: str) -> int:
    if "batch_size" not in loaded:
        return int(indices[:, 0].max()) + 1 if len(indices) else 1
    stored = _integers(loaded["batch_size"], "batch_size", source)
    if stored.size != 1 or not 1 <= int(stored.ravel()[0]) <= _INT32_MAX:
        raise InputError(f"{source}: batch_size is {stored.tolist()}; it must be one number, 1 or more")
    return int(stored.ravel()[0])


def _numcloud_of(loaded: Mapping[str, NDArray[Any]], tensor: SparseTensor, source: str) -> NDArray[np.int32] | None:
    if "num_points" not in loaded:
        return None
    counts = _integers(loaded["num_points"], "num_points", source)
    rows = len(tensor.indices)
    if counts.shape != (rows,):
        raise InputError(f"{source}: num_points has shape {list(counts.shape)}; {rows} indices need [{rows}]")
    return counts.astype(np.int32)


def _meta(loaded: Mapping[str, NDArray[Any]], axes: int, source: str) -> dict[str, Any]:
    """The `meta` object; refused where it says that the columns of `indices` stand for other axes."""
    from spcli.readers.strict_json import parse_json

    stored = loaded.get("meta")
    if stored is None or stored.size != 1 or stored.dtype.kind not in "US":
        return {}
    text = stored.ravel()[0]
    try:
        meta = parse_json(text)
    except ValueError:
        raise InputError(f"{source}: its meta is not JSON; save it again, or without meta") from None
    if not isinstance(meta, dict):
        return {}
    expected = ["batch", "z", "y", "x"] if axes == 3 else ["batch", "y", "x"]
    named = meta.get("axes")
    if isinstance(named, list) and named != expected and sorted(map(str, named)) == sorted(expected):
        raise InputError(f"{source}: its indices are in the order {named}; reorder them to {expected}")
    return meta
