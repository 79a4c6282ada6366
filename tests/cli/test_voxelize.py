"""`spcli voxelize`: files, records, and everything that can be wrong with the input."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from archives import load, meta

TENTHS = ("--voxel-size", "0.5,0.5,0.5")
ROOM = (*TENTHS, "--range", "0,0,0,4,3,2", "--columns", "4")


def points(*rows) -> bytes:
    return np.array(rows, np.float32).reshape(-1, 4).tobytes()


def test_a_scan_gives_a_file_and_a_record(spcli, scan, config, tmp_path):
    record = spcli("voxelize", scan, "--config", config, "-o", tmp_path).record
    path = tmp_path / "scan.voxels.npz"
    data = load(path)
    assert record["schema"] == "spcli.voxelize/1"
    assert (record["source"], record["ok"], record["device"]) == (str(scan), True, "cpu")
    assert record["outputs"] == {"voxels": str(path)}
    assert record["voxels"] == len(data["indices"])
    assert data["num_points"].sum() == record["points"]["in_range"]
    points = record["points"]
    assert points["read"] == points["in_range"] + points["nonfinite"] + points["out_of_range"]
    assert list(record["time_s"]) == ["read", "voxelize", "write"]


def test_the_file_holds_what_the_contract_lists(spcli, tmp_path):
    """Two points in one cell, one in another, one beyond the range: rows sorted by z, y, x, means of the points."""
    stdin = points([3.9, 0.1, 1.9, 7], [0.1, 0.1, 0.1, 1], [0.3, 0.2, 0.4, 3], [9, 0, 0, 5])
    outcome = spcli("voxelize", "-", *ROOM, "-o", tmp_path, stdin=stdin)
    data = load(tmp_path / "stdin.voxels.npz")
    assert data["indices"].tolist() == [[0, 0, 0, 0], [0, 3, 0, 7]]
    np.testing.assert_allclose(data["features"], [[0.2, 0.15, 0.25, 2], [3.9, 0.1, 1.9, 7]], rtol=1e-6)
    assert data["num_points"].tolist() == [2, 1]
    assert (data["spatial_shape"].tolist(), int(data["batch_size"])) == ([4, 6, 8], 1)
    description = meta(tmp_path / "stdin.voxels.npz")
    assert description["schema"] == "spcli.voxels/1"
    assert description["axes"] == ["batch", "z", "y", "x"]
    assert description["channels"] == ["x", "y", "z", "intensity"]
    assert description["voxel_size"] == [0.5, 0.5, 0.5]
    assert description["point_cloud_range"] == [0, 0, 0, 4, 3, 2]
    assert "1 of 4 points lie outside the range and are left out" in outcome.err


def test_point_map_and_hard_voxels_are_added_on_request(spcli, tmp_path):
    stdin = points([0.1, 0.1, 0.1, 1], [0.2, 0.2, 0.2, 2], [0.3, 0.3, 0.3, 3], [9, 0, 0, 5], [1, 1, 1, 6])
    arguments = (*ROOM, "--point-map", "--hard", "--max-points", 2, "-o", tmp_path / "a.npz")
    outcome = spcli("voxelize", "-", *arguments, stdin=stdin)
    data = load(tmp_path / "a.npz")
    assert data["point_rows"].tolist() == [0, 0, -1, -1, 1]
    assert data["points"].shape == (2, 2, 4)
    assert data["points"][1].tolist() == [[1, 1, 1, 6], [0, 0, 0, 0]]
    assert outcome.record["points"]["over_max_points"] == 1
    assert "1 points are beyond the first 2 of their voxel (max_points)" in outcome.err


def test_hard_voxels_need_max_points(spcli, scan, tmp_path):
    assert spcli("voxelize", scan, *TENTHS, "--hard", "-o", tmp_path).code == 2


def test_the_voxel_cap_is_counted_and_warned_of(spcli, tmp_path):
    stdin = points([0.1, 0.1, 0.1, 1], [1, 1, 1, 1], [2, 2, 1, 1], [0.2, 0.1, 0.1, 1])
    outcome = spcli("voxelize", "-", *ROOM, "--max-voxels", 2, "-o", tmp_path, stdin=stdin)
    assert outcome.record["voxels"] == 2
    assert outcome.record["points"]["over_max_voxels"] == 1
    assert "1 voxels with 1 points come after the first 2 (max_voxels)" in outcome.err


def test_without_a_range_the_scan_has_its_own(spcli, tmp_path):
    stdin = points([-1.2, 0.1, 0.1, 1], [1.1, 2.2, 0.1, 1])
    spcli("voxelize", "-", *TENTHS, "--columns", 4, "-o", tmp_path, stdin=stdin)
    assert load(tmp_path / "stdin.voxels.npz")["indices"].tolist() == [[0, 0, 0, 0], [0, 0, 4, 5]]
    assert meta(tmp_path / "stdin.voxels.npz")["point_cloud_range"] == [-1.5, 0, 0, 1.5, 2.5, 0.5]


@pytest.mark.parametrize(
    ("stdin", "warning"),
    [
        (b"", "the scan has no points"),
        (points([9, 9, 9, 1]), "no point is in range"),
        (points([np.nan, 0, 0, 1], [0, 0, 0, np.inf]), "2 of 2 points have a non-finite value"),
    ],
    ids=["no points", "none in range", "none finite"],
)
def test_nothing_to_voxelize_gives_an_empty_file_and_a_warning(spcli, tmp_path, stdin, warning):
    outcome = spcli("voxelize", "-", *ROOM, "-o", tmp_path, stdin=stdin)
    assert (outcome.code, outcome.record["voxels"]) == (0, 0)
    assert warning in outcome.err
    data = load(tmp_path / "stdin.voxels.npz")
    assert (data["indices"].shape, data["features"].shape) == ((0, 4), (0, 4))


def test_flags_win_over_set_which_wins_over_the_environment_and_the_file(spcli, scan, config, tmp_path, monkeypatch):
    monkeypatch.setenv("SPCLI_VOXELIZE__MAX_POINTS", "3")
    monkeypatch.setenv("SPCLI_VOXELIZE__MAX_VOXELS", "30")
    monkeypatch.setenv("SPCLI_VOXELIZE__REDUCE", "max")
    sets = ("--set", "voxelize.max_points=4", "--set", "voxelize.max_voxels=40")
    spcli("voxelize", scan, "--config", config, *sets, "--max-points", 5, "-o", tmp_path)
    resolved = (tmp_path / "config.yaml").read_text()
    assert "max_points: 5\n" in resolved
    assert "max_voxels: 40\n" in resolved
    assert "reduce: max\n" in resolved
    assert "voxel_size: [0.5, 0.5, 0.5]\n" in resolved


@pytest.mark.parametrize(
    "arguments",
    [
        ["--voxel-size", "0.1,0.1,0.2"],
        ["--range", "0,-4,-3,7.04,4,-2.5"],
        ["--set", "voxelize.voxel_size=[0.1,0.1,0.2]"],
        ["--set", "voxelize.features=[x,y,z]", "--set", "layers.conv1.stride=0"],
    ],
)
def test_layers_that_do_not_suit_the_voxels_do_not_matter(spcli, scan, tmp_path, arguments):
    assert spcli("voxelize", scan, "--preset", "second-kitti", *arguments, "-o", tmp_path).code == 0
    resolved = (tmp_path / "config.yaml").read_text()
    assert "voxelize:\n" in resolved
    assert "layers:" not in resolved


@pytest.mark.parametrize("told", [["--columns", "3"], ["--set", "voxelize.columns=3"]])
def test_a_number_of_columns_is_an_order_however_it_is_given(spcli, scan, config, tmp_path, told):
    """Names come from a configuration many files share, and are refused where the points say otherwise."""
    path = tmp_path / "scan.bin"
    path.write_bytes(scan.read_bytes()[: 3 * 4 * 4 * 1000])
    outcome = spcli("voxelize", path, "--config", config, *told, "-o", tmp_path / "out")
    assert outcome.code == 0
    assert "read as 3 columns as asked, but its points step like 4 columns" in outcome.err
    assert meta(tmp_path / "out" / "scan.voxels.npz")["channels"] == ["x", "y", "z"]
    named = ("--set", "voxelize.columns=[x,y,z]")
    assert spcli("voxelize", path, "--config", config, *named, "-o", tmp_path / "named").code == 4


def test_layers_in_the_environment_do_not_matter_either(spcli, scan, tmp_path, monkeypatch):
    monkeypatch.setenv("SPCLI_VOXELIZE__VOXEL_SIZE", "[0.1, 0.1, 0.2]")
    monkeypatch.setenv("SPCLI_LAYERS__CONV_INPUT__OUT_CHANNELS", "8")
    assert spcli("voxelize", scan, "--preset", "second-kitti", "-o", tmp_path).code == 0


def test_a_configuration_without_the_section_is_exit_5(spcli, scan, tmp_path):
    (tmp_path / "net.yaml").write_text("version: 1\nlayers: [{name: a, type: Linear, out_channels: 3}]\n")
    outcome = spcli("voxelize", scan, "--config", tmp_path / "net.yaml", "-o", tmp_path / "out")
    assert outcome.code == 5
    assert "voxelize: is missing; add the section, or give --voxel-size" in outcome.err


def test_a_cap_can_be_lifted_with_none(spcli, scan, tmp_path):
    outcome = spcli("voxelize", scan, "--preset", "second-kitti", "--max-points", "none", "-o", tmp_path)
    assert outcome.record["points"]["over_max_points"] == 0


def test_equal_work_gives_equal_bytes(spcli, scan, config, tmp_path):
    for name in ("a", "b"):
        spcli("voxelize", scan, "--config", config, "--point-map", "-o", tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_compressed_files_hold_the_same(spcli, scan, config, tmp_path):
    spcli("voxelize", scan, "--config", config, "-o", tmp_path / "a.npz")
    spcli("voxelize", scan, "--config", config, "--compress", "-o", tmp_path / "b.npz")
    one, other = load(tmp_path / "a.npz"), load(tmp_path / "b.npz")
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert (tmp_path / "b.npz").stat().st_size < (tmp_path / "a.npz").stat().st_size


def test_standard_output_is_exactly_one_npz_and_the_record_goes_to_standard_error(spcli, scan, config):
    outcome = spcli("-q", "voxelize", scan, "--config", config, "-o", "-")
    assert "indices" in load(io.BytesIO(outcome.out))
    assert json.loads(outcome.err)["outputs"] == {"voxels": "-"}


def test_standard_output_takes_one_scan(spcli, folder, config):
    outcome = spcli("voxelize", folder / "scan.bin", folder / "other.bin", "--config", config, "-o", "-")
    assert (outcome.code, outcome.out) == (2, b"")


def test_standard_output_refuses_a_terminal(environment, scan, config):
    import os
    import pty
    import subprocess
    import sys

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "spcli", "voxelize", scan, "--config", config, "-o", "-"]
    done = subprocess.run(command, stdout=follower, stderr=subprocess.PIPE, env=environment)
    os.close(leader)
    os.close(follower)
    assert done.returncode == 2
    assert b"a terminal cannot show" in done.stderr


def test_voxels_are_accepted_wherever_a_scan_is(spcli, scan, config, tmp_path):
    spcli("voxelize", scan, "--config", config, "-o", tmp_path / "a")
    outcome = spcli("voxelize", tmp_path / "a" / "scan.voxels.npz", "--config", config, "-o", tmp_path / "b")
    one, other = (load(tmp_path / name / "scan.voxels.npz") for name in "ab")
    assert outcome.code == 0
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("voxelize.voxel_size=[1,0.5,0.5]", "voxel size is [0.5, 0.5, 0.5], but the configuration's is [1.0, 0.5"),
        ("voxelize.point_cloud_range=[0,-20,-3,20,20,3]", "range is [0.0, -20.0, -3.0, 40.0, 20.0, 3.0]"),
        ("voxelize.spatial_shape_extra=[1,0,0]", "spatial shape is [12, 80, 80], but the configuration's is [13, 80"),
        ("voxelize.features=[x,y,z]", "number of channels is 4, but the configuration's is 3"),
        ("voxelize.features=[x,y,intensity,z]", "channels is ['x', 'y', 'z', 'intensity']"),
    ],
)  # fmt: skip
def test_voxels_made_otherwise_are_exit_4_with_both_values(spcli, scan, config, tmp_path, change, words):
    spcli("voxelize", scan, "--config", config, "-o", tmp_path)
    outcome = spcli("run", tmp_path / "scan.voxels.npz", "--config", config, "--set", change, "-o", tmp_path / "out")
    assert outcome.code == 4
    assert words in outcome.record["error"]["message"]


def test_several_scans_give_a_line_each_in_order(spcli, folder, config, tmp_path):
    outcome = spcli("voxelize", folder, "--config", config, "-o", tmp_path)
    assert [record["source"].rpartition("/")[2] for record in outcome.lines] == [
        "empty.bin", "one.bin", "other.bin", "scan.bin"
    ]  # fmt: skip


def test_one_bad_scan_does_not_stop_the_others(spcli, folder, config, tmp_path):
    (tmp_path / "bad.bin").write_bytes(b"\x93NUMPY, but no more than that")
    inputs = (folder / "scan.bin", tmp_path / "bad.bin", tmp_path / "absent.bin", folder / "other.bin")
    outcome = spcli("voxelize", *inputs, "--config", config, "-o", tmp_path / "out")
    assert outcome.code == 4
    assert [record["ok"] for record in outcome.lines] == [True, False, False, True]
    assert outcome.lines[2]["error"] == {
        "code": 4,
        "message": f"{tmp_path / 'absent.bin'}: no such file; check the path",
    }
    assert "Traceback" not in outcome.err
    stopped = spcli("voxelize", *inputs, "--config", config, "-o", tmp_path / "out2", "--fail-fast")
    assert (stopped.code, [record["ok"] for record in stopped.lines]) == (4, [True, False])


def test_a_batch_with_bad_scans_ends_with_4_whatever_their_own_codes(spcli, folder, tmp_path):
    inputs = (folder / "one.bin", folder / "scan.bin")
    outcome = spcli("voxelize", *inputs, "--columns", 4, "--voxel-size", "1e-9,1,1", "-o", tmp_path)
    assert [record["ok"] for record in outcome.lines] == [True, False]
    assert (outcome.code, outcome.lines[1]["error"]["code"]) == (4, 5)


def test_lists_of_scans_come_from_files_and_from_standard_input(spcli, folder, config, tmp_path):
    paths = [str(folder / "scan.bin"), str(folder / "other.bin")]
    (tmp_path / "list").write_text("\n".join(paths) + "\n")
    for number, (arguments, stdin) in enumerate(
        [
            (("--from-file", tmp_path / "list"), b""),
            (("--from-file", "-"), "\n".join(paths).encode()),
            (("--from-file", "-", "-0"), "\0".join(paths).encode()),
        ]
    ):
        outcome = spcli("voxelize", *arguments, "--config", config, "-o", tmp_path / str(number), stdin=stdin)
        assert [record["source"] for record in outcome.lines] == paths


@pytest.mark.parametrize("arguments", [["-", "-"], ["-", "--from-file", "-"], []])
def test_standard_input_is_read_once_and_never_unasked(spcli, config, tmp_path, arguments):
    outcome = spcli("voxelize", *arguments, "--config", config, "-o", tmp_path, stdin=b"x")
    assert (outcome.code, outcome.out) == (2, b"")


def test_inputs_that_would_write_the_same_file_are_named(spcli, folder, config, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "scan.bin").write_bytes((folder / "scan.bin").read_bytes())
    one, other = tmp_path / "in" / "a" / "scan.bin", tmp_path / "in" / "b" / "scan.bin"
    outcome = spcli("voxelize", one, other, "--config", config, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert f"{one} and {other} would both write" in outcome.err
    assert not (tmp_path / "out").exists()
    assert spcli("voxelize", tmp_path / "in", "--config", config, "-o", tmp_path / "out", "--keep-tree").code == 0
    assert (tmp_path / "out" / "a" / "scan.voxels.npz").exists()
    assert (tmp_path / "out" / "b" / "scan.voxels.npz").exists()


def test_nothing_is_overwritten_unless_asked(spcli, scan, config, tmp_path):
    arguments = ("voxelize", scan, "--config", config, "-o", tmp_path)
    assert spcli(*arguments).code == 0
    before = (tmp_path / "scan.voxels.npz").stat().st_mtime_ns
    refused = spcli(*arguments)
    assert (refused.code, refused.out) == (2, b"")
    assert f"{tmp_path / 'scan.voxels.npz'} exists" in refused.err
    assert (tmp_path / "scan.voxels.npz").stat().st_mtime_ns == before
    assert spcli(*arguments, "--overwrite").code == 0
    assert (tmp_path / "scan.voxels.npz").stat().st_mtime_ns > before


def test_an_input_is_never_its_own_output(spcli, scan, config, tmp_path):
    spcli("voxelize", scan, "--config", config, "-o", tmp_path)
    outcome = spcli("voxelize", tmp_path / "scan.voxels.npz", "--config", config, "-o", tmp_path, "--overwrite")
    assert outcome.code == 2
    assert "is an input and would be overwritten" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan.bin", "-o", "out"],
        ["scan.bin", "-o", "out", "--range", "0,0,0,1,1,1"],
        ["scan.bin", "-o", "out", "--voxel-size", "1,1"],
        ["scan.bin", "-o", "out", "--voxel-size", "1,1,1", "--max-points", "0"],
        ["scan.bin", "-o", "out", "--voxel-size", "1,1,1", "--overwrite", "--skip-existing"],
        ["scan.bin", "-o", "out", "--preset", "second-kitti", "--config", "second-kitti"],
        ["scan.bin", "-o", "out", "--preset", "second-kiti"],
        ["scan.bin", "-o", "out", "--voxel-size", "1,1,1", "--columns", "x,y"],
        ["a.bin", "b.bin", "-o", "out.npz", "--voxel-size", "1,1,1"],
        ["scan.bin", "--voxel-size", "1,1,1"],
        ["scan.bin", "--voxel-size", "1,1,1", "-o", ""],
        ["", "--voxel-size", "1,1,1", "-o", "out"],
        ["scan.bin", "--voxel-size", "1,1,1", "-o", "a.npz", "--skip-existing"],
    ],
)
def test_what_cannot_be_meant_is_exit_2(spcli, arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    outcome = spcli("voxelize", *arguments)
    assert (outcome.code, outcome.out) == (2, b"")
    assert list(tmp_path.iterdir()) == []


def test_one_number_is_the_side_of_a_cube(spcli, scan, tmp_path):
    for name, size in (("a", "0.5"), ("b", "0.5,0.5,0.5")):
        assert spcli("voxelize", scan, "--voxel-size", size, "-o", tmp_path / f"{name}.npz").code == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [["--voxel-size", "0,1,1"], ["--voxel-size", "1,1,1", "--range", "0,0,0,-1,1,1"], ["--voxel-size", "nan,1,1"]],
)
def test_a_grid_that_cannot_be_is_exit_5(spcli, scan, tmp_path, arguments):
    outcome = spcli("voxelize", scan, *arguments, "-o", tmp_path / "out")
    assert (outcome.code, outcome.out) == (5, b"")
    assert not (tmp_path / "out").exists()


def test_a_scan_that_spans_too_many_voxels_is_named(spcli, scan, tmp_path):
    outcome = spcli("voxelize", scan, "--voxel-size", "1e-9,1,1", "-o", tmp_path / "out")
    assert outcome.code == 5
    assert outcome.record["error"]["message"].startswith(f"{scan}: voxelize.voxel_size")
    assert not (tmp_path / "out").exists()


def test_cuda_that_is_not_there_is_exit_3(spcli, scan, config, tmp_path, monkeypatch):
    from spcli.engines import device

    monkeypatch.setattr(device, "ask_driver", lambda: device.CudaDriver(False))
    outcome = spcli("voxelize", scan, "--config", config, "-o", tmp_path / "out", "--device", "cuda")
    assert (outcome.code, outcome.out) == (3, b"")
    assert outcome.err.count("\n") == 1


def test_records_come_as_csv_json_and_table(spcli, folder, config, tmp_path):
    inputs = (folder / "scan.bin", folder / "no.bin")

    def output(form):
        return spcli("voxelize", *inputs, "--config", config, "-o", tmp_path / form, "--format", form).out.decode()

    rows = list(csv.DictReader(io.StringIO(output("csv"))))
    listed = json.loads(output("json"))
    assert [row["ok"] for row in rows] == ["true", "false"]
    assert [record["ok"] for record in listed] == [True, False]
    assert int(rows[0]["points_in_range"]) == listed[0]["points"]["in_range"]
    assert rows[1]["error_code"] == "4"
    assert [line.split()[0] for line in output("table").splitlines()] == ["ok", "yes", "no"]
