"""`spcli config init | show | validate | schema`, and `spcli sample` and `spcli doctor`, which need no scan."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spcli.config import preset_names


@pytest.mark.parametrize("preset", preset_names())
def test_what_init_prints_is_a_configuration(spcli, tmp_path, preset):
    (tmp_path / "net.yaml").write_bytes(spcli("config", "init", "--preset", preset).out)
    assert spcli("config", "show", tmp_path / "net.yaml").out == spcli("config", "show", preset).out
    assert spcli("config", "validate", tmp_path / "net.yaml").record["layers"]


def test_what_show_prints_shows_the_same_again(spcli, config, tmp_path):
    shown = spcli("config", "show", config, "--set", "voxelize.max_points=5")
    (tmp_path / "net.yaml").write_bytes(shown.out)
    assert b"max_points: 5" in shown.out
    assert spcli("config", "show", tmp_path / "net.yaml").out == shown.out


def test_validate_prints_the_chain(spcli, config):
    found = spcli("config", "validate", config).record
    assert (found["schema"], found["in_channels"], found["spatial_shape"]) == ("spcli.network/1", 4, [12, 80, 80])
    assert [layer["out_channels"] for layer in found["layers"]] == [8, 8, 8, 16, 3]
    assert "12 x 80 x 80" in spcli("config", "validate", config, "--format", "table").out.decode()


def test_validate_leaves_open_what_only_a_scan_tells(spcli, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("version: 1\nlayers:\n  - {name: a, type: SubMConv3d, out_channels: 3, kernel_size: 3}\n")
    found = spcli("config", "validate", path).record
    assert (found["in_channels"], found["spatial_shape"], found["layers"][0]["in_channels"]) == (None, None, None)
    assert "the scan's own" in spcli("config", "validate", path, "--format", "table").out.decode()


def test_validate_counts_no_parameters_whose_shapes_only_a_scan_tells(spcli, tmp_path):
    path = tmp_path / "net.yaml"
    layer = "{name: a, type: Linear, out_channels: 3}, {name: b, type: Linear, out_channels: 5}"
    path.write_text(f"version: 1\nlayers: [{layer}]\n")
    found = spcli("config", "validate", path).record
    assert (found["parameters"], [layer["parameters"] for layer in found["layers"]]) == (None, [None, 3 * 5 + 5])
    table = spcli("config", "validate", path, "--format", "table").out.decode().splitlines()
    assert "an unknown number of parameters" in table[0]
    assert next(line for line in table if line.startswith("a ")).split()[-1] == "-"


def test_validate_reports_all_problems_with_their_lines(spcli, config, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(config.read_text().replace("kernel_size: 3", "kernel_size: 4").replace("ReLU", "Relu"))
    outcome = spcli("config", "validate", path)
    assert (outcome.code, outcome.out) == (5, b"")
    assert len(outcome.err.splitlines()) >= 2
    assert all(f"{path}: line " in line for line in outcome.err.splitlines())


def test_a_variable_that_is_no_setting_is_warned_of_once(spcli, scan, config, tmp_path, monkeypatch):
    monkeypatch.setenv("SPCLI_VOXELIZE_MAX_POINTS", "3")
    warning = "spcli: warning: SPCLI_VOXELIZE_MAX_POINTS is no setting and changes nothing; did you mean"
    assert spcli("config", "validate", config).err.count(warning) == 1
    assert spcli("-q", "config", "validate", config).err == ""
    outcome = spcli("voxelize", scan, "--config", config, "--columns", "x,y,z,i", "-o", tmp_path)
    assert (outcome.code, outcome.err.count(warning)) == (0, 1)


def test_the_schema_is_json(spcli):
    schema = json.loads(spcli("config", "schema").out)
    assert {"voxelize", "layers"} <= set(schema["properties"])


def test_a_sample_is_the_same_for_the_same_seed(spcli, tmp_path):
    record = spcli("sample", "-o", tmp_path / "a.bin", "--points", 5000, "--seed", 3).record
    piped = spcli("sample", "-o", "-", "--points", 5000, "--seed", 3)
    assert (tmp_path / "a.bin").read_bytes() == piped.out
    assert record["points"] == len(piped.out) // 16
    spcli("sample", "-o", tmp_path / "a.npy", "--points", 5000, "--seed", 3)
    assert np.load(tmp_path / "a.npy").tobytes() == piped.out
    assert spcli("sample", "-o", tmp_path / "b.bin", "--points", 5000, "--seed", 4).code == 0
    assert (tmp_path / "b.bin").read_bytes() != piped.out


@pytest.mark.parametrize("name", ["a.bin", "a.pcd", "a"])
def test_a_sample_is_not_written_over_a_file_or_in_another_format(spcli, tmp_path, name):
    (tmp_path / "a.bin").write_bytes(b"precious")
    assert spcli("sample", "-o", tmp_path / name).code == 2
    assert (tmp_path / "a.bin").read_bytes() == b"precious"


def test_doctor_finds_a_working_installation(spcli):
    found = spcli("doctor").record
    assert (found["schema"], found["ok"]) == ("spcli.doctor/1", True)
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["self-test: strided convolution"]["ok"] is True
    assert "threads" in checks["CPU engine"]["detail"]
    lines = spcli("doctor", "--format", "table").out.decode().splitlines()
    assert [line.split()[0] for line in lines if "self-test" in line] == ["OK", "OK", "OK"]


def test_doctor_notices_a_wrong_engine(spcli, monkeypatch):
    """A convolution that forgets a tap, and an engine that cannot be loaded."""
    from spcli import doctor
    from spcli.engines import load_engine
    from spcli.errors import DeviceError

    engine = load_engine("cpu")

    class Wrong(type(engine)):
        def convolve(self, *arguments, **options):
            return super().convolve(*arguments, **options) * 1.001

    monkeypatch.setattr(doctor, "load_engine", lambda name: Wrong())
    outcome = spcli("doctor", "--format", "table")
    assert outcome.code == 3
    assert "FAIL  self-test: submanifold convolution: ArithmeticError: outputs differ" in outcome.out.decode()

    def missing(name):
        raise DeviceError("the compiled CPU engine is missing")

    monkeypatch.setattr(doctor, "load_engine", missing)
    broken = spcli("doctor")
    assert (broken.code, broken.record["ok"]) == (3, False)
