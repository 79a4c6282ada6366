"""Points as bare float32 rows (KITTI's `.bin`) or as `.npy`."""

from __future__ import annotations

import numpy as np

from spcli.points import PointCloud
from spcli.writers.atomic import replacing
from spcli.writers.npz import Target


def write_points(target: Target, cloud: PointCloud) -> None:
    """Write the values of a cloud: `.npy` for a path that ends so, bare little-endian float32 otherwise.

    Raises:
        UsageError: the place cannot be written to.
    """
    values = np.ascontiguousarray(cloud.values, "<f4")
    if not isinstance(target, str):
        target.write(values.tobytes())
        return
    with replacing(target) as stream:
        if target.lower().endswith(".npy"):
            np.lib.format.write_array(stream, values, allow_pickle=False)
        else:
            stream.write(values.tobytes())
