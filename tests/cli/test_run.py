"""`spcli run`: results, records, weights, plans, batches, and the edges a user meets."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest

from archives import load, meta
from spcli.config import load_preset, preset_names
from spcli.writers import save_npz

KINDS = ("features", "rulebooks", "stats")
RESULTS = {"scan.features.npz", "scan.rulebooks.npz", "scan.stats.json", "config.yaml", "manifest.jsonl"}


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def tensor_file(path, indices, features=None, shape=(4, 4, 4), **more):
    """A tensor as another program would write it."""
    indices = np.array(indices, np.int32).reshape(-1, 1 + len(shape))
    features = np.ones((len(indices), 2), np.float32) if features is None else np.array(features, np.float32)
    save_npz(str(path), {"indices": indices, "features": features, "spatial_shape": np.array(shape), **more})
    return path


@pytest.fixture
def plain(tmp_path):
    """A network over tensors of any shape: two submanifold layers that share a rulebook, then one that shrinks."""
    path = tmp_path / "plain.yaml"
    path.write_text(
        "version: 1\nlayers:\n"
        "  - {name: a, type: SubMConv3d, out_channels: 3, kernel_size: 3, indice_key: k}\n"
        "  - {name: b, type: SubMConv3d, out_channels: 3, kernel_size: 3, indice_key: k}\n"
        "  - {name: c, type: SparseConv3d, out_channels: 2, kernel_size: 2, stride: 2}\n"
    )
    return path


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


def test_random_weights_are_recorded_and_warned_of_once(spcli, folder, config, tmp_path):
    outcome = spcli("run", "--config", config, folder / "scan.bin", folder / "other.bin", "-o", tmp_path, "--seed", 7)
    assert [record["weights"] for record in outcome.lines] == ["random, seed 7"] * 2
    assert outcome.err.count("random, seed 7") == 1


def test_equal_work_gives_equal_bytes(spcli, scan, config, results, tmp_path):
    spcli("run", "--config", config, scan, "-o", tmp_path, "--threads", 1)
    for name in RESULTS - {"manifest.jsonl"}:
        assert (tmp_path / name).read_bytes() == (results / name).read_bytes(), name


def test_another_seed_gives_other_features_over_the_same_rulebooks(spcli, scan, config, results, tmp_path):
    spcli("run", "--config", config, scan, "-o", tmp_path, "--seed", 1)
    same = {name for name in RESULTS if (tmp_path / name).read_bytes() == (results / name).read_bytes()}
    assert same == {"scan.rulebooks.npz", "scan.stats.json", "config.yaml"}


def test_the_manifest_names_inputs_and_results_by_digest(results, scan):
    import hashlib

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


def test_maps_only_draws_no_weights_and_computes_no_features(spcli, scan, config, results, tmp_path):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path, "--maps-only")
    assert (outcome.code, outcome.record["weights"]) == (0, None)
    assert "random" not in outcome.err
    assert names(tmp_path) == RESULTS - {"scan.features.npz"}
    assert (tmp_path / "scan.rulebooks.npz").read_bytes() == (results / "scan.rulebooks.npz").read_bytes()


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_saved_weights_give_the_same_features_again(spcli, scan, config, results, tmp_path, suffix):
    weights = tmp_path / f"weights.{suffix}"
    spcli("run", "--config", config, scan, "-o", tmp_path / "a", "--save-weights", weights)
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path / "b", "--weights", weights)
    assert len(outcome.record["weights"]) == 64
    assert "random" not in outcome.err
    name = "scan.features.npz"
    assert (tmp_path / "b" / name).read_bytes() == (results / name).read_bytes()


def test_weights_that_do_not_fit_are_exit_6_with_every_difference(spcli, scan, config, tmp_path):
    np.savez(tmp_path / "w.npz", **{"enter.weight": np.zeros((8, 3, 3, 3, 5), np.float32), "extra": np.zeros(1)})
    outcome = spcli("run", "--config", config, scan, "-", "-o", tmp_path / "out", "--weights", tmp_path / "w.npz")
    assert (outcome.code, outcome.out) == (6, b"")
    assert not (tmp_path / "out").exists()
    for word in ("enter.weight", "extra", "leave.weight", "down.norm.running_var"):
        assert word in outcome.err


def test_a_weights_file_that_is_not_there_is_exit_6(spcli, scan, config, tmp_path):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path / "out", "--weights", tmp_path / "no.npz")
    assert (outcome.code, outcome.out) == (6, b"")


def test_a_pipe_of_voxels_gives_what_the_scan_gives(shell, scan, config, results):
    outcome = shell(
        f"cat {scan} | $SPCLI -q voxelize - --config {config} -o - 2>/dev/null"
        f" | $SPCLI -q run --config {config} - -o out | head -1"
    )
    assert outcome.code == 0
    assert outcome.record["ok"]
    # The same rows of the same scan; only the name and digest of the input differ.
    import pathlib

    out = pathlib.Path(outcome.record["outputs"]["features"])
    assert out == pathlib.Path("out/stdin.features.npz")


def test_voxels_give_the_statistics_and_features_of_their_scan(spcli, scan, config, results, tmp_path):
    spcli("voxelize", scan, "--config", config, "-o", tmp_path / "v")
    outcome = spcli("run", "--config", config, tmp_path / "v" / "scan.voxels.npz", "-o", tmp_path / "out")
    assert outcome.code == 0
    assert (tmp_path / "out" / "scan.stats.json").read_bytes() == (results / "scan.stats.json").read_bytes()
    one, other = load(tmp_path / "out" / "scan.features.npz"), load(results / "scan.features.npz")
    assert one["features"].tobytes() == other["features"].tobytes()
    assert meta(tmp_path / "out" / "scan.features.npz")["voxel_size"] == [0.5, 0.5, 0.5]


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


def test_a_batch_the_disk_cannot_hold_is_refused_before_it_begins(spcli, folder, config, tmp_path, monkeypatch):
    from spcli.pipeline import outputs

    monkeypatch.setattr(outputs, "free_bytes", lambda place: 1000)
    outcome = spcli("run", "--config", config, folder, "-o", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, b"")
    assert "GB are free" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_batch_of_more_than_a_gigabyte_is_told(spcli, folder, config, tmp_path, monkeypatch):
    from spcli.cli import inputs

    monkeypatch.setattr(inputs, "GIGABYTE", 1000)
    outcome = spcli("run", "--config", config, folder, "-o", tmp_path / "out", "--write", "features")
    assert outcome.code == 0
    assert "4 scans will take about" in outcome.err


def test_skip_existing_goes_by_digest(spcli, folder, config, tmp_path):
    """What is done again: a changed input, a changed configuration, other weights, a lost file; nothing else."""
    (tmp_path / "in").mkdir()
    for name in ("scan.bin", "other.bin"):
        (tmp_path / "in" / name).write_bytes((folder / name).read_bytes())
    places = (tmp_path / "in", "-o", tmp_path / "out")
    arguments = ("run", "--config", config, *places, "--skip-existing", "--write", "features")

    def skipped(*more) -> list[bool]:
        outcome = spcli(*arguments, *more)
        assert outcome.code == 0
        return [record.get("skipped", False) for record in outcome.lines]

    assert skipped() == [False, False]
    assert skipped() == [True, True]
    (tmp_path / "in" / "other.bin").write_bytes((folder / "scan.bin").read_bytes())
    assert skipped() == [False, True]
    (tmp_path / "out" / "scan.features.npz").unlink()
    assert skipped() == [True, False]
    assert skipped("--seed", 5) == [False, False]
    assert skipped("--set", "layers.enter.out_channels=4") == [False, False]
    assert skipped("--layer", "enter") == [False, False]


def test_existing_results_are_not_overwritten_unless_asked(spcli, scan, config, tmp_path):
    arguments = ("run", "--config", config, scan, "-o", tmp_path)
    assert spcli(*arguments).code == 0
    assert spcli(*arguments).code == 2
    assert spcli(*arguments, "--overwrite").code == 0


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
    from spcli.engines.device import CudaDriver

    monkeypatch.setattr(engines, "ENGINES", {"cpu": "spcli.engines.cpu"})
    for present, devices in ((False, 0), (True, 0), (True, 1)):
        monkeypatch.setattr(device, "ask_driver", lambda p=present, n=devices: CudaDriver(p, n))
        outcome = spcli("run", "--config", config, scan, "-o", tmp_path, "--overwrite")
        assert outcome.record["device"] == "cpu"
        assert ("using the CPU" in outcome.err) == (devices > 0)


def test_points_need_a_voxelize_section(spcli, scan, plain, tmp_path):
    outcome = spcli("run", "--config", plain, scan, "-o", tmp_path / "out")
    assert outcome.code == 5
    assert "voxelize" in outcome.err


def test_a_scan_with_other_columns_is_that_scans_problem(spcli, folder, config, tmp_path):
    from spcli.sample import street_scan

    street_scan(0, 9000).values[:, :3].tofile(tmp_path / "xyz.bin")
    outcome = spcli("run", "--config", config, folder / "scan.bin", tmp_path / "xyz.bin", "-o", tmp_path / "out")
    assert (outcome.code, [record["ok"] for record in outcome.lines]) == (4, [True, False])


def test_columns_are_learnt_from_each_scan_where_nothing_names_them(spcli, config, tmp_path):
    """Scans of three and of four columns through one network without `columns` or `features`."""
    from spcli.sample import street_scan

    values = street_scan(0, 9000).values
    values.tofile(tmp_path / "four.bin")
    np.ascontiguousarray(values[:, :3]).tofile(tmp_path / "three.bin")
    free = tmp_path / "free.yaml"
    free.write_text(config.read_text().replace(", columns: [x, y, z, intensity]", ""))
    inputs = (tmp_path / "four.bin", tmp_path / "three.bin", tmp_path / "four.bin")
    (tmp_path / "again").mkdir()
    outcome = spcli("run", "--config", free, *inputs[:2], "-o", tmp_path / "out")
    assert outcome.code == 0
    stats = [json.loads((tmp_path / "out" / f"{name}.stats.json").read_text()) for name in ("four", "three")]
    assert [one["layers"][0]["in_channels"] for one in stats] == [4, 3]


def test_columns_given_by_flag_name_the_file(spcli, config, tmp_path):
    from spcli.sample import street_scan

    street_scan(0, 9000).values.tofile(tmp_path / "scan.bin")
    outcome = spcli("run", "--config", config, tmp_path / "scan.bin", "-o", tmp_path / "a", "--columns", "x,y,z,r")
    assert outcome.code == 0
    assert "columns: [x, y, z, r]" in (tmp_path / "a" / "config.yaml").read_text()
    wrong = spcli("run", "--config", config, tmp_path / "scan.bin", "-o", tmp_path / "b", "--columns", "x,y,z")
    assert wrong.code == 4


def test_derived_features_are_made_from_the_files_columns(spcli, scan, config, tmp_path):
    features = "voxelize.features=[z, {name: intensity, scale: 255}, {name: dt, value: 2}]"
    spcli("voxelize", scan, "--config", config, "--set", features, "-o", tmp_path)
    spcli("voxelize", scan, "--config", config, "-o", tmp_path / "all")
    data, plain = (load(folder / "scan.voxels.npz")["features"] for folder in (tmp_path, tmp_path / "all"))
    np.testing.assert_allclose(data, np.stack([plain[:, 2], plain[:, 3] / 255, np.full(len(plain), 2)], 1), rtol=1e-5)
    assert meta(tmp_path / "scan.voxels.npz")["channels"] == ["z", "intensity/255", "dt"]


@pytest.mark.parametrize(
    ("stdin", "layers"),
    [(b"", "enter, down, up, join, leave"), (np.float32([99, 0, 0, 1]).tobytes(), "enter, down, up, join, leave")],
    ids=["no points", "none in range"],
)
def test_an_empty_scan_gives_empty_results_and_a_warning_that_names_the_layers(spcli, config, tmp_path, stdin, layers):
    outcome = spcli("run", "--config", config, "-", "-o", tmp_path, "--columns", "4", stdin=stdin)
    assert outcome.code == 0
    assert f"no active output site in layers {layers}" in outcome.err
    data = load(tmp_path / "stdin.features.npz")
    assert (data["indices"].shape, data["features"].shape) == ((0, 4), (0, 3))
    stats = json.loads((tmp_path / "stdin.stats.json").read_text())
    assert stats["totals"]["macs"] == 0


def test_one_voxel_is_enough(spcli, folder, config, tmp_path):
    outcome = spcli("run", "--config", config, folder / "one.bin", "-o", tmp_path, "--columns", "4")
    assert (outcome.code, outcome.record["voxels"]) == (0, 1)
    assert load(tmp_path / "one.features.npz")["features"].shape == (1, 3)


def test_a_layer_whose_output_is_empty_is_named(spcli, plain, tmp_path):
    """A stride-2 window of one cell sees even sites only, and the one site is odd."""
    source = tensor_file(tmp_path / "t.npz", [[0, 1, 1, 1]])
    sets = ("--set", "layers.c.kernel_size=1")
    outcome = spcli("run", "--config", plain, source, "-o", tmp_path / "out", *sets)
    assert outcome.code == 0
    assert "no active output site in layer c" in outcome.err
    assert load(tmp_path / "out" / "t.features.npz")["features"].shape == (0, 2)


def test_a_shape_that_does_not_fit_is_exit_5(spcli, plain, tmp_path):
    source = tensor_file(tmp_path / "t.npz", [[0, 0, 0, 0]], shape=(1, 4, 4))
    outcome = spcli("run", "--config", plain, source, "-o", tmp_path / "out")
    assert outcome.code == 5
    assert "c" in outcome.err


def test_a_shape_of_the_scans_own_that_does_not_fit_is_exit_5(spcli, config, tmp_path):
    """Two points 3 m apart make a grid of 1 x 1 x 7 cells, too low for a window of two cells."""
    free = tmp_path / "free.yaml"
    text = config.read_text().replace("point_cloud_range: [0, -20, -3, 40, 20, 3], ", "")
    free.write_text(text.replace("stride: 2, padding: 1", "stride: 2"))
    stdin = np.float32([[0, 0, 0, 1], [3, 0, 0, 1]]).tobytes()
    outcome = spcli("run", "--config", free, "-", "-o", tmp_path / "out", "--columns", "4", stdin=stdin)
    assert outcome.code == 5
    assert "Traceback" not in outcome.err


def test_unsorted_rows_are_sorted_and_that_is_said(spcli, plain, tmp_path):
    sites = [[0, 3, 3, 3], [0, 0, 1, 2]]
    source = tensor_file(tmp_path / "t.npz", sites, [[1, 2], [3, 4]])
    outcome = spcli("run", "--config", plain, source, "-o", tmp_path / "out", "--layer", "a")
    assert outcome.code == 0
    assert "sorted" in outcome.err
    assert load(tmp_path / "out" / "t.features.a.npz")["indices"].tolist() == [sites[1], sites[0]]


@pytest.mark.parametrize(
    ("sites", "words"),
    [([[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], "row 2 repeats"), ([[0, 0, 0, 0], [0, 4, 0, 0]], "row 1 is at")],
)
def test_sites_that_cannot_be_are_exit_4_with_the_first_row(spcli, plain, tmp_path, sites, words):
    outcome = spcli("run", "--config", plain, tensor_file(tmp_path / "t.npz", sites), "-o", tmp_path / "out")
    assert outcome.code == 4
    assert words in outcome.err


def test_a_batch_of_scans_in_one_tensor(spcli, plain, tmp_path):
    """Two scans with the same site: each gets its own rules and rows."""
    source = tensor_file(tmp_path / "t.npz", [[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 2]], batch_size=np.array(2))
    outcome = spcli("run", "--config", plain, source, "-o", tmp_path / "out", "--layer", "a")
    assert outcome.record["points"] is None
    assert [layer["pairs"] for layer in outcome.record["layers"]] == [5, 5, 3]
    features = load(tmp_path / "out" / "t.features.a.npz")
    assert int(features["batch_size"]) == 2
    stats = json.loads((tmp_path / "out" / "t.stats.json").read_text())
    assert stats["batch_size"] == 2
    assert stats["layers"][0]["dense_macs"] == 2 * 64 * 27 * 2 * 3


def test_tensors_of_several_shapes_share_the_weights(spcli, plain, tmp_path):
    for name, side in (("a", 4), ("b", 6)):
        tensor_file(tmp_path / f"{name}.npz", [[0, 1, 1, 1]], shape=(side,) * 3)
    outcome = spcli("run", "--config", plain, tmp_path / "a.npz", tmp_path / "b.npz", "-o", tmp_path / "out")
    assert outcome.code == 0
    one, other = (load(tmp_path / "out" / f"{name}.features.npz") for name in "ab")
    assert one["features"].tobytes() == other["features"].tobytes()
    assert other["spatial_shape"].tolist() == [3, 3, 3]


def test_dense_output_is_written_as_it_stands(spcli, plain, tmp_path):
    with plain.open("a") as file:
        file.write("  - {name: d, type: ToDense}\n")
    source = tensor_file(tmp_path / "t.npz", [[0, 1, 1, 1]])
    assert spcli("run", "--config", plain, source, "-o", tmp_path / "out").code == 0
    data = load(tmp_path / "out" / "t.features.npz")
    assert data["features"].shape == (1, 2, 2, 2, 2)
    assert meta(tmp_path / "out" / "t.features.npz")["dense"] is True


def test_global_pooling_leaves_a_row_a_scan(spcli, plain, tmp_path):
    with plain.open("a") as file:
        file.write("  - {name: g, type: SparseGlobalMaxPool}\n")
    source = tensor_file(tmp_path / "t.npz", [[0, 1, 1, 1], [1, 0, 0, 0]], batch_size=np.array(3))
    assert spcli("run", "--config", plain, source, "-o", tmp_path / "out").code == 0
    data = load(tmp_path / "out" / "t.features.npz")
    assert (data["indices"].tolist(), data["features"].shape) == ([[0], [1], [2]], (3, 2))
    assert meta(tmp_path / "out" / "t.features.npz")["axes"] == ["batch"]


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


def test_features_of_features_say_their_stride_in_cells_of_the_first_grid(spcli, plain, tmp_path):
    """`c` strides by 2; its features through the same network stride by 4."""
    source = tensor_file(tmp_path / "t.npz", [[0, 0, 0, 0]], np.ones((1, 2)))
    spcli("run", "--config", plain, source, "-o", tmp_path / "one")
    record = spcli("run", "--config", plain, tmp_path / "one" / "t.features.npz", "-o", tmp_path / "two").record
    assert meta(record["outputs"]["features"])["stride"] == [4, 4, 4]
    assert record["outputs"]["features"].endswith("two/t.features.npz")


def test_an_earlier_configuration_stays_beside_the_last_under_its_digest(spcli, scan, config, tmp_path):
    arguments = ("-o", tmp_path, "--skip-existing")
    spcli("run", "--config", config, scan, *arguments, "--maps-only")
    first = (tmp_path / "config.yaml").read_bytes()
    spcli("voxelize", scan, "--voxel-size", "0.5,0.5,0.5", "--range", "0,-20,-3,40,20,3", *arguments)
    spcli("run", "--config", config, scan, *arguments, "--maps-only", "--set", "layers.enter.indice_key=other")
    entries = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    digests = [entry["config_sha256"] for entry in entries]
    assert len(set(digests)) == 3
    kept = [tmp_path / f"config.{digest[:12]}.yaml" for digest in digests[:2]] + [tmp_path / "config.yaml"]
    assert kept[0].read_bytes() == first
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in kept] == digests


def test_skip_existing_trusts_the_last_writer_of_a_file_only(spcli, scan, config, tmp_path):
    arguments = ("run", "--config", config, scan, "-o", tmp_path, "--write", "features", "--skip-existing")
    features = tmp_path / "scan.features.npz"
    assert "skipped" not in spcli(*arguments).record
    first = features.read_bytes()
    assert "skipped" not in spcli(*arguments, "--seed", 1).record
    assert "skipped" not in spcli(*arguments).record
    assert features.read_bytes() == first
    assert spcli(*arguments).record["skipped"]
    features.write_bytes(b"")
    assert "skipped" not in spcli(*arguments).record


def test_fail_fast_begins_no_scan_after_the_bad_one(spcli, scan, config, tmp_path):
    bad = tmp_path / "bad.bin"
    bad.write_bytes(b"123")
    last = tmp_path / "last.bin"
    last.write_bytes(scan.read_bytes())
    outcome = spcli("run", "--config", config, scan, bad, last, "-o", tmp_path / "out", "--fail-fast", "--maps-only")
    assert outcome.code == 4
    assert not (tmp_path / "out" / "last.stats.json").exists()


@pytest.mark.parametrize("columns", [0, 2, 8])
def test_a_number_of_columns_no_scan_has_is_a_usage_error(spcli, scan, config, tmp_path, columns):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path, "--columns", columns)
    assert outcome.code == 2 and "a scan has 3 to 7" in outcome.err


def test_what_a_run_reads_is_not_replaced_by_what_it_writes(spcli, scan, config, tmp_path):
    mine = tmp_path / "config.yaml"
    mine.write_text("# my own words\n" + config.read_text())
    before = mine.read_bytes()
    outcome = spcli("run", "--config", mine, scan, "-o", tmp_path, "--maps-only")
    assert outcome.code == 2 and "config.yaml is read and would be replaced by a result" in outcome.err
    assert mine.read_bytes() == before
    spcli("run", "--config", config, scan, "-o", tmp_path / "out", "--maps-only")
    resolved = tmp_path / "out" / "config.yaml"
    assert spcli("run", "--config", resolved, scan, "-o", tmp_path / "out", "--maps-only", "--overwrite").code == 0
    weights = tmp_path / "w" / "scan.features.npz"
    weights.parent.mkdir()
    spcli("run", "--config", config, scan, "-o", tmp_path / "out2", "--save-weights", weights)
    outcome = spcli("run", "--config", config, scan, "-o", weights.parent, "--weights", weights, "--overwrite")
    assert outcome.code == 2 and "would be replaced by a result" in outcome.err
