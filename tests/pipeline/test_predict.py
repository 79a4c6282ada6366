"""Predictions equal what a run then has; sweeps keep all but the voxel size."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spcli.config import load_preset, read_config
from spcli.errors import UsageError
from spcli.pipeline.predict import predict, sweep
from spcli.pipeline.run import run
from spcli.points import PointCloud
from spcli.readers import Scan, StoredTensor
from spcli.sample import street_scan
from spcli.sparse_tensor import SparseTensor

NETWORK = """\
version: 1
voxelize: {voxel_size: [1, 1, 1], point_cloud_range: [0, 0, 0, 8, 8, 4], columns: [x, y, z, intensity]}
layers:
  - {name: a, type: SubMConv3d, out_channels: 2, kernel_size: 3}
  - {name: b, type: SparseConv3d, out_channels: 3, kernel_size: 3, stride: 2}
"""
OF_RULES = ("pairs_per_output_histogram", "masks")


def scan_of(cloud: PointCloud) -> Scan:
    return Scan(cloud, "", "scan.bin")


@pytest.mark.parametrize("preset", ["second-kitti", "minkunet-semantickitti", "quickstart"])
def test_a_prediction_is_what_the_run_then_has(preset):
    """All but what only the rules tell, which a prediction does not list."""
    config, cloud = load_preset(preset), street_scan(1, 3000)
    predicted = predict(config, cloud)
    expected = run(config, cloud)
    stats, after = predicted.stats, expected.stats
    assert not predicted.frame.outputs and not predicted.rulebooks
    for layer, info in zip(after["layers"], expected.network.layers, strict=True):
        if info.key is not None:
            for name in OF_RULES:
                layer.pop(name)
        if info.inverse:
            layer["pairs_per_output"]["max"] = None
    assert stats == after


def test_a_sweep_changes_the_voxel_size_and_keeps_the_range():
    """Points in all eight corners of a cube of 2 m are 8 voxels of 1 m and one of 2 m, shapes halve."""
    corners = np.array([[x, y, z, 0] for x in (0.5, 1.5) for y in (0.5, 1.5) for z in (0.5, 1.5)], np.float32)
    rows = list(sweep(read_config(NETWORK), scan_of(PointCloud(corners, ("x", "y", "z", "intensity"))),
                      [(1, 1, 1), (0.5, 0.5, 1), (2, 2, 2)]))  # fmt: skip
    assert [row["schema"] for row in rows] == ["spcli.sweep/1"] * 3
    assert [row["spatial_shape"] for row in rows[:2]] == [[4, 8, 8], [4, 16, 16]]
    assert [(row["sites"], row["points_in_range"]) for row in rows[:2]] == [(8, 8), (8, 8)]
    # In a 2 x 2 x 2 block every site sees all eight; 1 m away with 0.5 m voxels it sees its neighbour in z alone.
    assert [row["layers"][0]["pairs"] for row in rows[:2]] == [64, 16]
    assert rows[0]["macs"] == 64 * 4 * 2 + rows[0]["layers"][1]["pairs"] * 2 * 3
    json.dumps(rows, allow_nan=False)


def test_a_sweep_takes_a_path_and_an_array_too(tmp_path):
    cloud = street_scan(1, 500)
    cloud.values.tofile(tmp_path / "scan.bin")
    given = (tmp_path / "scan.bin", str(tmp_path / "scan.bin"), cloud, cloud.values)
    found = [list(sweep(read_config(NETWORK), one, [(1, 1, 1)])) for one in given]
    assert all({**rows[0], "source": ""} == {**found[0][0], "source": ""} for rows in found)
    assert found[0][0]["source"] == str(tmp_path / "scan.bin")


def test_what_cannot_work_is_a_row_with_the_reason():
    cloud = PointCloud(np.zeros((1, 4), np.float32), ("x", "y", "z", "intensity"))
    good, flat, fine, grid = sweep(read_config(NETWORK), scan_of(cloud),
                                   [(1, 1, 1), (2, 2, 2), (1, 1, 1.3), (1e-12, 1, 1)])  # fmt: skip
    assert good["ok"] and fine["ok"]
    assert fine["warnings"] == ["voxelize.point_cloud_range is 3.0769 voxels along z; the grid has 3"]
    assert not flat["ok"] and "layers.b" in flat["error"] and "[0, 1, 1]" in flat["error"]
    assert not grid["ok"] and "grid of" in grid["error"]
    assert set(flat) == {"schema", "source", "voxel_size", "ok", "error"}


def test_a_sweep_needs_points_and_a_voxel_size():
    tensor = SparseTensor(np.ones((1, 4), np.float32), np.zeros((1, 4), np.int32), (4, 8, 8), 1)
    with pytest.raises(UsageError, match="voxelized already"):
        list(sweep(read_config(NETWORK), Scan(StoredTensor(tensor), "", "t.npz"), [(1, 1, 1)]))
    with pytest.raises(UsageError, match="no voxelize section"):
        list(sweep(read_config(NETWORK.replace("voxelize:", "# ")), scan_of(street_scan(1, 100)), [(1, 1, 1)]))
