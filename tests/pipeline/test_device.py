"""Every function that computes takes a device or an engine, and a network by its name."""

from __future__ import annotations

import numpy as np
import pytest

import spcli
from spcli.engines.base import Engine
from spcli.engines.driver import CudaDriver
from spcli.errors import DeviceError, UsageError

POINTS = np.random.default_rng(4).uniform((0, -30, -2, 0), (60, 30, 1, 1), (200, 4)).astype(np.float32)
SPEC = spcli.VoxelSpec((0.2, 0.2, 0.2), (0, -32, -3, 64, 32, 3.4))


@pytest.fixture(scope="module")
def cpu() -> Engine:
    return spcli.load_engine("cpu")


@pytest.mark.parametrize("device", ["cpu", "engine"])
def test_a_device_by_name_and_its_engine_give_the_same(cpu: Engine, device: str) -> None:
    where = cpu if device == "engine" else device
    usual = spcli.run("quickstart", POINTS)
    assert (
        spcli.run("quickstart", POINTS, device=where).features.features.tobytes() == usual.features.features.tobytes()
    )
    assert spcli.predict("quickstart", POINTS, device=where).stats["totals"] == usual.stats["totals"]
    (row,) = spcli.sweep("quickstart", POINTS, [(0.2, 0.2, 0.2)], device=where)
    assert row["macs"] == usual.stats["totals"]["macs"]
    voxels = spcli.voxelize(POINTS, SPEC, columns=4, device=where)
    assert np.array_equal(voxels.tensor.indices, spcli.Explainer("quickstart", POINTS, "conv1a", device=where).sites)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spcli.engines.device.ask_driver", lambda: CudaDriver(False))
    with pytest.raises(DeviceError, match="no CUDA device"):
        spcli.run("quickstart", POINTS, device="cuda")


def test_a_device_of_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no device 'gpu'; there are auto, cpu, cuda"):
        spcli.run("quickstart", POINTS, device="gpu")
