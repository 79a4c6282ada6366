"""`spcli stats`: a file, a folder, or a scan."""

from __future__ import annotations

import csv
import io
import json

import pytest


def test_a_file_is_rendered(spcli, results):
    path = results / "scan.stats.json"
    assert spcli("stats", path).record == json.loads(path.read_text())
    rows = list(csv.DictReader(io.StringIO(spcli("stats", path, "--format", "csv").out.decode())))
    assert [row["name"] for row in rows] == ["enter", "down", "up", "join", "leave"]
    table = spcli("stats", path, "--format", "table").out.decode()
    assert "SparseInverseConv3d" in table
    assert "total" in table


def test_a_scan_with_a_configuration_is_computed(spcli, results, scan, config):
    """Besides what a run writes, with what tiles of rows would execute."""
    expected = json.loads((results / "scan.stats.json").read_text())
    record = spcli("stats", scan, "--config", config).record
    assert record.pop("tiles") == {"rows": [16, 32, 64, 128], "splits": [1, 2, 3, 4]}
    for part in (record["totals"], *record["layers"]):
        executed = part.pop("executed_macs")
        assert min(executed["natural"]) >= part["macs"]
    assert record == expected


def test_a_folder_is_summed_up(spcli, folder, config, tmp_path):
    inputs = (folder / "scan.bin", folder / "other.bin")
    spcli("run", "--config", config, *inputs, "-o", tmp_path, "--write", "stats")
    summary = spcli("stats", tmp_path).record
    each = [json.loads((tmp_path / f"{name}.stats.json").read_text()) for name in ("scan", "other")]
    pairs = [one["layers"][0]["pairs"] for one in each]
    assert summary["schema"] == "spcli.stats_summary/1"
    assert summary["scans"] == 2
    spread = summary["layers"][0]["pairs"]
    assert list(spread) == ["mean", "min", "p50", "p95", "max"]
    assert (spread["mean"], spread["min"], spread["max"]) == (sum(pairs) / 2, min(pairs), max(pairs))
    assert spread["p50"] == spread["mean"]
    assert "2 scans, means" in spcli("stats", tmp_path, "--format", "table").out.decode()
    assert spcli("stats", tmp_path, "--format", "csv").code == 0


def test_what_holds_no_statistics_is_told(spcli, folder, tmp_path):
    (tmp_path / "a.json").write_text('{"schema": "something.else/1"}')
    assert spcli("stats", tmp_path / "a.json").code == 4
    assert spcli("stats", tmp_path).code == 4
    assert spcli("stats", tmp_path / "absent").code == 4
    assert spcli("stats", folder / "scan.bin").code == 2


def test_statistics_of_nothing_are_shown_too(spcli, folder, config):
    outcome = spcli("stats", folder / "empty.bin", "--config", config, "--format", "table")
    assert outcome.code == 0
    assert "no active output site" in outcome.err


@pytest.mark.parametrize("command", ["stats", "info"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"pairs": ', '"pairs": NaN, "pairs_": '),
        ('"pairs": ', '"pairs": "many", "pairs_": '),
        ('"totals": ', '"totals": 3, "totals_": '),
        ('"points": ', '"points": [1], "points_": '),
        ('"schema": ', '"deep": ' + "[" * 5000 + "]" * 5000 + ', "schema": '),
    ],
)
def test_damaged_statistics_are_refused_in_one_sentence(spcli, results, tmp_path, command, old, new):
    text = json.dumps(json.loads((results / "scan.stats.json").read_text()))
    assert old in text
    path = tmp_path / "scan.stats.json"
    path.write_text(text.replace(old, new))
    outcome = spcli(command, path, "--format", "json")
    assert (outcome.code, outcome.err.count("\n")) == (4, 1)
