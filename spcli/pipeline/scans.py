"""Whatever a caller calls a scan, made one: paths, arrays, tensors; and what a configuration asks of a tensor."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError
from spcli.grid import VoxelSpec, fixed_grid
from spcli.pipeline.channels import channel_names
from spcli.points import PointCloud
from spcli.readers import SORTED, Columns, Scan, StoredTensor, read
from spcli.readers.numpy_file import cloud_of
from spcli.sparse_tensor import SparseTensor, checked

ScanLike = Any
"""A path, "-" for standard input, points `[P, C]` as an array or anything with `__dlpack__`, a `PointCloud`, a
`SparseTensor`, or what `spcli.read` gave."""


def as_scan(given: ScanLike, columns: Columns = None) -> Scan:
    """A scan from what a caller has.

    Args:
        given: see `ScanLike`.
        columns: the columns of a file or array, by number or names; None lets the content decide.

    Raises:
        InputError: it cannot be used, or is nothing of the kind.
    """
    if isinstance(given, Scan):
        return given
    if isinstance(given, str | os.PathLike):
        return read(os.fspath(given), columns)
    if isinstance(given, SparseTensor):
        tensor, was_sorted = checked(given, "the tensor")
        return Scan(StoredTensor(tensor, warnings=(SORTED,) if was_sorted else ()), "", "the tensor")
    cloud = given if isinstance(given, PointCloud) else cloud_of(_host_array(given), columns, "the array")
    return Scan(cloud, "", cloud.source)


def _host_array(given: Any) -> NDArray[Any]:
    """An array on the host, without a copy where it lies there."""
    if isinstance(given, np.ndarray):
        return given
    kind = type(given).__name__
    if not hasattr(given, "__dlpack__"):
        raise InputError(f"a {kind} is no scan; give a path, an array [P, C], a PointCloud or a SparseTensor")
    try:
        return np.from_dlpack(given)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the {kind} cannot be read here ({reason}); copy it to the host, without gradients"
        ) from error


def check_tensor(stored: StoredTensor, spec: VoxelSpec | None, source: str) -> None:
    """A tensor that was voxelized before must have been voxelized as the configuration says.

    Args:
        stored: the tensor and its file's `meta`; what the file does not say is not compared.
        spec: the configuration's voxelization; None accepts every tensor.
        source: for messages.

    Raises:
        InputError: voxel size, range, shape or channels differ; gives both values.
    """
    if spec is None:
        return
    fixed = spec.point_cloud_range is not None
    channels = channel_names(spec)
    names = stored.meta.get("channels")
    pairs = [
        ("voxel size", stored.meta.get("voxel_size"), spec.voxel_size),
        ("range", stored.meta.get("point_cloud_range") if fixed else None, spec.point_cloud_range),
        ("spatial shape", stored.tensor.spatial_shape if fixed else None, fixed and fixed_grid(spec).spatial_shape),
        ("number of channels", stored.tensor.features.shape[1], channels and len(channels)),
        ("channels", names, channels),
    ]
    for what, have, want in pairs:
        if have and want and not _same(have, want):
            raise InputError(
                f"{source}: its {what} is {_shown(have)}, but the configuration's is {_shown(want)}; voxelize the scan "
                "again with this configuration, or change the configuration"
            )


def _same(have: object, want: object) -> bool:
    """Equality of two numbers, or of two sequences, numbers being rounded to float32 as the voxelizer does."""
    try:
        one, other = np.asarray(have), np.asarray(want)
    except ValueError:
        return False
    if one.dtype.kind in "iuf" and other.dtype.kind in "iuf":
        one, other = one.astype(np.float32), other.astype(np.float32)
    return bool(np.array_equal(one, other))


def _shown(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
