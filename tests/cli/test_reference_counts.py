"""The command line gives every rule count of four real scans that an independent program found."""

from __future__ import annotations

import json

import pytest

SCANS = ("kitti_000000_full.bin", "kitti_000008_front.bin", "nuscenes_single_sweep.bin", "ouster_os1_128.bin")


@pytest.fixture(params=SCANS)
def golden(request, shared):
    """One scan's entry of rulebook_counts.json."""
    table = json.loads((shared / "vectors" / "rulebook_counts.json").read_text(encoding="utf-8"))
    return next(entry for entry in table if entry["file"] == request.param)


@pytest.fixture
def arguments(golden, shared):
    """The scan, and its range, voxel size and number of columns on top of the network the counts are of."""
    values = {"point_cloud_range": golden["range"], "voxel_size": golden["voxel"], "columns": golden["columns"]}
    sets = [word for key, value in values.items() for word in ("--set", f"voxelize.{key}={value}")]
    return [shared / "data" / golden["file"], "--preset", "second-kitti", *sets]


def test_inspect_rulebook_gives_the_reference_counts(spcli, golden, arguments):
    outcome = spcli("inspect-rulebook", *arguments, "--summary", "--format", "json")
    found = {row["key"]: row for row in json.loads(outcome.out)}
    assert list(found) == [level["layer"] for level in golden["layers"]]
    assert found["subm1"]["in_sites"] == golden["voxels"]
    for level in golden["layers"]:
        row = found[level["layer"]]
        assert (row["out_spatial_shape"], row["out_sites"]) == (level["shape"], level["n_out"])
        assert (row["pairs"], row["pairs_per_offset"]) == (level["pairs"], level["per_offset"])


def test_run_gives_the_reference_counts(spcli, golden, arguments, tmp_path):
    record = spcli("run", *arguments, "--maps-only", "--write", "stats", "-o", tmp_path).record
    assert (record["points"]["read"], record["points"]["in_range"]) == (golden["points"], golden["in_range"])
    assert record["voxels"] == golden["voxels"]
    assert record["max_points_in_a_voxel"] == golden["max_points_in_a_voxel"]
    stats = json.loads(next(tmp_path.glob("*.stats.json")).read_text())
    found = {layer["indice_key"]: layer for layer in stats["layers"]}
    assert list(found) == [level["layer"] for level in golden["layers"]]
    for level in golden["layers"]:
        layer = found[level["layer"]]
        assert (layer["out_spatial_shape"], layer["out_sites"]) == (level["shape"], level["n_out"])
        assert (layer["pairs"], layer["pairs_per_offset"]) == (level["pairs"], level["per_offset"])
