"""Coloured points as binary PLY (http://paulbourke.net/dataformats/ply/), for CloudCompare, MeshLab and open3d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.writers.atomic import replacing
from spcli.writers.npz import Target

TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}


def write_ply(
    target: Target,
    xyz: NDArray[np.float32],
    colours: NDArray[np.uint8],
    properties: Mapping[str, NDArray[Any]],
    comments: Sequence[str] = (),
) -> None:
    """Write points to a path (atomically) or to an open stream.

    Args:
        target: the place.
        xyz: float32 `[N, 3]`.
        colours: uint8 `[N, 3]`, red, green, blue.
        properties: further numbers of a point by name, each `[N]`, float32 or int32.
        comments: lines for the header; what is not ASCII becomes `?`, and line breaks become spaces.

    Raises:
        UsageError: the place cannot be written to.
    """
    columns: dict[str, NDArray[Any]] = {
        **dict(zip("xyz", np.asarray(xyz, "<f4").T, strict=True)),
        **dict(zip(("red", "green", "blue"), np.asarray(colours, "u1").T, strict=True)),
        **{name: np.asarray(values, values.dtype.newbyteorder("<")) for name, values in properties.items()},
    }
    records = np.empty(len(xyz), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        records[name] = column
    data = _header(records, comments) + records.tobytes()
    if isinstance(target, str):
        with replacing(target) as stream:
            stream.write(data)
    else:
        target.write(data)


def _header(records: NDArray[Any], comments: Sequence[str]) -> bytes:
    kinds = {name: TYPES[records.dtype[name].str[1:]] for name in records.dtype.names or ()}
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {' '.join(comment.split())}" for comment in comments),
        f"element vertex {len(records)}",
        *(f"property {kind} {name}" for name, kind in kinds.items()),
        "end_header",
    ]
    return ("\n".join(lines) + "\n").encode("ascii", "replace")
