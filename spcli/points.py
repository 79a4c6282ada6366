"""A point cloud as it came from a file: one float32 row per point, columns with names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PointCloud:
    """Points of one scan in file order.

    Attributes:
        values: float32 `[P, C]`, C-contiguous. Columns x, y, z are metres in the sensor frame.
        columns: the C column names, in order; `x`, `y` and `z` are among them.
        source: where the points came from, for messages and records ("-" is standard input).
        warnings: what the reader wants the user to know, one sentence each.
    """

    values: NDArray[np.float32]
    columns: tuple[str, ...]
    source: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def xyz(self) -> NDArray[np.float32]:
        """float32 `[P, 3]`, metres."""
        return self.values[:, [self.columns.index(axis) for axis in "xyz"]]
