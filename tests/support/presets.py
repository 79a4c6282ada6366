"""Scans that suit the shipped configurations."""

from __future__ import annotations

import numpy as np

from spcli.config import Config
from spcli.points import PointCloud
from spcli.sample import street_scan


def scan_for(config: Config) -> PointCloud:
    """A thinned street with the columns that `config` names; small where its voxels are."""
    street = street_scan(0, 9000)
    assert config.voxelize is not None and config.voxelize.columns is not None
    draw = np.random.default_rng(0)
    values = draw.uniform(0, 1, (len(street.values), len(config.voxelize.columns))).astype(np.float32)
    scale = config.voxelize.voxel_size[0] / 0.05
    values[:, :3] = street.values[:, :3] * np.float32(min(scale, 1.0))
    return PointCloud(values, config.voxelize.columns, "a thinned street")
