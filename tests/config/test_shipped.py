"""Every configuration that is shipped runs, and computes what float64 computes over the same rules."""

from __future__ import annotations

import numpy as np
import pytest

import spcli
from benchmarks.common.reference64 import output64, relative_l2
from presets import scan_for
from spcli.config import load_preset, preset_names
from spcli.engines.base import Want
from spcli.pipeline.channels import engine_points
from spcli.points import PointCloud
from spcli.sparse_tensor import SparseTensor
from spcli.weights import fold, initial_parameters

# Relative L2 errors against float64 that the CPU engine promises.
BACKBONE, U_NET = 2e-6, 5e-6
BOUNDS = {"minkunet-semantickitti": U_NET, "spunet-scannet": U_NET}


@pytest.mark.parametrize("name", preset_names())
def test_a_shipped_configuration_agrees_with_float64(name: str) -> None:
    config = load_preset(name, (), {})
    scan = scan_for(config)
    result = spcli.run(config, scan)
    assert config.voxelize is not None
    voxels = spcli.voxelize(scan, config.voxelize)
    folded = fold(result.network, initial_parameters(result.network, 0))
    expected = output64(result.network, folded, result.frame, voxels.tensor)
    assert len(expected) > 100 and np.abs(expected).max() > 1e-3, "a network that dies out proves nothing"
    assert relative_l2(result.features.features, expected) < BOUNDS.get(name, BACKBONE)


@pytest.mark.parametrize("name", preset_names())
def test_a_shipped_configuration_takes_a_scan_without_points(name: str) -> None:
    config = load_preset(name, (), {})
    scan = scan_for(config)
    empty = PointCloud(scan.values[:0], scan.columns, "nothing")
    result = spcli.run(config, empty, want=Want((config.layers[-1].name,), rulebooks=True))
    assert result.features.features.shape[0] == 0 and result.features.features.shape[1] > 0
    assert all(len(book.in_rows) == 0 for book in result.rulebooks.values())


def test_the_points_of_a_scan_reach_the_engine_in_the_configured_order() -> None:
    config = load_preset("centerpoint-waymo", (), {})
    scan = scan_for(config)
    assert config.voxelize is not None
    points = engine_points(scan, config.voxelize)
    chosen = points.values[:, list(points.features)]
    np.testing.assert_array_equal(chosen[:, :3], scan.xyz)
    np.testing.assert_allclose(chosen[:, 3], np.tanh(scan.values[:, 3]), rtol=1e-6)


def test_a_tensor_of_one_site_goes_through_every_level_of_a_u_net() -> None:
    """The spare cells that the configuration asks for keep a small data-dependent grid from running out."""
    config = load_preset("minkunet-semantickitti", (), {})
    one = SparseTensor(np.ones((1, 4), np.float32), np.array([[0, 0, 0, 0]], np.int32), (17, 17, 17))
    result = spcli.run(config, one)
    assert result.frame.sites == (1,) * 5 and np.isfinite(result.features.features).all()
