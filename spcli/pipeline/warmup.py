"""The kernels of a device compiled, and its frames checked, before the first scan: every shipped configuration over a
synthetic street."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import numpy as np
from msgspec import Struct

from spcli.config import Config, load_preset
from spcli.engines.base import Engine, Want
from spcli.pipeline.session import Session
from spcli.points import PointCloud
from spcli.sample import street_scan

POINTS = 60_000
FRAMES = 3


class Warmth(Struct, frozen=True):
    """What warming up took.

    Attributes:
        compiled: kernels that were compiled.
        found: kernels that were in Triton's cache already.
        seconds: all of it, with the runs.
        folder: the cache.
        wrong: what the check of the frames found, a sentence each.
    """

    compiled: int
    found: int
    seconds: float
    folder: str
    wrong: tuple[str, ...] = ()


def warm_up(engine: Engine, names: Iterable[str], points: int = POINTS) -> Warmth:
    """Run the configurations `names`, and compare what they give with the CPU engine's.

    Three frames each: one with every layer brought back, one step by step, one that is played from a recording.
    What was known of such frames is found anew.

    Args:
        engine: the CUDA engine in the arithmetic that is wanted.
        names: shipped configurations.
        points: size of the scan.

    Raises:
        DeviceError: the device has too little memory, or Triton cannot compile or keep kernels here.
    """
    started = perf_counter()
    street = street_scan(0, points)
    wrong: list[str] = []
    with engine.counted_kernels() as kernels:
        for name in names:
            config = load_preset(name, (), {})
            want = Want((config.layers[-1].name,), rulebooks=True)
            session, scan = Session(config, device=engine, want=want, check="all"), _scan_for(config, street)
            for _ in range(FRAMES):
                result = session.run(scan)
                if result.engine is not engine:
                    wrong.append(result.warnings[0])
                    break
    return Warmth(kernels.compiled, kernels.found, perf_counter() - started, kernels.folder, tuple(wrong))


def _scan_for(config: Config, street: PointCloud) -> PointCloud:
    """The street with the columns that a configuration names, and no larger in its voxels than in KITTI's."""
    assert config.voxelize is not None and config.voxelize.columns is not None
    values = np.zeros((len(street.values), len(config.voxelize.columns)), np.float32)
    values[:, :3] = street.values[:, :3] * np.float32(min(config.voxelize.voxel_size[0] / 0.05, 1.0))
    return PointCloud(values, config.voxelize.columns, street.source)
