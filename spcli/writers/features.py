"""Sparse tensors as npz: `indices`, `features`, `spatial_shape`, `batch_size` and `meta`, a JSON string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.sparse_tensor import SparseTensor, VoxelizedScan
from spcli.writers.npz import Target, save_npz


def write_features(
    target: Target, tensor: SparseTensor, meta: Mapping[str, Any], *, dtype: str = "float32", compress: bool = False
) -> None:
    """Write a network's output. `dtype` float16 halves the features; every other value stores float32.

    Raises:
        UsageError: the place cannot be written to.
    """
    stored = "float16" if dtype == "float16" else "float32"
    arrays = tensor_arrays(tensor, {**meta, "dtype": stored})
    arrays["features"] = arrays["features"].astype(stored, copy=False)
    save_npz(target, arrays, compress=compress)


def write_voxels(target: Target, scan: VoxelizedScan, meta: Mapping[str, Any], *, compress: bool = False) -> None:
    """Write voxels: a tensor with `num_points` int32 `[N]`, and with `point_rows` and `points` where the scan has
    them.

    Raises:
        UsageError: the place cannot be written to.
    """
    arrays = tensor_arrays(scan.tensor, {**meta, "dtype": "float32"})
    arrays["num_points"] = scan.num_points
    if scan.point_rows is not None:
        arrays["point_rows"] = scan.point_rows
    if scan.points is not None:
        arrays["points"] = scan.points
    save_npz(target, arrays, compress=compress)


def tensor_arrays(tensor: SparseTensor, meta: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The members of a tensor file by name."""
    return {
        "indices": tensor.indices,
        "features": tensor.features,
        "spatial_shape": np.array(tensor.spatial_shape, np.int32),
        "batch_size": np.array(tensor.batch_size, np.int32),
        "meta": json_array(meta),
    }


def json_array(value: Mapping[str, Any]) -> NDArray[np.str_]:
    """`value` as a JSON string in an array of no dimension, which npz can hold without pickling."""
    import json

    return np.array(json.dumps(value, allow_nan=False))
