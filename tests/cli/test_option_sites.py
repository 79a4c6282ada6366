"""Sites on the command line: rows, sites and places in metres, whose numbers may be negative."""

from __future__ import annotations

import numpy as np

from archives import load


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


def test_negative_numbers_are_values_and_no_options(spcli, dump):
    for place in ("-1,0,0", "-1", "@-1.5,-20,-3"):
        outcome = spcli("inspect-rulebook", dump, "--key", "subm1", "--in", place)
        assert (outcome.code, outcome.out) == (0, b"")
        assert "nothing matches: " in outcome.err


def test_a_negative_site_is_an_argument_and_no_option(spcli, dump):
    for site in ("-1,0,0", "0,-1,-1,0", "@-1.5,-20,-3"):
        outcome = spcli("explain", dump, "--layer", "down", site)
        assert (outcome.code, outcome.out) == (2, b"")
        assert "is no active output of down; the nearest one is" in outcome.err
    assert "No such option" in spcli("explain", dump, "--layer", "down", "-1").err


def test_metres_need_a_grid(spcli, dump, tmp_path):
    arrays = dict(load(dump))
    arrays["meta"] = np.array("{}")
    np.savez(tmp_path / "plain.npz", **arrays)
    outcome = spcli("inspect-rulebook", tmp_path / "plain.npz", "--in", "@1,2,3")
    assert (outcome.code, outcome.out) == (2, b"")
    assert "does not say where its sites lie in metres" in outcome.err
