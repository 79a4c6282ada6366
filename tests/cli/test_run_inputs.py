"""`spcli run`: what a scan or a stored tensor may be, and what is said of one that cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest

from archives import load, meta
from spcli.writers import save_npz


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


def test_features_of_features_say_their_stride_in_cells_of_the_first_grid(spcli, plain, tmp_path):
    """`c` strides by 2; its features through the same network stride by 4."""
    source = tensor_file(tmp_path / "t.npz", [[0, 0, 0, 0]], np.ones((1, 2)))
    spcli("run", "--config", plain, source, "-o", tmp_path / "one")
    record = spcli("run", "--config", plain, tmp_path / "one" / "t.features.npz", "-o", tmp_path / "two").record
    assert meta(record["outputs"]["features"])["stride"] == [4, 4, 4]
    assert record["outputs"]["features"].endswith("two/t.features.npz")


@pytest.mark.parametrize("columns", [0, 2, 8])
def test_a_number_of_columns_no_scan_has_is_a_usage_error(spcli, scan, config, tmp_path, columns):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path, "--columns", columns)
    assert outcome.code == 2 and "a scan has 3 to 7" in outcome.err
