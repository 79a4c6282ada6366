"""`spcli explain`: the sum behind one output, in every format, and what cannot be explained."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import spcli as library
from archives import load
from spcli.config import load_preset


def explained(spcli, *arguments):
    outcome = spcli("-q", "explain", *arguments, "--format", "json")
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
        told = explained(spcli, scan, "--config", config, "--layer", layer, site, "--seed", 3)
        assert (told["out"], told["out_site"]) == (row, written["indices"][row].tolist())
        np.testing.assert_allclose(told["total"], written["features"][row], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(np.float32(told["feature"]), written["features"][row])
        sums = np.sum([term["contribution"] for term in told["terms"]], axis=0)
        np.testing.assert_allclose(told["steps"][0]["value"], sums, atol=1e-12)


def test_the_terms_are_the_rules_into_the_site(spcli, dump, scan, config):
    into = spcli("inspect-rulebook", dump, "--key", "down", "--out", 20).lines
    told = explained(spcli, scan, "--config", config, "--key", "down", "--layer", "down", 20)
    keys = ("tap", "offset", "count", "in", "in_site")
    assert [[term[key] for key in keys] for term in told["terms"]] == [[rule[key] for key in keys] for rule in into]
    inverse = explained(spcli, scan, "--config", config, "--layer", "up", 20)
    back = spcli("inspect-rulebook", dump, "--key", "down", "--in", 20).lines
    assert [[term[key] for key in ("tap", "in", "in_site")] for term in inverse["terms"]] == [
        [rule["tap"], rule["out"], rule["out_site"]] for rule in back
    ]


def test_weights_from_a_file_are_used(spcli, scan, config, tmp_path):
    spcli("run", "--config", config, scan, "-o", tmp_path, "--seed", 7, "--save-weights", tmp_path / "w.npz")
    arguments = (scan, "--config", config, "--layer", "down", 3)
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
        told = explained(spcli, *small, "--layer", layer, row)
        assert [step["step"] for step in told["steps"]] == steps
        assert told["largest_difference"] < 1e-5
        if "add" in steps:
            assert told["steps"][3]["what"] == {"two": "one", "three": "two"}[layer]


def test_what_cannot_be_explained_says_what_can(spcli, small, dump, scan, config):
    for arguments, words in (
        ((*small, "--layer", "both", "0"), "has no rules; there are one, pool, mean, two, three"),
        ((*small, "--layer", "four", "0"), "does not exist"),
        ((*small, "--layer", "two", "99"), "99 names no output of two; there are rows 0 to"),
        ((*small, "--layer", "two", "9,9"), "is no active output of two; the nearest one is"),
        ((*small, "--layer", "two", "@1,2,3"), "does not say where its sites lie"),
        ((dump, "0"), "say which layer with --layer; there are enter, down, up"),
        ((dump, "0", "--layer", "down", "--seed", "1"), "a dump holds no features"),
        ((scan, "0"), "give --config FILE"),
        ((scan, "--config", config, "--key", "down", "0"), "belongs to several layers"),
        ((scan, "--config", config, "0", "--weights", "w", "--seed", "1"), "parameters come from one of them"),
        ((scan, "--config", config), "Missing argument 'SITE'"),
    ):
        outcome = spcli("-q", "explain", *arguments)
        assert (outcome.code, outcome.out) == (2, b""), arguments
        assert words in outcome.err, outcome.err


def test_a_site_of_several_scans_needs_its_batch(spcli, small):
    indices = load(small[0])["indices"]
    cells, counts = np.unique(indices[:, 1:], axis=0, return_counts=True)
    y, x = cells[counts == 2][0].tolist()
    outcome = spcli("-q", "explain", *small, "--layer", "two", f"{y},{x}")
    assert outcome.code == 2
    assert "put the batch first" in outcome.err
    assert explained(spcli, *small, "--layer", "two", f"1,{y},{x}")["out_site"] == [1, y, x]


def test_a_dump_is_explained_in_symbols(spcli, dump):
    outcome = spcli("explain", dump, "--layer", "down", "20", "--format", "table")
    rules = spcli("inspect-rulebook", dump, "--key", "down", "--out", 20).lines
    terms = [f"W[{','.join(map(str, rule['offset']))}] · in[{rule['in']}]" for rule in rules]
    assert f"out[20] = {' + '.join(terms)}" in outcome.out.decode()


def test_an_explanation_as_csv_has_a_row_a_term_and_a_row_a_step(spcli, small):
    arguments = ("-q", "explain", *small, "--layer", "two", "0", "--format")
    told = json.loads(spcli(*arguments, "json").out)
    rows = list(csv.DictReader(io.StringIO(spcli(*arguments, "csv").out.decode())))
    terms = [row for row in rows if row["step"] == "term"]
    assert [[float(row[f"c{i}"]) for i in range(4)] for row in terms] == [t["contribution"] for t in told["terms"]]
    assert [[float(row[f"f{i}"]) for i in range(4)] for row in terms] == [t["features"] for t in told["terms"]]
    assert [row["step"] for row in rows[len(terms) :]] == ["sum", "bias", "norm", "add", "activation", "feature"]
    assert [float(rows[-2][f"c{i}"]) for i in range(4)] == told["total"]


def test_a_table_shows_the_first_channels_and_the_difference(spcli, scan, config):
    arguments = ("--config", config, "--layer", "down", "20", "--format", "table")
    text = spcli("-q", "explain", scan, *arguments).out.decode()
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
