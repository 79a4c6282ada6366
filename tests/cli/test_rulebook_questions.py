"""`inspect-rulebook --explain`, `--verify`, places in metres, `diff` and `-o`: answers, formats, exit codes."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import spcli as library
from archives import load
from spcli.config import load_preset, preset_names


@pytest.fixture(scope="module")
def dump(results):
    return results / "scan.rulebooks.npz"


@pytest.fixture(scope="module")
def features(results):
    return load(results / "scan.features.npz")


def damaged(dump, path, name, change):
    arrays = dict(load(dump))
    arrays[name] = change(arrays[name].copy())
    np.savez(path, **arrays)
    return path


# Places in metres.


def test_metres_name_the_site_whose_cell_holds_them(spcli, dump, scan, config):
    """The grid starts at x 0, y -20, z -3 with cells of 0.5 m; a site behind stride 2 spans two of them."""
    rule = spcli("inspect-rulebook", dump, "--key", "down", "--limit", 40).lines[-1]
    for option, end, cell in (("--in", "in", 0.5), ("--out", "out", 1.0)):
        _, z, y, x = rule[f"{end}_site"]
        place = f"@{(x + 0.3) * cell},{-20 + (y + 0.9) * cell},{-3 + (z + 0.1) * cell}"
        by_place = spcli("inspect-rulebook", dump, "--key", "down", option, place).lines
        assert rule in by_place
        assert by_place == spcli("inspect-rulebook", dump, "--key", "down", option, rule[end]).lines
        assert by_place == spcli("inspect-rulebook", scan, "--config", config, "--key", "down", option, place).lines


def test_metres_go_through_the_grid_of_a_voxelized_tensor(spcli, dump, scan, config, tmp_path):
    spcli("voxelize", scan, "--config", config, "-o", tmp_path)
    _, z, y, x = spcli("inspect-rulebook", dump, "--key", "subm1", "--limit", 1).lines[0]["in_site"]
    place = f"@{(x + 0.5) / 2},{-20 + (y + 0.5) / 2},{-3 + (z + 0.5) / 2}"
    found = spcli("inspect-rulebook", tmp_path / "scan.voxels.npz", "--config", config, "--key", "subm1", "--in", place)
    assert found.lines == spcli("inspect-rulebook", dump, "--key", "subm1", "--in", place).lines != []


def test_a_place_without_a_site_names_the_nearest_one(spcli, dump):
    outcome = spcli("inspect-rulebook", dump, "--key", "subm1", "--in", "@-4.5,-100,0.2")
    assert (outcome.code, outcome.out) == (0, b"")
    words = "@-4.5,-100,0.2 is the site 6,-160,-9, which is no active input site of subm1; the nearest one is"
    assert f"nothing matches: {words}" in outcome.err


def test_a_place_beyond_float32_is_refused(spcli, dump):
    for place in ("@1e99,0,0", "@0,-3e38,0"):
        outcome = spcli("inspect-rulebook", dump, "--key", "subm1", "--in", place)
        assert (outcome.code, outcome.out) == (2, b"")
        assert "lies too far away to be in any voxel" in outcome.err


def test_filters_are_refused_where_no_rules_are_listed(spcli, dump, tmp_path):
    for mode in (("--summary",), ("--verify",), ("--plot", tmp_path / "a.png"), ("--explain", "0")):
        for option, value in (("--tap", "1"), ("--offset", "0,0,0"), ("--in", "0"), ("--limit", "1")):
            outcome = spcli("inspect-rulebook", dump, "--key", "subm1", *mode, option, value)
            assert (outcome.code, outcome.out) == (2, b"")
            assert f"{option} chooses rules, and {mode[0]} does not list them" in outcome.err
    assert not any(tmp_path.iterdir())
    outcome = spcli("inspect-rulebook", "diff", dump, dump, "--tap", "1")
    assert (outcome.code, outcome.out) == (2, b"")
    assert "--tap chooses rules, and diff does not list them" in outcome.err


def test_a_picture_is_asked_for_with_plot(spcli, dump):
    for option, value in (("--picture", "kernel"), ("--theme", "dark")):
        outcome = spcli("inspect-rulebook", dump, option, value)
        assert (outcome.code, outcome.out) == (2, b"")
        assert f"{option} belongs to --plot" in outcome.err


def test_negative_numbers_are_values_and_no_options(spcli, dump):
    for place in ("-1,0,0", "-1", "@-1.5,-20,-3"):
        outcome = spcli("inspect-rulebook", dump, "--key", "subm1", "--in", place)
        assert (outcome.code, outcome.out) == (0, b"")
        assert "nothing matches: " in outcome.err


def test_metres_need_a_grid(spcli, dump, tmp_path):
    arrays = dict(load(dump))
    arrays["meta"] = np.array("{}")
    np.savez(tmp_path / "plain.npz", **arrays)
    outcome = spcli("inspect-rulebook", tmp_path / "plain.npz", "--in", "@1,2,3")
    assert (outcome.code, outcome.out) == (2, b"")
    assert "does not say where its sites lie in metres" in outcome.err


# Explanations.


def explained(spcli, *arguments):
    outcome = spcli("-q", "inspect-rulebook", *arguments, "--format", "json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.mark.parametrize("layer", ["enter", "down", "up", "leave"])
def test_the_total_is_the_feature_that_run_writes(spcli, scan, config, tmp_path, layer):
    """A submanifold, a regular and an inverse convolution with batch norm and ReLU, and a Linear layer with none."""
    spcli("run", "--config", config, scan, "-o", tmp_path, "--layer", layer, "--seed", 3)
    name = "scan.features.npz" if layer == "leave" else f"scan.features.{layer}.npz"
    written = load(tmp_path / name)
    for row in np.random.default_rng(1).choice(len(written["features"]), 5, replace=False).tolist():
        site = ",".join(map(str, written["indices"][row]))
        told = explained(spcli, scan, "--config", config, "--layer", layer, "--explain", site, "--seed", 3)
        assert (told["out"], told["out_site"]) == (row, written["indices"][row].tolist())
        np.testing.assert_allclose(told["total"], written["features"][row], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(np.float32(told["feature"]), written["features"][row])
        sums = np.sum([term["contribution"] for term in told["terms"]], axis=0)
        np.testing.assert_allclose(told["steps"][0]["value"], sums, atol=1e-12)


def test_the_terms_are_the_rules_into_the_site(spcli, dump, scan, config):
    into = spcli("inspect-rulebook", dump, "--key", "down", "--out", 20).lines
    told = explained(spcli, scan, "--config", config, "--key", "down", "--layer", "down", "--explain", 20)
    keys = ("tap", "offset", "count", "in", "in_site")
    assert [[term[key] for key in keys] for term in told["terms"]] == [[rule[key] for key in keys] for rule in into]
    inverse = explained(spcli, scan, "--config", config, "--layer", "up", "--explain", 20)
    back = spcli("inspect-rulebook", dump, "--key", "down", "--in", 20).lines
    assert [[term[key] for key in ("tap", "in", "in_site")] for term in inverse["terms"]] == [
        [rule["tap"], rule["out"], rule["out_site"]] for rule in back
    ]


def test_weights_from_a_file_are_used(spcli, scan, config, tmp_path):
    spcli("run", "--config", config, scan, "-o", tmp_path, "--seed", 7, "--save-weights", tmp_path / "w.npz")
    arguments = (scan, "--config", config, "--layer", "down", "--explain", 3)
    assert explained(spcli, *arguments, "--weights", tmp_path / "w.npz") == explained(spcli, *arguments, "--seed", 7)
    assert explained(spcli, *arguments) != explained(spcli, *arguments, "--seed", 7)


NETWORK = """\
version: 1
layers:
  - {name: one, type: SubMConv2d, out_channels: 4, kernel_size: 3, norm: LayerNorm, activation: GELU}
  - {name: pool, type: SparseMaxPool2d, kernel_size: 2, input: one}
  - {name: mean, type: SparseAvgPool2d, kernel_size: 2, input: one}
  - {name: two, type: SubMConv2d, out_channels: 4, kernel_size: 3, norm: {type: BatchNorm1d}, input: one, add: one,
     activation: LeakyReLU}
  - {name: three, type: SubMConv2d, out_channels: 4, kernel_size: 3, norm: LayerNorm, add: two, activation: ReLU}
  - {name: both, type: Concat, inputs: [two, three]}
"""


@pytest.fixture
def small(tmp_path):
    """A 2-D tensor of two scans, and a network with every kind of step."""
    draw = np.random.default_rng(0)
    indices = np.unique(draw.integers(0, (2, 6, 6), (40, 3)), axis=0).astype(np.int32)
    features = draw.normal(size=(len(indices), 4)).astype(np.float32)
    np.savez(tmp_path / "t.npz", indices=indices, features=features, spatial_shape=np.array([6, 6]))
    (tmp_path / "net.yaml").write_text(NETWORK)
    return tmp_path / "t.npz", "--config", tmp_path / "net.yaml"


@pytest.mark.parametrize(
    ("layer", "steps"),
    [
        ("pool", ["max"]),
        ("mean", ["mean"]),
        ("one", ["sum", "bias", "norm", "activation"]),
        ("two", ["sum", "bias", "norm", "add", "activation"]),
        ("three", ["sum", "bias", "norm", "add", "activation"]),
    ],
)
def test_every_step_of_a_layer_is_told(spcli, small, layer, steps):
    for row in range(4):
        told = explained(spcli, *small, "--layer", layer, "--explain", row)
        assert [step["step"] for step in told["steps"]] == steps
        assert told["largest_difference"] < 1e-5
        if "add" in steps:
            assert told["steps"][3]["what"] == {"two": "one", "three": "two"}[layer]


def test_what_cannot_be_explained_says_what_can(spcli, small, dump, scan, config):
    for arguments, words in (
        ((*small, "--layer", "both", "--explain", "0"), "has no rules; there are one, pool, mean, two, three"),
        ((*small, "--layer", "four", "--explain", "0"), "does not exist"),
        ((*small, "--layer", "two", "--explain", "99"), "99 names no output of two; there are rows 0 to"),
        ((*small, "--layer", "two", "--explain", "9,9"), "is no active output of two; the nearest one is"),
        ((*small, "--layer", "two", "--explain", "@1,2,3"), "does not say where its sites lie"),
        ((dump, "--explain", "0"), "say which layer with --layer; there are enter, down, up"),
        ((dump, "--explain", "0", "--layer", "down", "--seed", "1"), "a dump holds no features"),
        ((scan, "--explain", "0"), "give --config FILE"),
        ((scan, "--config", config, "--key", "down", "--explain", "0"), "belongs to several layers"),
    ):
        outcome = spcli("-q", "inspect-rulebook", *arguments)
        assert (outcome.code, outcome.out) == (2, b""), arguments
        assert words in outcome.err, outcome.err


def test_a_site_of_several_scans_needs_its_batch(spcli, small):
    indices = load(small[0])["indices"]
    cells, counts = np.unique(indices[:, 1:], axis=0, return_counts=True)
    y, x = cells[counts == 2][0].tolist()
    outcome = spcli("-q", "inspect-rulebook", *small, "--layer", "two", "--explain", f"{y},{x}")
    assert outcome.code == 2
    assert "put the batch first" in outcome.err
    assert explained(spcli, *small, "--layer", "two", "--explain", f"1,{y},{x}")["out_site"] == [1, y, x]


def test_a_dump_is_explained_in_symbols(spcli, dump):
    outcome = spcli("inspect-rulebook", dump, "--layer", "down", "--explain", "20", "--format", "table")
    rules = spcli("inspect-rulebook", dump, "--key", "down", "--out", 20).lines
    terms = [f"W[{','.join(map(str, rule['offset']))}] · in[{rule['in']}]" for rule in rules]
    assert f"out[20] = {' + '.join(terms)}" in outcome.out.decode()


def test_an_explanation_as_csv_has_a_row_a_term_and_a_row_a_step(spcli, small):
    arguments = ("-q", "inspect-rulebook", *small, "--layer", "two", "--explain", "0", "--format")
    told = json.loads(spcli(*arguments, "json").out)
    rows = list(csv.DictReader(io.StringIO(spcli(*arguments, "csv").out.decode())))
    terms = [row for row in rows if row["step"] == "term"]
    assert [[float(row[f"c{i}"]) for i in range(4)] for row in terms] == [t["contribution"] for t in told["terms"]]
    assert [[float(row[f"f{i}"]) for i in range(4)] for row in terms] == [t["features"] for t in told["terms"]]
    assert [row["step"] for row in rows[len(terms) :]] == ["sum", "bias", "norm", "add", "activation", "feature"]
    assert [float(rows[-2][f"c{i}"]) for i in range(4)] == told["total"]


def test_a_table_shows_the_first_channels_and_the_difference(spcli, scan, config):
    arguments = ("--config", config, "--layer", "down", "--explain", "20", "--format", "table")
    text = spcli("-q", "inspect-rulebook", scan, *arguments).out.decode()
    assert (
        "... (8)" in text and "BatchNorm1d" in text and "The last step and the feature differ by less than 1e-0" in text
    )


def test_100_random_sites_of_a_real_scan_add_up_to_their_features(shared):
    from spcli.pipeline.explain import Explainer

    path = str(shared / "data" / "kitti_000008_front.bin")
    config = load_preset("second-kitti")
    explainer = Explainer(config, library.read(path, config.columns), weights=0)
    written = library.run(config, path, weights=0).features
    rows = np.random.default_rng(0).choice(len(written.features), 100, replace=False)
    for row in rows.tolist():
        told = explainer.explain(row)
        np.testing.assert_allclose(told.total, written.features[row], rtol=0, atol=1e-5)
        assert list(told.out_site) == written.indices[row].tolist()


# Checks.


def test_a_right_dump_passes(spcli, dump):
    outcome = spcli("inspect-rulebook", dump, "--verify")
    assert (outcome.code, outcome.err) == (0, "")
    records = {record["key"]: record for record in outcome.lines}
    assert list(records) == ["subm1", "down"]
    assert all(record["schema"] == "spcli.rulebook_verify/1" and record["ok"] for record in records.values())
    assert records["subm1"]["checks"]["mirror"] is True and records["down"]["checks"]["mirror"] is None
    assert records["down"]["checks"]["inverse"] is True


@pytest.mark.parametrize("preset", preset_names())
def test_every_configuration_passes(spcli, preset, shared, tmp_path):
    """On the points of a real scan, with other columns where the configuration has others."""
    columns = load_preset(preset).columns
    scan = library.read(str(shared / "data" / "kitti_000008_front.bin"), 4).content
    values = np.random.default_rng(0).uniform(0, 1, (len(scan.values), len(columns))).astype(np.float32)
    values[:, :3] = scan.xyz
    np.save(tmp_path / "scan.npy", values)
    outcome = spcli("-q", "inspect-rulebook", tmp_path / "scan.npy", "--preset", preset, "--verify")
    assert outcome.code == 0, outcome.err
    assert all(record["ok"] for record in outcome.lines)


@pytest.mark.parametrize("name", ["kitti_000000_full", "kitti_000008_front", "nuscenes_single_sweep", "ouster_os1_128"])
def test_every_real_scan_passes(spcli, shared, name):
    table = json.loads((shared / "vectors" / "rulebook_counts.json").read_text(encoding="utf-8"))
    golden = next(entry for entry in table if entry["file"] == f"{name}.bin")
    values = {"point_cloud_range": golden["range"], "voxel_size": golden["voxel"], "columns": golden["columns"]}
    sets = [word for key, value in values.items() for word in ("--set", f"voxelize.{key}={value}")]
    arguments = (shared / "data" / golden["file"], "--preset", "second-kitti", *sets)
    outcome = spcli("-q", "inspect-rulebook", *arguments, "--verify")
    assert (outcome.code, len(outcome.lines)) == (0, 8), outcome.err


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("down/in_rows", lambda a: np.where(np.arange(len(a)) == 7, a + 1, a), "down: pair equation: tap 0"),
        ("down/in_rows", lambda a: np.where(np.arange(len(a)) == 7, len(a), a), "down: rows: tap 0"),
        ("subm1/pair_splits", lambda a: a - (np.arange(len(a)) == 3), "subm1: pair equation: tap 3"),
        ("subm1/pair_splits", lambda a: a[:-1], "subm1: splits: there are 27 splits"),
        ("subm1/out_indices", lambda a: a[::-1], "subm1: output table: output row 1 at"),
        ("down/out_spatial_shape", lambda a: a + 1, "down: shapes: the output's shape is"),
        ("down/stride", lambda a: a + 1, "down: shapes"),
        ("down/out_rows", lambda a: a[:-1], "down: splits: there are"),
    ],
)  # fmt: skip
def test_a_broken_dump_is_exit_7_and_names_the_rule(spcli, dump, tmp_path, name, change, words):
    path = damaged(dump, tmp_path / "a.npz", name, change)
    outcome = spcli("inspect-rulebook", path, "--verify")
    assert outcome.code == 7
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert [record["ok"] for record in outcome.lines].count(False) == 1
    assert spcli("inspect-rulebook", path, "--verify", "--format", "table").code == 7


# Differences.


def test_a_dump_and_its_scan_do_not_differ(spcli, dump, scan, config):
    outcome = spcli("-q", "inspect-rulebook", "diff", dump, scan, "--config", config)
    assert (outcome.code, outcome.out, outcome.err) == (0, b"", "")


def test_a_rule_of_one_side_is_exit_7_and_listed(spcli, dump, tmp_path):
    first = spcli("inspect-rulebook", dump, "--key", "down", "--limit", 1).lines[0]
    arrays = dict(load(dump))
    arrays["down/in_rows"], arrays["down/out_rows"] = arrays["down/in_rows"][1:], arrays["down/out_rows"][1:]
    arrays["down/pair_splits"] = np.maximum(arrays["down/pair_splits"] - 1, 0)
    np.savez(tmp_path / "b.npz", **arrays)
    outcome = spcli("inspect-rulebook", "diff", dump, tmp_path / "b.npz")
    assert outcome.code == 7
    assert "differ: 1 rule" in outcome.err
    (line,) = outcome.lines
    assert line["schema"] == "spcli.rulebook_diff/1"
    assert (line["only_in"], line["key"], line["what"], line["tap"]) == ("a", "down", "rule", 0)
    assert (line["offset"], line["in_site"], line["out_site"]) == (first["offset"], first["in_site"], first["out_site"])
    text = spcli("inspect-rulebook", "diff", tmp_path / "b.npz", dump, "--format", "table").out.decode()
    assert text.startswith("> down: rule 0,") and text.endswith("by tap 0 (-1,-1,-1)\n")
    listed = json.loads(spcli("inspect-rulebook", "diff", dump, tmp_path / "b.npz", "--format", "json").out)
    assert listed == [line]
    rows = csv.DictReader(
        io.StringIO(spcli("inspect-rulebook", "diff", dump, tmp_path / "b.npz", "--format", "csv").out.decode())
    )
    assert [row["in_site"] for row in rows] == [",".join(map(str, first["in_site"]))]


def test_a_limit_shortens_the_list_and_not_the_count(spcli, dump, scan, config):
    less = ("--set", "voxelize.max_voxels=900")
    outcome = spcli("-q", "inspect-rulebook", "diff", dump, scan, "--config", config, *less, "--limit", 2)
    assert (outcome.code, len(outcome.lines)) == (7, 2)
    assert "input sites" in outcome.err and "rules" in outcome.err


def test_other_numbers_of_sources_are_a_usage_error(spcli, dump):
    for sources in (
        (dump, dump),
        ("diff", dump),
        ("diff", dump, dump, dump),
        ("diff", "-", "-"),
        ("diff", dump, dump, "--verify"),
        ("diff", dump, dump, "-o", "x.csv"),
    ):
        outcome = spcli("inspect-rulebook", *sources)
        assert (outcome.code, outcome.out) == (2, b"")


# Files.


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


# Summaries.


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
    assert "subm1: rules an output" in text and "down: rules an offset" in text and "####" in text


def test_a_file_that_is_there_is_replaced_only_when_asked(spcli, dump, tmp_path):
    """Least of all the dump that is being read."""
    own = tmp_path / "own.csv"
    own.write_bytes(dump.read_bytes())
    refused = spcli("inspect-rulebook", own, "-o", own)
    assert refused.code == 2 and "own.csv exists; pass --overwrite" in refused.err
    assert own.read_bytes() == dump.read_bytes()
    assert spcli("inspect-rulebook", dump, "--key", "subm1", "-o", own, "--overwrite").code == 0
    assert own.read_text().startswith("key,")
