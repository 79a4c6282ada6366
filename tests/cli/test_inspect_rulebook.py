"""`spcli inspect-rulebook`: the same rules from a dump, a scan and a tensor, in every form and through every filter."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from archives import load


def test_a_rule_is_a_line_with_the_keys_of_the_contract(spcli, dump):
    rule, *_ = spcli("inspect-rulebook", dump, "--limit", 3).lines
    assert list(rule) == ["key", "tap", "offset", "count", "in", "out", "in_site", "out_site"]
    assert (rule["key"], rule["tap"], rule["offset"], rule["count"]) == ("subm1", 0, [-1, -1, -1], 0)


def test_the_lines_are_the_rules_of_the_dump(spcli, dump):
    data = load(dump)
    lines = spcli("inspect-rulebook", dump, "--key", "down").lines
    splits = data["down/pair_splits"]
    assert [line["in"] for line in lines] == data["down/in_rows"].tolist()
    assert [line["out"] for line in lines] == data["down/out_rows"].tolist()
    assert [line["tap"] for line in lines] == np.repeat(np.arange(27), np.diff(splits)).tolist()
    assert [line["count"] for line in lines] == [i - splits[line["tap"]] for i, line in enumerate(lines)]
    assert [line["in_site"] for line in lines] == data["down/in_indices"][data["down/in_rows"]].tolist()
    assert [line["out_site"] for line in lines] == data["down/out_indices"][data["down/out_rows"]].tolist()


def test_a_scan_and_a_tensor_give_the_lines_of_their_dump(spcli, dump, scan, config, tmp_path):
    spcli("voxelize", scan, "--config", config, "-o", tmp_path)
    expected = spcli("inspect-rulebook", dump).out
    assert spcli("inspect-rulebook", scan, "--config", config).out == expected
    assert spcli("inspect-rulebook", tmp_path / "scan.voxels.npz", "--config", config).out == expected


def test_standard_input_may_be_a_dump_or_a_scan(spcli, dump, scan, config):
    expected = spcli("inspect-rulebook", dump, "--limit", 5).out
    assert spcli("inspect-rulebook", "-", "--limit", 5, stdin=dump.read_bytes()).out == expected
    assert spcli("inspect-rulebook", "-", "--limit", 5, "--config", config, stdin=scan.read_bytes()).out == expected


def test_filters_and_limit_never_renumber(spcli, dump):
    everything = spcli("inspect-rulebook", dump, "--key", "subm1").lines
    rule = everything[len(everything) // 3]
    row, site = str(rule["in"]), ",".join(map(str, rule["out_site"]))
    for arguments, kept in (
        (("--tap", rule["tap"]), lambda r: r["tap"] == rule["tap"]),
        (("--offset", ",".join(map(str, rule["offset"]))), lambda r: r["tap"] == rule["tap"]),
        (("--in", row), lambda r: r["in"] == rule["in"]),
        (("--out", site), lambda r: r["out"] == rule["out"]),
        (("--out", site.partition(",")[2]), lambda r: r["out"] == rule["out"]),
        (("--in", row, "--out", site), lambda r: (r["in"], r["out"]) == (rule["in"], rule["out"])),
    ):
        found = spcli("inspect-rulebook", dump, "--key", "subm1", *arguments).lines
        assert found == [line for line in everything if kept(line)]
        assert rule in found
        assert spcli("inspect-rulebook", dump, "--key", "subm1", *arguments, "--limit", 1).lines == found[:1]


def test_csv_has_scalar_columns(spcli, dump):
    lines = spcli("inspect-rulebook", dump, "--limit", 400).lines
    rows = list(
        csv.DictReader(io.StringIO(spcli("inspect-rulebook", dump, "--limit", 400, "--format", "csv").out.decode()))
    )
    assert list(rows[0]) == [
        "key", "tap", "offset_z", "offset_y", "offset_x", "count", "in", "out",
        "in_batch", "in_z", "in_y", "in_x", "out_batch", "out_z", "out_y", "out_x",
    ]  # fmt: skip
    for row, line in zip(rows, lines, strict=True):
        assert row.pop("key") == line["key"]
        flat = [
            line["tap"],
            *line["offset"],
            line["count"],
            line["in"],
            line["out"],
            *line["in_site"],
            *line["out_site"],
        ]
        assert list(map(int, row.values())) == flat


def test_json_is_one_list_of_the_same_objects(spcli, dump):
    listed = json.loads(spcli("inspect-rulebook", dump, "--limit", 700, "--format", "json").out)
    assert listed == spcli("inspect-rulebook", dump, "--limit", 700).lines
    assert json.loads(spcli("inspect-rulebook", dump, "--limit", 0, "--format", "json").out) == []


def test_a_table_is_for_people(spcli, dump):
    header, line = spcli("inspect-rulebook", dump, "--limit", 1, "--format", "table").out.decode().splitlines()
    assert header.split()[:6] == ["key", "tap", "offset", "count", "in", "out"]
    assert line.split()[:4] == ["subm1", "0", "-1,-1,-1", "0"]


def test_the_summary_agrees_with_the_dump(spcli, dump):
    data = load(dump)
    listed = json.loads(spcli("inspect-rulebook", dump, "--summary", "--format", "json").out)
    assert [entry["key"] for entry in listed] == ["subm1", "down"]
    for entry in listed:
        key = entry["key"]
        assert entry["layers"] == data[f"{key}/layers"].tolist()
        assert entry["in_sites"] == len(data[f"{key}/in_indices"])
        assert entry["out_sites"] == len(data[f"{key}/out_indices"])
        assert entry["in_spatial_shape"] == data[f"{key}/in_spatial_shape"].tolist()
        assert entry["out_spatial_shape"] == data[f"{key}/out_spatial_shape"].tolist()
        assert entry["pairs"] == len(data[f"{key}/in_rows"]) == sum(entry["pairs_per_offset"])
        assert entry["pairs_per_offset"] == np.diff(data[f"{key}/pair_splits"]).tolist()
        assert entry["pairs_per_output"]["max"] == np.bincount(data[f"{key}/out_rows"]).max()


def test_the_hash_tables_give_each_site_its_row(spcli, dump):
    data = load(dump)
    entries = spcli("inspect-rulebook", dump, "--key", "down", "--hash-tables").lines
    assert [entry["site"] for entry in entries if entry["table"] == "input"] == data["down/in_indices"].tolist()
    outputs = [entry for entry in entries if entry["table"] == "output"]
    assert [entry["site"] for entry in outputs] == data["down/out_indices"].tolist()
    assert [entry["row"] for entry in outputs] == list(range(len(outputs)))
    rules = [entry for entry in entries if entry["table"] == "rulebook"]
    assert [(rule["v_in"], rule["v_out"]) for rule in rules] == list(
        zip(data["down/in_rows"].tolist(), data["down/out_rows"].tolist(), strict=True)
    )
    assert {entry["schema"] for entry in entries} == {"spcli.hash_table/1"}
    found, *into = spcli("inspect-rulebook", dump, "--key", "down", "--hash-tables", "--out", "3").lines
    assert found == outputs[3]
    assert into == [rule for rule in rules if rule["v_out"] == 3]
    csv_text = spcli("inspect-rulebook", dump, "--hash-tables", "--limit", 1, "--format", "csv").out.decode()
    assert csv_text.splitlines() == [
        "key,table,batch,z,y,x,row,offset_z,offset_y,offset_x,count,v_in,v_out,operation",
        f"subm1,input,{','.join(map(str, data['subm1/in_indices'][0]))},0,,,,,,,",
    ]


def test_2_d_sites_leave_the_cell_of_z_empty_beside_3_d_ones(spcli, tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(
        "version: 1\nlayers:\n"
        "  - {name: a, type: SubMConv3d, out_channels: 2, kernel_size: 1}\n"
        "  - {name: flat, type: HeightCompression}\n"
        "  - {name: b, type: SubMConv2d, out_channels: 2, kernel_size: 1}\n"
    )
    arrays = {
        "indices": np.array([[0, 1, 2, 3]], np.int32),
        "features": np.ones((1, 2), np.float32),
        "spatial_shape": np.array([4, 4, 4]),
    }
    np.savez(tmp_path / "t.npz", **arrays)
    rows = spcli("inspect-rulebook", tmp_path / "t.npz", "--config", path, "--format", "csv").out.decode().splitlines()
    assert rows[1:] == ["a,0,0,0,0,0,0,0,0,1,2,3,0,1,2,3", "b,0,,0,0,0,0,0,0,,2,3,0,,2,3"]
    sites = [line["in_site"] for line in spcli("inspect-rulebook", tmp_path / "t.npz", "--config", path).lines]
    assert sites == [[0, 1, 2, 3], [0, 2, 3]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--key", "subm9"], "there are subm1, down"),
        (["--tap", "27"], "a 3x3x3 kernel has taps 0 to 26"),
        (["--offset", "-2,0,0"], "offsets -1,-1,-1 to 1,1,1"),
        (["--offset", "0,0,0", "--tap", "1"], "no such kernel index"),
        (["--in", "1,2"], "give a row, Z,Y,X or B,Z,Y,X"),
        (["--in", "@1,2"], "is not @X,Y,Z"),
        (["--in", "@1,2,inf"], "must be finite"),
        (["--in", "1,2,3,4,5"], "is not ROW"),
        (["--offset", "a,b,c"], "is not DZ,DY,DX"),
        (["--summary", "--hash-tables"], "give one of them"),
        (["--summary", "-o", "x.csv"], "-o is for rules"),
        (["--summary", "--format", "parquet"], "Parquet is for rules"),
        (["--format", "parquet"], "needs -o FILE"),
        (["-o", "rules.txt"], "ends in .csv, .json, .ndjson or .parquet"),
    ],
)
def test_what_is_not_there_is_exit_2_and_says_what_is(spcli, dump, arguments, words):
    outcome = spcli("inspect-rulebook", dump, *arguments)
    assert (outcome.code, outcome.out) == (2, b"")
    assert words in outcome.err


def test_a_site_without_rules_is_an_empty_answer(spcli, dump):
    outcome = spcli("inspect-rulebook", dump, "--in", "0,0,0,0", "--tap", "0", "--key", "down")
    assert (outcome.code, outcome.out) == (0, b"")
    assert "nothing matches" in outcome.err


def test_a_scan_needs_a_configuration(spcli, scan):
    outcome = spcli("inspect-rulebook", scan)
    assert (outcome.code, outcome.out) == (2, b"")
    assert "--config" in outcome.err


def test_a_damaged_dump_is_exit_4(spcli, dump, tmp_path):
    data = bytearray(dump.read_bytes())
    for name, change in {
        "cut": lambda: data[: len(data) // 2],
        "flipped": lambda: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
        "empty": lambda: b"",
        "text": lambda: b"not a dump",
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(change())
        outcome = spcli("inspect-rulebook", path, "--config", "quickstart")
        assert outcome.code == (0 if name == "empty" else 4), name
        assert "Traceback" not in outcome.err


def test_a_dump_whose_rows_lie_outside_its_sites_is_exit_4(spcli, dump, tmp_path):
    data = load(dump)
    data["down/in_rows"] = data["down/in_rows"] + len(data["down/in_indices"])
    np.savez(tmp_path / "a.npz", **data)
    outcome = spcli("inspect-rulebook", tmp_path / "a.npz")
    assert outcome.code == 4
    assert "down/in_rows" in outcome.err


def test_what_a_scan_loses_and_which_layers_stay_empty_is_said(spcli, scan, config):
    limits = ("--set", "voxelize.max_voxels=5")
    outcome = spcli("inspect-rulebook", scan, "--config", config, *limits, "--summary")
    assert "lie outside the range" in outcome.err
    assert "(max_voxels)" in outcome.err
    empty = spcli("inspect-rulebook", "-", "--config", config, "--summary", stdin=b"")
    assert "the scan has no points" in empty.err
    assert "no active output site" in empty.err


def test_a_dump_that_is_cut_short_is_told(spcli, results, tmp_path):
    path = tmp_path / "cut.rulebooks.npz"
    path.write_bytes((results / "scan.rulebooks.npz").read_bytes()[:900])
    outcome = spcli("inspect-rulebook", path)
    assert outcome.code == 4
    assert "is cut short" in outcome.err


@pytest.mark.parametrize("name", ["in_rows", "out_rows", "in_indices", "out_indices", "pair_splits"])
def test_a_dump_of_float_rules_is_refused(spcli, results, tmp_path, name):
    with np.load(results / "scan.rulebooks.npz") as dump:
        arrays = dict(dump)
    key = f"subm1/{name}"
    arrays[key] = arrays[key].astype(np.float32)
    np.savez(tmp_path / "float.npz", **arrays)
    outcome = spcli("inspect-rulebook", tmp_path / "float.npz")
    assert outcome.code == 4
    assert "not integers" in outcome.err


def test_filters_are_refused_where_no_rules_are_listed(spcli, dump, tmp_path):
    for mode in (("--summary",), ("--plot", tmp_path / "a.png")):
        for option, value in (("--tap", "1"), ("--offset", "0,0,0"), ("--in", "0"), ("--limit", "1")):
            outcome = spcli("inspect-rulebook", dump, "--key", "subm1", *mode, option, value)
            assert (outcome.code, outcome.out) == (2, b"")
            assert f"{option} chooses rules, and {mode[0]} does not list them" in outcome.err
    assert not any(tmp_path.iterdir())


def test_a_picture_is_asked_for_with_plot(spcli, dump):
    for option, value in (("--picture", "kernel"), ("--theme", "dark")):
        outcome = spcli("inspect-rulebook", dump, option, value)
        assert (outcome.code, outcome.out) == (2, b"")
        assert f"{option} belongs to --plot" in outcome.err


def test_rules_go_to_a_file_in_the_format_of_its_suffix(spcli, dump, tmp_path):
    for suffix in ("csv", "json", "ndjson"):
        path = tmp_path / f"rules.{suffix}"
        assert spcli("inspect-rulebook", dump, "-o", path).out == b""
        assert path.read_bytes() == spcli("inspect-rulebook", dump, "--format", suffix).out
    spcli("inspect-rulebook", dump, "--hash-tables", "-o", tmp_path / "tables.csv")
    assert (tmp_path / "tables.csv").read_bytes() == (
        spcli("inspect-rulebook", dump, "--hash-tables", "--format", "csv").out
    )


def test_parquet_holds_the_columns_of_csv(spcli, dump, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (extra [parquet])")
    path = tmp_path / "rules.parquet"
    assert spcli("inspect-rulebook", dump, "-o", path).code == 0
    table = parquet.read_table(path)
    rows = list(csv.DictReader(io.StringIO(spcli("inspect-rulebook", dump, "--format", "csv").out.decode())))
    assert table.column_names == list(rows[0])
    for name in table.column_names:
        assert list(map(str, table[name].to_pylist())) == [row[name] for row in rows]
    piped = spcli("inspect-rulebook", dump, "--format", "parquet", "-o", "-")
    assert piped.out == path.read_bytes()
    empty = tmp_path / "none.parquet"
    spcli("inspect-rulebook", dump, "--limit", 0, "-o", empty)
    assert parquet.read_table(empty).column_names == list(rows[0])


def test_without_pyarrow_the_remedy_is_named(spcli, dump, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    outcome = spcli("inspect-rulebook", dump, "-o", tmp_path / "rules.parquet")
    assert outcome.code == 3
    assert "pip install 'spcli[parquet]'" in outcome.err
    assert not (tmp_path / "rules.parquet").exists()


def test_a_summary_counts_rules_an_output_and_lonely_sites(spcli, dump):
    data = load(dump)
    for entry in spcli("inspect-rulebook", dump, "--summary").lines:
        key = entry["key"]
        fed = np.bincount(data[f"{key}/out_rows"], minlength=len(data[f"{key}/out_indices"]))
        assert entry["schema"] == "spcli.rulebook_summary/1"
        assert entry["pairs_per_output"]["histogram"] == np.bincount(fed).tolist()
        assert entry["pairs_per_output"]["mean"] == pytest.approx(fed.mean())
        assert entry["sites_without_neighbour"] == np.count_nonzero(fed == 1)
        assert entry["inputs_without_rules"] == 0
        assert entry["symmetric"] is (True if key == "subm1" else None)


def test_a_summary_for_people_draws_the_histogram_and_the_offsets(spcli, dump):
    text = spcli("inspect-rulebook", dump, "--summary", "--format", "table").out.decode()
    assert "subm1: rules per output" in text and "down: rules per offset" in text and "####" in text


def test_a_file_that_is_there_is_replaced_only_when_asked(spcli, dump, tmp_path):
    """Least of all the dump that is being read."""
    own = tmp_path / "own.csv"
    own.write_bytes(dump.read_bytes())
    refused = spcli("inspect-rulebook", own, "-o", own)
    assert refused.code == 2 and "own.csv exists; pass --overwrite" in refused.err
    assert own.read_bytes() == dump.read_bytes()
    assert spcli("inspect-rulebook", dump, "--key", "subm1", "-o", own, "--overwrite").code == 0
    assert own.read_text().startswith("key,")
