"""`spcli info`: every kind of file tells what it is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from archives import load


def test_a_scan_tells_columns_extremes_bounds_and_a_fitting_configuration(spcli, tmp_path):
    from spcli.sample import street_scan

    values = street_scan(0, 9000).values.copy()
    values[0] = 0
    values[1, 3] = np.nan
    values.tofile(tmp_path / "a.bin")
    found = spcli("info", tmp_path / "a.bin").record
    assert (found["schema"], found["kind"], found["points"]) == ("spcli.info/1", "points", len(values))
    assert [column["name"] for column in found["columns"]] == ["x", "y", "z", "intensity"]
    assert found["columns"][3]["nonfinite"] == 1
    assert found["bounds"]["z"] == [float(str(values[:, 2].min())), float(str(values[:, 2].max()))]
    assert found["no_returns"] == 1
    assert found["suggestion"]["preset"] == "second-kitti"
    assert 0.2 < found["suggestion"]["in_range"] < 1
    assert found["bytes"] == values.nbytes


def test_results_tell_what_they_are(spcli, results, folder):
    kinds = {
        results / "scan.features.npz": "tensor",
        results / "scan.rulebooks.npz": "rulebooks",
        results / "scan.stats.json": "statistics",
        folder / "scan.bin": "points",
        folder / "empty.bin": "points",
    }
    for path, kind in kinds.items():
        assert spcli("info", path).record["kind"] == kind
        text = spcli("info", path, "--format", "table")
        assert (text.code, text.out[: len(str(path))]) == (0, str(path).encode())
    features = spcli("info", results / "scan.features.npz").record
    data = load(results / "scan.features.npz")
    assert (features["sites"], features["channels"]) == data["features"].shape
    assert features["meta"]["schema"] == "spcli.features/1"


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_weights_tell_their_shapes(spcli, scan, config, tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    spcli("run", "--config", config, scan, "-o", tmp_path / "out", "--save-weights", path)
    found = spcli("info", path).record
    stats = json.loads((tmp_path / "out" / "scan.stats.json").read_text())
    assert found["kind"] == "weights"
    assert found["shapes"]["enter.weight"] == [8, 3, 3, 3, 4]
    assert found["parameters"] == stats["totals"]["parameters"]


def test_arrays_without_a_meaning_are_listed(spcli, tmp_path):
    np.savez(tmp_path / "a.npz", one=np.zeros((2, 3)), two=np.zeros(4, np.int8))
    found = spcli("info", tmp_path / "a.npz").record
    assert found["arrays"] == {"one": {"dtype": "float64", "shape": [2, 3]}, "two": {"dtype": "int8", "shape": [4]}}


def test_standard_input_is_read_too(spcli, scan):
    assert spcli("info", "-", stdin=scan.read_bytes()).record["points"] == scan.stat().st_size // 16


@pytest.mark.parametrize("content", [b"\x1f\x8b gzip", b"PK\3\4 no archive", b"{ no json", b"\x93NUMPY\1\0"])
def test_what_cannot_be_told_is_exit_4(spcli, tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    outcome = spcli("info", tmp_path / "a")
    assert (outcome.code, outcome.out) == (4, b"")
    assert len(outcome.err.splitlines()) == 1
