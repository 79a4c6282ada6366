"""`spcli diff`: what only one of two sources has, and exit 7."""

from __future__ import annotations

import csv
import io
import json

import numpy as np

from archives import load


def test_a_dump_and_its_scan_do_not_differ(spcli, dump, scan, config):
    outcome = spcli("-q", "diff", dump, scan, "--config", config)
    assert (outcome.code, outcome.out, outcome.err) == (0, b"", "")


def test_a_rule_of_one_side_is_exit_7_and_listed(spcli, dump, tmp_path):
    first = spcli("inspect-rulebook", dump, "--key", "down", "--limit", 1).lines[0]
    arrays = dict(load(dump))
    arrays["down/in_rows"], arrays["down/out_rows"] = arrays["down/in_rows"][1:], arrays["down/out_rows"][1:]
    arrays["down/pair_splits"] = np.maximum(arrays["down/pair_splits"] - 1, 0)
    np.savez(tmp_path / "b.npz", **arrays)
    outcome = spcli("diff", dump, tmp_path / "b.npz")
    assert outcome.code == 7
    assert "differ: 1 rule" in outcome.err
    (line,) = outcome.lines
    assert line["schema"] == "spcli.rulebook_diff/1"
    assert (line["only_in"], line["key"], line["what"], line["tap"]) == ("a", "down", "rule", 0)
    assert (line["offset"], line["in_site"], line["out_site"]) == (first["offset"], first["in_site"], first["out_site"])
    text = spcli("diff", tmp_path / "b.npz", dump, "--format", "table").out.decode()
    assert text.startswith("> down: rule 0,") and text.endswith("by tap 0 (-1,-1,-1)\n")
    listed = json.loads(spcli("diff", dump, tmp_path / "b.npz", "--format", "json").out)
    assert listed == [line]
    rows = csv.DictReader(io.StringIO(spcli("diff", dump, tmp_path / "b.npz", "--format", "csv").out.decode()))
    assert [row["in_site"] for row in rows] == [",".join(map(str, first["in_site"]))]


def test_a_limit_shortens_the_list_and_not_the_count(spcli, dump, scan, config):
    less = ("--set", "voxelize.max_voxels=900")
    outcome = spcli("-q", "diff", dump, scan, "--config", config, *less, "--limit", 2)
    assert (outcome.code, len(outcome.lines)) == (7, 2)
    assert "input sites" in outcome.err and "rules" in outcome.err


def test_a_key_leaves_the_other_rulebooks_out(spcli, dump, tmp_path):
    arrays = dict(load(dump))
    arrays["down/padding"] = arrays["down/padding"] + 1
    np.savez(tmp_path / "b.npz", **arrays)
    assert spcli("diff", dump, tmp_path / "b.npz").code == 7
    assert spcli("diff", dump, tmp_path / "b.npz", "--key", "subm1").code == 0
    missing = spcli("diff", dump, tmp_path / "b.npz", "--key", "subm9")
    assert missing.code == 2 and "there are subm1, down" in missing.err


def test_other_numbers_of_sources_are_a_usage_error(spcli, dump):
    for sources in ((dump,), (dump, dump, dump), ("-", "-")):
        outcome = spcli("diff", *sources)
        assert (outcome.code, outcome.out) == (2, b"")
    assert spcli("inspect-rulebook", dump, dump).code == 2
