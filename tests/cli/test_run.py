"""`spcli run`: results, records, weights, plans, batches, and the edges a user meets."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest

from archives import RESULTS, load, meta, names
from spcli.config import load_preset, preset_names

KINDS = ("features", "rulebooks", "stats")


def test_a_run_writes_features_rulebooks_statistics_configuration_and_manifest(results):
    assert names(results) == RESULTS


def test_its_record_says_what_it_did(spcli, scan, config, tmp_path):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path)
    record = outcome.record
    assert (record["schema"], record["ok"], record["device"]) == ("spcli.run/1", True, "cpu")
    assert record["outputs"] == {
        "features": str(tmp_path / "scan.features.npz"),
        "rulebooks": str(tmp_path / "scan.rulebooks.npz"),
        "stats": str(tmp_path / "scan.stats.json"),
    }
    stats = json.loads((tmp_path / "scan.stats.json").read_text())
    assert record["points"] == stats["points"]
    assert record["voxels"] == stats["voxels"]["active"]
    assert record["layers"] == [
        {"name": layer["name"], "sites": layer["out_sites"], "pairs": layer["pairs"]} for layer in stats["layers"]
    ]
    assert list(record["time_s"]) == ["read", "prepare", "voxelize", "index", "value", "download", "write"]


def test_equal_work_gives_equal_bytes(spcli, scan, config, results, tmp_path):
    spcli("run", "--config", config, scan, "-o", tmp_path, "--threads", 1)
    for name in RESULTS - {"manifest.jsonl"}:
        assert (tmp_path / name).read_bytes() == (results / name).read_bytes(), name


def test_the_manifest_names_inputs_and_results_by_digest(results, scan):

    (entry,) = map(json.loads, (results / "manifest.jsonl").read_text().splitlines())
    assert entry["input_sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert entry["config_sha256"] == hashlib.sha256((results / "config.yaml").read_bytes()).hexdigest()
    assert entry["outputs"] == {kind: f"scan.{kind}.{'json' if kind == 'stats' else 'npz'}" for kind in KINDS}
    assert entry["time_s"]["value"] > 0


def test_the_features_say_where_they_lie(results):
    description = meta(results / "scan.features.npz")
    data = load(results / "scan.features.npz")
    assert data["features"].dtype == np.float32
    assert description["schema"] == "spcli.features/1"
    assert description["channels"] == ["leave.0", "leave.1", "leave.2"]
    assert description["voxel_size"] == [0.5, 0.5, 0.5]
    assert description["point_cloud_range"] == [0, -20, -3, 40, 20, 3]
    assert description["stride"] == [1, 1, 1]
    assert description["source"] == "scan.bin"


def test_the_dump_names_its_keys_in_network_order(results):
    data = load(results / "scan.rulebooks.npz")
    assert data["keys"].tolist() == ["subm1", "down"]
    assert data["down/layers"].tolist() == ["down", "up"]
    assert data["subm1/padding"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_write_names_fewer_results_and_they_are_the_same(spcli, scan, config, results, tmp_path, kind):
    spcli("run", "--config", config, scan, "-o", tmp_path, "--write", kind)
    (name,) = names(tmp_path) - {"config.yaml", "manifest.jsonl"}
    assert (tmp_path / name).read_bytes() == (results / name).read_bytes()


def test_layers_on_request_get_a_file_each(spcli, scan, config, tmp_path):
    arguments = ("--write", "features", "--layer", "down", "--layer", "enter")
    record = spcli("run", "--config", config, scan, "-o", tmp_path, *arguments).record
    assert set(record["outputs"]) == {"features", "features.down", "features.enter"}
    down = load(tmp_path / "scan.features.down.npz")
    assert down["features"].shape[1] == 8
    assert down["spatial_shape"].tolist() == [6, 40, 40]
    assert meta(tmp_path / "scan.features.down.npz")["stride"] == [2, 2, 2]


def test_standard_output_carries_the_features_alone(spcli, scan, config, results):
    outcome = spcli("-q", "run", "--config", config, scan, "-o", "-")
    assert outcome.out == (results / "scan.features.npz").read_bytes()
    assert json.loads(outcome.err)["outputs"] == {"features": "-"}


@pytest.mark.parametrize(
    "more",
    [["--write", "stats"], ["--layer", "enter"], ["--maps-only"], ["--write", "features,rulebooks"]],
    ids=" ".join,
)
def test_standard_output_refuses_anything_else(spcli, scan, config, more):
    outcome = spcli("run", "--config", config, scan, "-o", "-", *more)
    assert (outcome.code, outcome.out) == (2, b"")


def test_a_dry_run_prints_the_shapes_and_the_plan_and_writes_nothing(spcli, scan, config, tmp_path):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path / "out", "--dry-run")
    network, plan = outcome.lines
    assert network["schema"] == "spcli.network/1"
    assert [layer["out_spatial_shape"] for layer in network["layers"]] == [
        [12, 80, 80], [6, 40, 40], [12, 80, 80], [12, 80, 80], [12, 80, 80]
    ]  # fmt: skip
    assert plan["outputs"]["features"] == str(tmp_path / "out" / "scan.features.npz")
    assert plan["bytes"] > 0
    assert not (tmp_path / "out").exists()
    assert "12 x 80 x 80" in spcli("run", "--config", config, scan, "--dry-run", "--format", "table").out.decode()


def test_the_estimate_is_of_the_right_size(spcli, scan, config, results):
    plan = spcli("run", "--config", config, scan, "-o", results, "--dry-run").lines[1]
    written = sum((results / f"scan.{name}").stat().st_size for name in ("features.npz", "rulebooks.npz"))
    assert written / 2 < plan["bytes"] < written * 5


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan.bin", "-o", "out"],
        ["--config", "net.yaml", "scan.bin"],
        ["--config", "second-kitti", "-o", "out"],
        ["--config", "no.yaml", "scan.bin", "-o", "out"],
        ["--config", "second-kitti", "scan.bin", "-o", "out", "--layer", "conv_inputt"],
        ["--config", "second-kitti", "scan.bin", "-o", "out", "--write", "feature"],
        ["--config", "second-kitti", "scan.bin", "-o", "out", "--maps-only", "--write", "features"],
        ["--config", "second-kitti", "scan.bin", "-o", "out", "--seed", "1", "--weights", "w.npz"],
        ["--config", "second-kitti", "scan.bin", "-o", "out", "--seed", "-1"],
        ["--config", "second-kitti", "scan.bin", "-o", "out", "--threads", "0"],
        ["--config", "second-kitti", "scan.bin", "-o", "out", "--maps-only", "--weights", "w.npz"],
        ["--config", "second-kitti", "--preset", "quickstart", "scan.bin", "-o", "out"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_exit_2(spcli, arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome = spcli("run", *arguments)
    assert (outcome.code, outcome.out) == (2, b"")
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_is_exit_5_with_every_problem(spcli, scan, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "version: 1\nlayers:\n  - {name: a, type: SubMConv3d, out_channels: 3, kernel_size: 2}\n"
        "  - {name: b, type: SubMConv3, out_channels: 3, kernel_size: 3}\n"
    )
    outcome = spcli("run", "--config", path, scan, "-o", tmp_path / "out")
    assert (outcome.code, outcome.out) == (5, b"")
    assert len(outcome.err.splitlines()) == 2
    assert "line 3" in outcome.err
    assert "line 4" in outcome.err


def test_other_arithmetic_than_float32_needs_a_gpu(spcli, scan, config, tmp_path):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path / "out", "--dtype", "float16", "--device", "cpu")
    assert (outcome.code, outcome.out) == (3, b"")
    assert not (tmp_path / "out").exists()


def test_auto_falls_back_to_the_cpu_and_says_so_only_where_a_device_is_present(
    spcli, scan, config, tmp_path, monkeypatch
):
    from spcli import engines
    from spcli.engines import device
    from spcli.engines.driver import CudaDriver

    monkeypatch.setattr(engines, "ENGINES", {"cpu": "spcli.engines.cpu"})
    for present, devices in ((False, 0), (True, 0), (True, 1)):
        monkeypatch.setattr(device, "ask_driver", lambda p=present, n=devices: CudaDriver(p, n))
        outcome = spcli("run", "--config", config, scan, "-o", tmp_path, "--overwrite")
        assert outcome.record["device"] == "cpu"
        assert ("using the CPU" in outcome.err) == (devices > 0)


def test_a_huge_grid_needs_no_memory_of_its_size(spcli, tmp_path, config):
    """201 x 40000 x 40000 cells, more than an int32 counts."""
    limits = "voxelize.point_cloud_range=[-200, -200, -10, 200, 200, 10.1]"
    sets = ("--set", "voxelize.voxel_size=[.01, .01, .1]", "--set", limits)
    stdin = np.float32([[-199.9, 199.9, 9, 1], [199.9, -199.9, -9, 1]]).tobytes()
    outcome = spcli("run", "--config", config, "-", "-o", tmp_path, "--columns", "4", *sets, stdin=stdin)
    assert outcome.code == 0
    assert load(tmp_path / "stdin.features.npz")["spatial_shape"].tolist() == [201, 40000, 40000]


@pytest.mark.parametrize("preset", preset_names())
def test_every_shipped_configuration_runs(spcli, tmp_path, preset):
    spec = load_preset(preset).voxelize
    from spcli.sample import street_scan

    values = street_scan(0, 3000).values
    columns = np.zeros((len(values), len(spec.columns)), np.float32)
    columns[:, :4] = values
    np.save(tmp_path / "scan.npy", columns)
    outcome = spcli("run", "--config", preset, tmp_path / "scan.npy", "-o", tmp_path / "out")
    assert (outcome.code, outcome.record["ok"]) == (0, True)
    assert len(load(tmp_path / "out" / "scan.features.npz")["features"]) > 0


def test_the_counts_of_real_scans_are_those_of_the_reference(spcli, shared, tmp_path):
    """`rulebook_counts.json` was computed by an independent program, without caps."""
    for entry in json.loads((shared / "vectors" / "rulebook_counts.json").read_text()):
        sets = [
            f"voxelize.point_cloud_range={entry['range']}",
            f"voxelize.voxel_size={entry['voxel']}",
            "voxelize.max_points=null",
        ]
        if entry["columns"] == 5:
            sets += ["voxelize.columns=[x, y, z, i, ring]", "voxelize.features=[x, y, z, i]"]
        outcome = spcli(
            "run", "--config", "second-kitti", shared / "data" / entry["file"], "-o", tmp_path / entry["file"],
            "--maps-only", "--write", "stats", *(argument for text in sets for argument in ("--set", text)),
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        stats = json.loads(next((tmp_path / entry["file"]).glob("*.stats.json")).read_text())
        assert stats["points"]["in_range"] == entry["in_range"]
        by_key = {layer["indice_key"]: layer for layer in stats["layers"]}
        for layer in entry["layers"]:
            found = by_key[layer["layer"]]
            assert (found["out_sites"], found["pairs"], found["pairs_per_offset"], found["out_spatial_shape"]) == (
                layer["n_out"], layer["pairs"], layer["per_offset"], layer["shape"]
            )  # fmt: skip


def test_a_record_for_people(spcli, scan, config, tmp_path):
    text = spcli("run", "--config", config, scan, "-o", tmp_path, "--format", "table").out.decode()
    assert "random, seed 0" in text
    assert str(tmp_path / "scan.features.npz") in text
    assert "leave" in text


def test_an_npz_from_standard_output_is_readable(spcli, scan, config):
    outcome = spcli("-q", "run", "--config", config, scan, "-o", "-", "--compress")
    assert load(io.BytesIO(outcome.out))["features"].shape[1] == 3
