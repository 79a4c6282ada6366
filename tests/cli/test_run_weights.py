"""`spcli run`: weights that are drawn, saved, loaded and refused."""

from __future__ import annotations

import numpy as np
import pytest

from archives import RESULTS, names


def test_random_weights_are_recorded_and_warned_of_once(spcli, folder, config, tmp_path):
    outcome = spcli("run", "--config", config, folder / "scan.bin", folder / "other.bin", "-o", tmp_path, "--seed", 7)
    assert [record["weights"] for record in outcome.lines] == ["random, seed 7"] * 2
    assert outcome.err.count("random, seed 7") == 1


def test_another_seed_gives_other_features_over_the_same_rulebooks(spcli, scan, config, results, tmp_path):
    spcli("run", "--config", config, scan, "-o", tmp_path, "--seed", 1)
    same = {name for name in RESULTS if (tmp_path / name).read_bytes() == (results / name).read_bytes()}
    assert same == {"scan.rulebooks.npz", "scan.stats.json", "config.yaml"}


def test_maps_only_draws_no_weights_and_computes_no_features(spcli, scan, config, results, tmp_path):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path, "--maps-only")
    assert (outcome.code, outcome.record["weights"]) == (0, None)
    assert "random" not in outcome.err
    assert names(tmp_path) == RESULTS - {"scan.features.npz"}
    assert (tmp_path / "scan.rulebooks.npz").read_bytes() == (results / "scan.rulebooks.npz").read_bytes()


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_saved_weights_give_the_same_features_again(spcli, scan, config, results, tmp_path, suffix):
    weights = tmp_path / f"weights.{suffix}"
    spcli("run", "--config", config, scan, "-o", tmp_path / "a", "--save-weights", weights)
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path / "b", "--weights", weights)
    assert len(outcome.record["weights"]) == 64
    assert "random" not in outcome.err
    name = "scan.features.npz"
    assert (tmp_path / "b" / name).read_bytes() == (results / name).read_bytes()


def test_weights_that_do_not_fit_are_exit_6_with_every_difference(spcli, scan, config, tmp_path):
    np.savez(tmp_path / "w.npz", **{"enter.weight": np.zeros((8, 3, 3, 3, 5), np.float32), "extra": np.zeros(1)})
    outcome = spcli("run", "--config", config, scan, "-", "-o", tmp_path / "out", "--weights", tmp_path / "w.npz")
    assert (outcome.code, outcome.out) == (6, b"")
    assert not (tmp_path / "out").exists()
    for word in ("enter.weight", "extra", "leave.weight", "down.norm.running_var"):
        assert word in outcome.err


def test_a_weights_file_that_is_not_there_is_exit_6(spcli, scan, config, tmp_path):
    outcome = spcli("run", "--config", config, scan, "-o", tmp_path / "out", "--weights", tmp_path / "no.npz")
    assert (outcome.code, outcome.out) == (6, b"")
