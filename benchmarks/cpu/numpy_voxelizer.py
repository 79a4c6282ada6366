"""The voxelizer one would write with numpy, as a contestant: sort linear cells, add up float64 sums."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from benchmarks.common.workload import Workload
from spcli.config import load_config
from spcli.grid import fixed_grid


class Contestant:
    """Times voxelization only; a stable sort keeps the first points of a voxel in file order."""

    def __init__(self, workload: Workload, threads: int) -> None:
        self._values = workload.points.values
        spec = load_config(workload.config).voxelize
        assert spec is not None and spec.max_points is not None
        self._grid, self._most = fixed_grid(spec), spec.max_points

    def round(self) -> dict[str, float]:
        """Seconds of the voxelizer."""
        started = perf_counter()
        self._voxelize()
        return {"voxelize": perf_counter() - started}

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Sites and means."""
        return self._voxelize()

    def _voxelize(self) -> tuple[np.ndarray, np.ndarray]:
        grid, cells = self._grid, np.array(self._grid.cells[::-1])
        steps = np.floor((self._values[:, :3] - grid.origin) / grid.voxel_size)
        inside = np.flatnonzero(((steps >= 0) & (steps < cells)).all(axis=1))
        x, y, z = steps[inside].astype(np.int64).T
        key = (z * grid.cells[1] + y) * grid.cells[2] + x
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        counts = np.diff(np.r_[first, len(key)])
        kept = np.arange(len(key)) - np.repeat(first, counts) < self._most
        starts = np.r_[0, np.cumsum(np.minimum(counts, self._most))][:-1]
        sums = np.add.reduceat(self._values[inside[order[kept]]].astype(np.float64), starts, axis=0)
        sites = np.column_stack([np.zeros(len(first), np.int32), z[order][first], y[order][first], x[order][first]])
        return sites.astype(np.int32), (sums / np.minimum(counts, self._most)[:, None]).astype(np.float32)
