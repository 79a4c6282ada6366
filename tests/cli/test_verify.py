"""`spcli verify`: what is right passes, and what is broken is named with exit 7."""

from __future__ import annotations

import json

import numpy as np
import pytest

import spcli as library
from archives import load
from spcli.config import load_preset, preset_names


def damaged(dump, path, name, change):
    arrays = dict(load(dump))
    arrays[name] = change(arrays[name].copy())
    np.savez(path, **arrays)
    return path


def test_a_right_dump_passes(spcli, dump):
    outcome = spcli("verify", dump)
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
    outcome = spcli("-q", "verify", tmp_path / "scan.npy", "--preset", preset)
    assert outcome.code == 0, outcome.err
    assert all(record["ok"] for record in outcome.lines)


@pytest.mark.parametrize("name", ["kitti_000000_full", "kitti_000008_front", "nuscenes_single_sweep", "ouster_os1_128"])
def test_every_real_scan_passes(spcli, shared, name):
    table = json.loads((shared / "vectors" / "rulebook_counts.json").read_text(encoding="utf-8"))
    golden = next(entry for entry in table if entry["file"] == f"{name}.bin")
    values = {"point_cloud_range": golden["range"], "voxel_size": golden["voxel"], "columns": golden["columns"]}
    sets = [word for key, value in values.items() for word in ("--set", f"voxelize.{key}={value}")]
    arguments = (shared / "data" / golden["file"], "--preset", "second-kitti", *sets)
    outcome = spcli("-q", "verify", *arguments)
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
    outcome = spcli("verify", path)
    assert outcome.code == 7
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert [record["ok"] for record in outcome.lines].count(False) == 1
    assert spcli("verify", path, "--format", "table").code == 7


def test_a_key_chooses_what_is_checked(spcli, dump, tmp_path):
    path = damaged(dump, tmp_path / "a.npz", "down/stride", lambda a: a + 1)
    outcome = spcli("verify", path, "--key", "subm1")
    assert outcome.code == 0
    assert [record["key"] for record in outcome.lines] == ["subm1"]
    assert spcli("verify", path, "--key", "down").code == 7


def test_a_scan_needs_a_configuration(spcli, scan):
    outcome = spcli("verify", scan)
    assert (outcome.code, outcome.out) == (2, b"")
    assert "give --config FILE" in outcome.err
