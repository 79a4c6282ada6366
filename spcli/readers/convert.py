"""Arrays of any number type to the float32 that scans are made of, and named columns to a cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError
from spcli.points import PointCloud
from spcli.readers.columns import attribute_warnings
from spcli.readers.scan import Columns


def to_float32(array: NDArray[Any], what: str, tolerance: float = 0.0) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """`array` as C-contiguous float32, and a warning where a value changed by more than `tolerance` or overflowed.

    Raises:
        InputError: the type is not a real number (objects, text, complex, dates).
    """
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} is of type {array.dtype}, not numbers; save it as float32")
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype.kind == "b" or np.can_cast(array.dtype, np.float32):
        return values, ()
    with np.errstate(invalid="ignore"):
        wide = array.astype(np.float64)
        change = np.abs(wide - values)
    lossy = np.isfinite(wide) & (change > tolerance)
    if not lossy.any():
        return values, ()
    return values, (f"{what} is {array.dtype}: rounded to float32, by up to {change[lossy].max():.3g}",)


def named_cloud(fields: Mapping[str, NDArray[Any]], columns: Columns, source: str) -> PointCloud:
    """A cloud of the named columns `[P]` of a file, in their order, or of those that `columns` picks.

    Names pick these columns in this order; a number takes the first so many.

    Raises:
        InputError: the file has no x, y, z, or lacks a column that was named.
    """
    missing = [axis for axis in "xyz" if axis not in fields]
    listed = ", ".join(fields) or "none"
    if missing:
        raise InputError(f"{source}: has no column {', '.join(missing)} (it has {listed}); name its positions x, y, z")
    names = _picked(tuple(fields), columns, source)
    values = np.empty((len(fields["x"]), len(names)), np.float32)
    warnings: tuple[str, ...] = ()
    for position, name in enumerate(names):
        values[:, position], found = to_float32(fields[name], f"column {name}")
        warnings += found
    return PointCloud(values, names, source, warnings + attribute_warnings(values, names))


def _picked(present: tuple[str, ...], columns: Columns, source: str) -> tuple[str, ...]:
    if isinstance(columns, int):
        if columns > len(present):
            raise InputError(
                f"{source}: has {len(present)} columns ({', '.join(present)}), not {columns}; pass the right --columns"
            )
        return present[:columns]
    lacking = [name for name in columns or () if name not in present]
    if lacking:
        raise InputError(
            f"{source}: has no column {', '.join(lacking)}; it has {', '.join(present)}, so name among these"
        )
    return present if columns is None else columns
