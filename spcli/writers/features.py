"""Sparse tensors as npz: `indices`, `features`, `spatial_shape`, `batch_size` and `meta`, a JSON string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.sparse_tensor import SparseTensor
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


def write_voxels(
    target: Target,
    tensor: SparseTensor,
    extras: Mapping[str, NDArray[Any] | None],
    meta: Mapping[str, Any],
    *,
    compress: bool = False,
) -> None:
    """Write voxels: a tensor and `extras` by name, which are `num_points` int32 `[N]`, `point_rows` int32 `[P]` and
    `points` float32 `[N, max_points, C]`, each left out where it is None.

    Raises:
        UsageError: the place cannot be written to.
    """
    arrays = tensor_arrays(tensor, {**meta, "dtype": "float32"})
    arrays.update({name: array for name, array in extras.items() if array is not None})
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
