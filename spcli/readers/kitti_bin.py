"""Bare little-endian float32 rows, as KITTI, nuScenes and most LiDAR datasets store scans.

The bytes are only looked at, never copied: reading, hashing and the step test of a 115,000-point scan take a few
milliseconds together.
"""

from __future__ import annotations

import numpy as np

from spcli.errors import InputError
from spcli.points import PointCloud
from spcli.readers.columns import attribute_warnings, check_count, infer_count, names_for
from spcli.readers.plausible import check_float32
from spcli.readers.scan import Columns, RawScan

_EMPTY_COLUMNS = 4


def read(raw: RawScan, columns: Columns) -> PointCloud:
    """The points of `raw`; without `columns` their number is found by the step test.

    A file of no bytes is a scan of no points, with x, y, z and intensity where `columns` does not say otherwise.

    Raises:
        InputError: the bytes are not float32 points, are cut short, or fit several column counts.
    """
    if not raw.data:
        return _empty(raw.source, columns)
    if len(raw.data) % 4:
        raise InputError(
            f"{raw.source}: {len(raw.data)} bytes are no whole number of float32 values ({len(raw.data) % 4} left "
            "over); the file is cut short or is no raw float32: copy it again"
        )
    check_float32(raw.data, raw.source)
    values = np.frombuffer(raw.data, "<f4")
    if columns is None:
        count, warnings = infer_count(values, raw.source)
    else:
        count, warnings = check_count(values, columns, raw.source)
    names = names_for(count, columns)
    points = values.reshape(-1, count)
    return PointCloud(points, names, raw.source, warnings + attribute_warnings(points, names))


def _empty(source: str, columns: Columns) -> PointCloud:
    count = columns if isinstance(columns, int) else _EMPTY_COLUMNS
    names = names_for(count, columns)
    return PointCloud(np.zeros((0, len(names)), np.float32), names, source, ("is empty: 0 bytes, so 0 points",))
