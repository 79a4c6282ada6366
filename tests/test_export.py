"""Active sites as points: places, colours and numbers that can be checked by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest

from spcli.errors import UsageError
from spcli.export import VIRIDIS, layer_cloud, local_density, site_cloud, viridis, write_cloud
from spcli.placement import Placement
from spcli.sparse_tensor import SparseTensor

INDICES = np.array([(0, 0, 0, 0), (0, 0, 0, 1), (0, 5, 6, 7), (1, 0, 0, 0)], np.int32)
TENSOR = SparseTensor(np.arange(8, dtype=np.float32).reshape(4, 2), INDICES, (8, 8, 8), 2)
PLACEMENT = Placement((0.1, 0.2, 0.5), (10, -20, -3), (4, 2, 1))
CHANNELS = ("x", "intensity")


def test_a_site_is_the_centre_of_its_cell_in_float32():
    cloud = site_cloud(TENSOR, PLACEMENT)
    assert cloud.unit == "metres" and cloud.xyz.dtype == np.float32
    assert (cloud.xyz == PLACEMENT.centres(INDICES).astype(np.float32)).all()


def test_without_metres_cells_are_counted():
    cloud = site_cloud(TENSOR)
    assert cloud.unit == "cells" and cloud.xyz[2].tolist() == [7, 6, 5]


def test_density_is_the_active_share_of_the_27_cells_around_a_site_of_its_own_scan():
    assert (local_density(INDICES) * 27).tolist() == pytest.approx([2, 2, 1, 1])
    assert (local_density(INDICES[:, [0, 2, 3]][1:]) * 9).tolist() == pytest.approx([1, 1, 1])
    assert local_density(INDICES[:0]).shape == (0,)


def test_colours_run_from_the_lowest_number_to_the_highest():
    colours, ends = viridis(np.array([2, 4, 3, np.nan], np.float32))
    assert ends == (2, 4) and tuple(colours[0]) == VIRIDIS[0] and tuple(colours[1]) == VIRIDIS[-1]
    assert tuple(colours[3]) == (128, 128, 128)
    assert len({tuple(colour) for colour in viridis(np.ones(5, np.float32))[0].tolist()}) == 1
    assert viridis(np.zeros(0, np.float32))[0].shape == (0, 3)


def test_the_scale_is_that_of_matplotlib():
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib (extra [plot])")
    shares = np.linspace(0, 1, 201)
    theirs = 255 * matplotlib.colormaps["viridis"](shares)[:, :3]
    assert np.abs(viridis(shares.astype(np.float32))[0] - theirs).max() < 5


@pytest.mark.parametrize(
    ("color", "name", "values"),
    [
        ("channel:1", "channel_1", [1, 3, 5, 7]),
        ("channel:intensity", "channel_1", [1, 3, 5, 7]),
        ("points", "points", [4, 3, 2, 1]),
        ("z", "height", [-2, -2, 8, -2]),
    ],
)
def test_sites_carry_the_number_that_colours_them(color, name, values):
    cloud = site_cloud(TENSOR, PLACEMENT, color, np.array([4, 3, 2, 1], np.int32), CHANNELS)
    assert cloud.name == name and cloud.scalar.tolist() == pytest.approx(values) and cloud.rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("color", "said"),
    [
        ("points", "only voxels know"),
        ("channel:2", r"channels 0 to 1 \(x, intensity\)"),
        ("channel:", "there are channels"),
        ("channel:-1", "there are channels"),
        ("red", "density, points, z, channel:K and layer"),
    ],
)
def test_a_colour_that_there_is_not_is_a_usage_error(color, said):
    with pytest.raises(UsageError, match=said):
        site_cloud(TENSOR, PLACEMENT, color, channels=CHANNELS)


def test_what_has_no_sites_in_space_is_a_usage_error():
    pooled = SparseTensor(np.zeros((2, 3), np.float32), np.zeros((2, 1), np.int32), (), 2)
    with pytest.raises(UsageError, match="no active sites in space"):
        site_cloud(pooled)


def test_layers_together_are_told_apart_by_number_and_named_in_the_header():
    cloud = layer_cloud([("a", INDICES, PLACEMENT), ("b", INDICES[:1], PLACEMENT), ("none", INDICES[:0], PLACEMENT)])
    assert cloud.scalar.tolist() == [0, 0, 0, 0, 1] and cloud.rows.tolist() == [0, 1, 2, 3, 0]
    stream = io.BytesIO()
    assert write_cloud(stream, cloud, "scan.bin") == (0, 1)
    assert b"comment layer 1: b, 1 sites\ncomment layer 2: none, 0 sites\n" in stream.getvalue()
    assert len(layer_cloud([]).xyz) == 0
