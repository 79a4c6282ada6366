"""What a reader is given and what it makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spcli.points import PointCloud
from spcli.sparse_tensor import SparseTensor

STDIN = "-"
SORTED = "its rows were not in the order (batch, z, y, x) and have been sorted"

# How the caller names a file's columns: by number, by name, or not at all.
Columns = int | tuple[str, ...] | None


@dataclass(frozen=True)
class RawScan:
    """The bytes of one scan, before anything is known about them.

    Attributes:
        data: the whole file; writable, so that arrays over it are too.
        source: the path as given, or "-" for standard input.
    """

    data: bytearray
    source: str


@dataclass(frozen=True)
class StoredTensor:
    """A scan that was voxelized before: an npz with `indices`, `features` and `spatial_shape`.

    Attributes:
        tensor: the active sites, rows in canonical order.
        num_points: int32 `[N]`, points in each voxel; None where the file does not say.
        meta: the file's `meta` JSON object; empty where it has none.
        warnings: what the reader wants the user to know, one sentence each.
    """

    tensor: SparseTensor
    num_points: NDArray[np.int32] | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """One input, read.

    Attributes:
        content: points, or the sparse tensor that an earlier voxelization stored.
        digest: SHA-256 of the file's bytes, in hexadecimal.
        source: the path as given, or "-" for standard input.
    """

    content: PointCloud | StoredTensor
    digest: str
    source: str

    @property
    def meta(self) -> dict[str, Any]:
        """The `meta` of a stored tensor's file; empty for points."""
        return self.content.meta if isinstance(self.content, StoredTensor) else {}


class Reader(Protocol):
    """What a module named in `formats.READERS` must offer."""

    def read(self, raw: RawScan, columns: Columns) -> PointCloud | StoredTensor:
        """The content of `raw`.

        Raises:
            InputError: the bytes are not what the format promises.
        """
