"""What a file holds, by its content: points, a tensor, rulebooks, weights, statistics, or plain arrays."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError
from spcli.inspect import load_dump, rule_counts, summary
from spcli.points import PointCloud
from spcli.readers import Columns, RawScan, StoredTensor, load, parse
from spcli.readers.strict_json import parse_json

Description = dict[str, Any]

SCHEMA = "spcli.info/1"
WEIGHT_SUFFIXES = (".weight", ".bias", ".running_mean", ".running_var")
PERCENTILES = (0.1, 99.9)
FIRST_TRY = "quickstart"
"""A configuration to learn with; no suggestion for real work."""


def describe_file(source: str, columns: Columns = None) -> Description:
    """What `source` (a path, or "-" for standard input) holds, as a `spcli.info/1` object.

    Raises:
        InputError: it cannot be read, or is of no kind that is known.
    """
    raw = load(source)
    head = {
        "schema": SCHEMA,
        "source": source,
        "bytes": len(raw.data),
        "sha256": hashlib.sha256(raw.data).hexdigest(),
    }
    for kind in (_json_object, _rulebooks, _safetensors, _weights):
        found = kind(raw)
        if found is not None:
            return head | found
    return head | _scan(raw, columns)


def _json_object(raw: RawScan) -> Description | None:
    if raw.data.lstrip()[:1] != b"{":
        return None
    try:
        content = parse_json(raw.data)
    except ValueError:
        _refuse_json(raw)
        return None
    schema = str(content.get("schema", ""))
    kind = "statistics" if schema.startswith("spcli.stats") else "json"
    return {"kind": kind, "content_schema": schema or None, "content": content}


def _refuse_json(raw: RawScan) -> None:
    """A file that is JSON by name is not taken for points."""
    if raw.source.lower().endswith(".json"):
        raise InputError(f"{raw.source}: is not plain JSON (cut short, NaN, or nested too deeply); write it again")


def _rulebooks(raw: RawScan) -> Description | None:
    rulebooks = load_dump(BytesIO(raw.data), raw.source)
    if rulebooks is None:
        return None
    rows = [summary(k.key, k.layers, k.rulebook.geometry, rule_counts(k.rulebook)) for k in rulebooks]
    return {"kind": "rulebooks", "pairs": sum(row["pairs"] for row in rows), "rulebooks": rows}


def _safetensors(raw: RawScan) -> Description | None:
    """The header is a JSON object behind its length (https://github.com/huggingface/safetensors#format)."""
    if raw.data[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", raw.data[:8])
    try:
        header = parse_json(raw.data[8 : 8 + length])
        shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
        return _parameters(shapes)
    except (ValueError, LookupError, TypeError):
        return None


def _weights(raw: RawScan) -> Description | None:
    arrays = _npz(raw)
    if not arrays or not all(name.endswith(WEIGHT_SUFFIXES) for name in arrays):
        return None
    return _parameters({name: list(array.shape) for name, array in arrays.items()})


def _parameters(shapes: Mapping[str, list[int]]) -> Description:
    trained = sum(prod(shape) for name, shape in shapes.items() if ".running_" not in name)
    return {"kind": "weights", "parameters": trained, "shapes": dict(shapes)}


def _npz(raw: RawScan) -> dict[str, NDArray[Any]] | None:
    """The arrays of an npz, None where it is none."""
    if raw.data[:2] != b"PK":
        return None
    try:
        with np.load(BytesIO(raw.data), allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


def _scan(raw: RawScan, columns: Columns) -> Description:
    try:
        content = parse(raw, columns).content
    except InputError:
        arrays = _npz(raw)
        if arrays is None or "points" in arrays:
            raise
        return _arrays(arrays)
    return _tensor(content) if isinstance(content, StoredTensor) else _points(content)


def _arrays(arrays: Mapping[str, NDArray[Any]]) -> Description:
    listed = {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
    return {"kind": "arrays", "arrays": listed}


def _tensor(stored: StoredTensor) -> Description:
    tensor = stored.tensor
    finite = tensor.features[np.isfinite(tensor.features)]
    return {
        "kind": "tensor",
        "sites": len(tensor.indices),
        "channels": int(tensor.features.shape[1]),
        "spatial_shape": list(tensor.spatial_shape),
        "batch_size": tensor.batch_size,
        "density": tensor.density,
        "features": {"min": _least(finite, np.min), "max": _least(finite, np.max)},
        "points_per_voxel_max": None if stored.num_points is None else _whole(stored.num_points),
        "meta": stored.meta,
        "warnings": list(stored.warnings),
    }


def _whole(counts: NDArray[np.int32]) -> int:
    return int(counts.max()) if len(counts) else 0


def _least(values: NDArray[np.float32], pick: Callable[[NDArray[np.float32]], Any]) -> float | None:
    """An extreme as the shortest decimal that is that float32, None where there is no value."""
    return float(str(pick(values))) if values.size else None


def _points(cloud: PointCloud) -> Description:
    finite = [column[np.isfinite(column)] for column in cloud.values.T]
    listed = [
        {
            "name": name,
            "min": _least(values, np.min),
            "max": _least(values, np.max),
            "nonfinite": len(cloud.values) - len(values),
        }
        for name, values in zip(cloud.columns, finite, strict=True)
    ]
    by_name = {column["name"]: column for column in listed}
    at_origin = int((cloud.xyz == 0).all(axis=1).sum())
    return {
        "kind": "points",
        "points": len(cloud.values),
        "columns": listed,
        "bounds": {axis: [by_name[axis]["min"], by_name[axis]["max"]] for axis in "xyz"},
        "no_returns": at_origin,
        "suggestion": _suggestion(cloud) if len(cloud.values) else None,
        "warnings": list(cloud.warnings),
    }


def _suggestion(cloud: PointCloud) -> Description:
    """The shipped configuration that keeps most points of such columns, and a range that keeps nearly all."""
    from spcli.config import load_preset, preset_names

    xyz = cloud.xyz[np.isfinite(cloud.xyz).all(axis=1)].astype(np.float64)
    best: Description = {"preset": None, "in_range": None}
    for name in preset_names():
        spec = load_preset(name, environ={}).voxelize
        if name == FIRST_TRY or spec is None or spec.point_cloud_range is None or not len(xyz):
            continue
        if spec.columns is not None and len(spec.columns) != len(cloud.columns):
            continue
        low, high = np.array(spec.point_cloud_range[:3]), np.array(spec.point_cloud_range[3:])
        share = float(((xyz >= low) & (xyz < high)).all(axis=1).mean())
        if best["in_range"] is None or share > best["in_range"]:
            best = {"preset": name, "in_range": round(share, 4)}
    return best | {"point_cloud_range": _range(xyz)}


def _range(xyz: NDArray[np.float64]) -> list[float] | None:
    """Whole metres around all but the outermost points of each axis."""
    if not len(xyz):
        return None
    low, high = np.percentile(xyz, PERCENTILES, axis=0)
    return [*np.floor(low).tolist(), *(np.floor(high) + 1).tolist()]
