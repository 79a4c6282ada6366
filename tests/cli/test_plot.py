"""`--plot`: which picture comes from which command, and what is refused before anything is computed."""

from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra [plot])")


def test_a_rulebook_is_drawn_and_recorded_instead_of_listed(spcli, folder, tmp_path):
    common = ("inspect-rulebook", folder / "scan.bin", "--config", folder / "tiny.yaml", "--key", "down")
    done = spcli(*common, "--plot", tmp_path / "a.svg", "--theme", "dark")
    assert done.code == 0
    assert done.record == {
        "schema": "spcli.plot/1", "source": str(folder / "scan.bin"), "key": "down", "picture": "offsets",
        "output": str(tmp_path / "a.svg"),
    }  # fmt: skip
    assert "down: rules by kernel offset · scan.bin" in (tmp_path / "a.svg").read_text()
    near = spcli(*common, "--plot", tmp_path / "b.svg", "--picture", "kernel", "--out", "0")
    assert near.record["picture"] == "kernel" and "out[0] = " in (tmp_path / "b.svg").read_text()


def test_neighbours_of_a_scan_and_of_its_dump_are_in_metres(spcli, folder, tmp_path):
    config = ("--config", folder / "tiny.yaml")
    draw = ("--key", "subm1", "--picture", "neighbours", "--plot", tmp_path / "a.svg")
    assert spcli("inspect-rulebook", folder / "scan.bin", *config, *draw).code == 0
    direct = (tmp_path / "a.svg").read_text()
    spcli("run", folder / "scan.bin", *config, "-o", tmp_path / "out")
    again = ("inspect-rulebook", tmp_path / "out" / "scan.rulebooks.npz", *draw)
    refused = spcli(*again)
    assert refused.code == 2 and "a.svg exists; pass --overwrite" in refused.err
    assert (tmp_path / "a.svg").read_text() == direct
    assert spcli(*again, "--overwrite").code == 0
    dumped = (tmp_path / "a.svg").read_text()
    assert "x (m)" in direct and dumped.replace("scan.rulebooks.npz", "scan.bin") == direct


def test_statistics_are_printed_and_drawn(spcli, folder, tmp_path):
    config = ("--config", folder / "tiny.yaml")
    sites = spcli("stats", folder / "scan.bin", *config, "--plot", tmp_path / "sites.svg", "--format", "json")
    assert json.loads(sites.out)["schema"] == "spcli.stats/1"
    assert "active sites from above, layer by layer · scan.bin" in (tmp_path / "sites.svg").read_text()
    spcli("run", folder / "scan.bin", folder / "other.bin", *config, "-o", tmp_path / "out")
    assert spcli("stats", tmp_path / "out", "--plot", tmp_path / "means.svg").code == 0
    assert "means of 2 scans" in (tmp_path / "means.svg").read_text()
    numbers = spcli("stats", tmp_path / "out" / "scan.stats.json", "--plot", tmp_path / "x.svg", "--picture", "sites")
    assert numbers.code == 2 and "holds numbers only" in numbers.err
    sweep = spcli(
        "stats", folder / "scan.bin", *config, "--sweep", "0.5", "--sweep", "1", "--plot", tmp_path / "sweep.svg"
    )
    assert sweep.code == 0 and "cost against voxel size" in (tmp_path / "sweep.svg").read_text()


def test_one_rulebook_is_drawn_at_a_time(spcli, folder, tmp_path):
    done = spcli(
        "inspect-rulebook", folder / "scan.bin", "--config", folder / "tiny.yaml", "--plot", tmp_path / "a.png"
    )
    assert done.code == 2 and "there are subm1, down; choose with --key" in done.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["inspect-rulebook", "stats"])
def test_a_bad_suffix_or_a_missing_matplotlib_is_said_before_the_scan_is_read(spcli, monkeypatch, command):
    suffix = spcli(command, "no-such-scan.bin", "--plot", "a.gif")
    assert suffix.code == 2 and ".png, .svg or .pdf" in suffix.err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    missing = spcli(command, "no-such-scan.bin", "--plot", "a.png")
    assert missing.code == 3 and "pip install 'spcli[plot]'" in missing.err
