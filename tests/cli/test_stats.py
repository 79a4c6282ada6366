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


def test_a_prediction_lacks_what_only_the_rules_tell(spcli, results, scan, config):
    stats = json.loads((results / "scan.stats.json").read_text())
    predicted = spcli("stats", scan, "--config", config, "--predict").record
    assert predicted["totals"] == stats["totals"] and predicted["memory"] == stats["memory"]
    assert "masks" in stats["layers"][0] and "masks" not in predicted["layers"][0]
    table = spcli("stats", scan, "--config", config, "--predict", "--format", "table").out.decode()
    assert "features MB" in table and "exact" in table


def test_a_table_tells_of_tiles_of_the_size_that_is_asked_for(spcli, scan, config):
    executed = spcli("stats", scan, "--config", config).record["layers"][1]
    for place, rows in enumerate((16, 32, 64, 128)):
        table = spcli("stats", scan, "--config", config, "--format", "table", "--tile", rows).out.decode()
        assert f"in tiles of {rows} rows" in table
        (line,) = [line.split() for line in table.partition("in tiles of")[2].splitlines() if line.startswith("down ")]
        natural = executed["executed_macs"]["natural"][place] / executed["macs"]
        assert float(line[4]) == pytest.approx(natural, abs=0.01)


def test_csv_has_a_column_for_each_order_split_and_tile(spcli, scan, config):
    rows = list(csv.DictReader(io.StringIO(spcli("stats", scan, "--config", config, "--format", "csv").out.decode())))
    names = [name for name in rows[0] if name.startswith("executed_macs_")]
    assert len(names) == 4 + 2 * 4 * 4
    assert {"executed_macs_natural_16", "executed_macs_gray_sorted_3_64"} <= set(names)
    assert int(rows[1]["executed_macs_natural_16"]) >= int(rows[1]["macs"])


@pytest.mark.parametrize("more", [[], ["--predict"]], ids=" ".join)
def test_a_folder_of_scans_is_summed_up_and_a_bad_one_does_not_stop_it(spcli, folder, config, tmp_path, more):
    for name in ("scan.bin", "other.bin"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "bad.bin").write_bytes(b"12345")
    outcome = spcli("stats", tmp_path, "--config", config, *more)
    assert outcome.code == 4 and "bad.bin" in outcome.err
    each = [spcli("stats", folder / name, "--config", config).record for name in ("scan.bin", "other.bin")]
    macs = [one["totals"]["macs"] for one in each]
    assert outcome.record["scans"] == 2
    assert outcome.record["totals"]["macs"]["mean"] == sum(macs) / 2
    assert outcome.record["memory"]["peak_bytes"]["max"] == max(one["memory"]["peak_bytes"] for one in each)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "bad.bin").write_bytes(b"12345")
    assert spcli("stats", tmp_path / "empty", "--config", config).code == 4


def test_a_sweep_prints_one_line_per_voxel_size(spcli, scan, config):
    sizes = ("0.5", "0.25,0.25,0.5", "40", "1,1,0.5", "2")
    sweep = ("stats", scan, "--config", config, *(word for size in sizes for word in ("--sweep", size)))
    lines = spcli(*sweep, "--format", "ndjson").lines
    assert [line["voxel_size"] for line in lines] == [[0.5] * 3, [0.25, 0.25, 0.5], [40] * 3, [1, 1, 0.5], [2] * 3]
    assert [line["ok"] for line in lines] == [True, True, False, True, True]
    assert lines[0]["macs"] == spcli("stats", scan, "--config", config, "--predict").record["totals"]["macs"]
    assert json.loads(spcli(*sweep, "--format", "json").out) == lines
    rows = list(csv.DictReader(io.StringIO(spcli(*sweep, "--format", "csv").out.decode())))
    assert [row["ok"] for row in rows] == ["true", "true", "false", "true", "true"]
    assert [row["voxel_x"] for row in rows] == ["0.5", "0.25", "40.0", "1.0", "2.0"]
    assert rows[2]["error"] and not rows[2]["sites"]
    table = spcli(*sweep, "--format", "table").out.decode()
    assert "40 x 40 x 40: " in table


@pytest.mark.parametrize("size", ["0.1,0.1", "0", "a", "0.1x0.1x0.2", "", "-1", "nan", "inf", "0.1,0.1,0", "1;2"])
def test_a_size_that_means_nothing_is_refused(spcli, scan, config, size):
    outcome = spcli("stats", scan, "--config", config, "--sweep", size)
    assert outcome.code == 2 and outcome.out == b""


def test_what_needs_a_network_or_one_scan_says_so(spcli, results, folder, config):
    stats = results / "scan.stats.json"
    assert spcli("stats", stats, "--predict").code == 2
    assert spcli("stats", stats, "--sweep", "1").code == 2
    assert spcli("stats", folder, "--config", config, "--sweep", "1").code == 2
    assert spcli("stats", folder / "scan.bin", "--config", config, "--sweep", "-1,1,1").code == 2


@pytest.mark.parametrize(
    "more", [["--sweep", "0.5", "--sweep", "1"], ["--predict"], []], ids=lambda more: " ".join(more[:1])
)
def test_a_picture_is_drawn_beside_what_is_printed(spcli, scan, config, tmp_path, more):
    pytest.importorskip("matplotlib")
    outcome = spcli("stats", scan, "--config", config, "--plot", tmp_path / "a.svg", *more)
    assert outcome.code == 0 and outcome.out.startswith(b"{")
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")


def test_a_sweep_that_works_nowhere_has_no_picture(spcli, scan, config, tmp_path):
    pytest.importorskip("matplotlib")
    outcome = spcli("stats", scan, "--config", config, "--sweep", "40", "--plot", tmp_path / "a.png")
    assert outcome.code == 2 and not (tmp_path / "a.png").exists()


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
