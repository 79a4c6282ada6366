"""`spcli export`: sites of tensors, scans and layers as .ply."""

from __future__ import annotations

import numpy as np
import pytest

from spcli.errors import DeviceError
from spcli.readers import read


def header(path) -> str:
    return path.read_bytes().partition(b"end_header")[0].decode()


def test_voxels_of_a_scan_and_of_their_file_are_the_same_points(spcli, folder, tmp_path):
    config = ("--config", folder / "tiny.yaml")
    direct = spcli("export", folder / "scan.bin", *config, "-o", tmp_path / "a.ply", "--color", "points")
    assert direct.code == 0 and direct.record["unit"] == "metres" and direct.record["color"] == "points"
    spcli("voxelize", folder / "scan.bin", *config, "-o", tmp_path / "scan.npz")
    stored = spcli("export", tmp_path / "scan.npz", "-o", tmp_path / "b.ply", "--color", "points")
    assert stored.record["sites"] == direct.record["sites"] > 100
    one, other = ((tmp_path / name).read_bytes().partition(b"end_header")[2] for name in ("a.ply", "b.ply"))
    assert one == other
    piped = spcli("export", tmp_path / "scan.npz", "-o", "-", "--color", "points")
    assert piped.out == (tmp_path / "b.ply").read_bytes()


def test_the_points_lie_in_the_cells_of_the_scans_points(spcli, folder, tmp_path):
    spcli("export", folder / "one.bin", "--config", folder / "tiny.yaml", "-o", tmp_path / "a.ply")
    try:
        cloud = read(str(tmp_path / "a.ply")).content
    except DeviceError as reason:
        pytest.skip(f"open3d: {reason}")
    assert cloud.xyz.tolist() == [[1.25, 2.25, 0.25]]
    assert {"density", "row", "r", "g", "b"} <= set(cloud.columns)


def test_a_layer_is_exported_with_its_features_or_without_computing_them(spcli, folder, tmp_path):
    common = (
        "export",
        folder / "scan.bin",
        "--config",
        folder / "tiny.yaml",
        "--layer",
        "down",
        "-o",
        tmp_path / "a.ply",
    )
    dense = spcli(*common)
    assert dense.code == 0 and "weights" not in dense.err
    first = header(tmp_path / "a.ply")
    refused = spcli(*common)
    assert refused.code == 2 and "a.ply exists; pass --overwrite" in refused.err
    features = spcli(*common, "--color", "channel:3", "--overwrite")
    assert features.record["sites"] == dense.record["sites"] and "the weights are random, seed 0" in features.err
    assert "property float channel_3" in header(tmp_path / "a.ply") and "property float density" in first


def test_all_layers_go_into_one_file(spcli, folder, tmp_path):
    done = spcli(
        "export", folder / "scan.bin", "--config", folder / "tiny.yaml", "--color", "layer", "-o", tmp_path / "a.ply"
    )
    assert done.code == 0 and done.record["color_range"] == [0, 1]
    assert "layer 0: input, enter, up, join, leave" in header(tmp_path / "a.ply")
    assert "layer 1: down" in header(tmp_path / "a.ply")


def test_an_empty_scan_gives_an_empty_cloud(spcli, folder, tmp_path):
    done = spcli("export", folder / "empty.bin", "--config", folder / "tiny.yaml", "-o", tmp_path / "a.ply")
    assert done.code == 0 and done.record["sites"] == 0 and "element vertex 0" in header(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("-o", "a.txt"), 2, "written as .ply"),
        (("-o", "a.ply"), 2, "give --config FILE"),
        (("-o", "a.ply", "--layer", "down"), 2, "needs the network"),
        (("-o", "a.ply", "--color", "layer"), 2, "needs the network"),
        (("-o", "a.ply", "--config", "TINY", "--layer", "dwon"), 2, "there are enter, down"),
        (("-o", "a.ply", "--config", "TINY", "--layer", "down", "--color", "points"), 2, "only voxels"),
        (("-o", "a.ply", "--config", "TINY", "--layer", "down", "--color", "layer"), 2, "leave --layer out"),
        (("-o", "a.ply", "--config", "TINY", "--color", "channel:9"), 2, "channels 0 to 3"),
        (("-o", "a.ply", "--config", "TINY", "--layer", "down", "--weights", "a", "--seed", "1"), 2, "one of them"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(spcli, folder, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    given = [folder / "tiny.yaml" if word == "TINY" else word for word in arguments]
    done = spcli("export", folder / "scan.bin", *given)
    assert done.code == code and said in done.err and not done.out and not list(tmp_path.iterdir())


def test_a_foreign_tensor_without_a_voxel_size_is_exported_in_cells(spcli, tmp_path):
    arrays = {"indices": np.array([[0, 1, 2, 3]]), "features": np.ones((1, 2), np.float32), "spatial_shape": [4, 4, 4]}
    np.savez(tmp_path / "foreign.npz", **arrays)
    done = spcli("export", tmp_path / "foreign.npz", "-o", tmp_path / "a.ply", "--color", "channel:1")
    assert done.record["unit"] == "cells" and done.record["color_range"] == [1, 1]
