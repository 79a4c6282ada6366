"""`spcli run` on several scans and over earlier results: what is skipped, kept, refused."""

from __future__ import annotations

import hashlib
import json


def test_a_batch_the_disk_cannot_hold_is_refused_before_it_begins(spcli, folder, config, tmp_path, monkeypatch):
    from spcli.pipeline import outputs

    monkeypatch.setattr(outputs, "free_bytes", lambda place: 1000)
    outcome = spcli("run", "--config", config, folder, "-o", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, b"")
    assert "GB are free" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_batch_of_more_than_a_gigabyte_is_told(spcli, folder, config, tmp_path, monkeypatch):
    from spcli.cli import inputs

    monkeypatch.setattr(inputs, "GIGABYTE", 1000)
    outcome = spcli("run", "--config", config, folder, "-o", tmp_path / "out", "--write", "features")
    assert outcome.code == 0
    assert "4 scans will take about" in outcome.err


def test_skip_existing_goes_by_digest(spcli, folder, config, tmp_path):
    """What is done again: a changed input, a changed configuration, other weights, a lost file; nothing else."""
    (tmp_path / "in").mkdir()
    for name in ("scan.bin", "other.bin"):
        (tmp_path / "in" / name).write_bytes((folder / name).read_bytes())
    places = (tmp_path / "in", "-o", tmp_path / "out")
    arguments = ("run", "--config", config, *places, "--skip-existing", "--write", "features")

    def skipped(*more) -> list[bool]:
        outcome = spcli(*arguments, *more)
        assert outcome.code == 0
        return [record.get("skipped", False) for record in outcome.lines]

    assert skipped() == [False, False]
    assert skipped() == [True, True]
    (tmp_path / "in" / "other.bin").write_bytes((folder / "scan.bin").read_bytes())
    assert skipped() == [False, True]
    (tmp_path / "out" / "scan.features.npz").unlink()
    assert skipped() == [True, False]
    assert skipped("--seed", 5) == [False, False]
    assert skipped("--set", "layers.enter.out_channels=4") == [False, False]
    assert skipped("--layer", "enter") == [False, False]


def test_existing_results_are_not_overwritten_unless_asked(spcli, scan, config, tmp_path):
    arguments = ("run", "--config", config, scan, "-o", tmp_path)
    assert spcli(*arguments).code == 0
    assert spcli(*arguments).code == 2
    assert spcli(*arguments, "--overwrite").code == 0


def test_an_earlier_configuration_stays_beside_the_last_under_its_digest(spcli, scan, config, tmp_path):
    arguments = ("-o", tmp_path, "--skip-existing")
    spcli("run", "--config", config, scan, *arguments, "--maps-only")
    first = (tmp_path / "config.yaml").read_bytes()
    spcli("voxelize", scan, "--voxel-size", "0.5,0.5,0.5", "--range", "0,-20,-3,40,20,3", *arguments)
    spcli("run", "--config", config, scan, *arguments, "--maps-only", "--set", "layers.enter.indice_key=other")
    entries = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    digests = [entry["config_sha256"] for entry in entries]
    assert len(set(digests)) == 3
    kept = [tmp_path / f"config.{digest[:12]}.yaml" for digest in digests[:2]] + [tmp_path / "config.yaml"]
    assert kept[0].read_bytes() == first
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in kept] == digests


def test_skip_existing_trusts_the_last_writer_of_a_file_only(spcli, scan, config, tmp_path):
    arguments = ("run", "--config", config, scan, "-o", tmp_path, "--write", "features", "--skip-existing")
    features = tmp_path / "scan.features.npz"
    assert "skipped" not in spcli(*arguments).record
    first = features.read_bytes()
    assert "skipped" not in spcli(*arguments, "--seed", 1).record
    assert "skipped" not in spcli(*arguments).record
    assert features.read_bytes() == first
    assert spcli(*arguments).record["skipped"]
    features.write_bytes(b"")
    assert "skipped" not in spcli(*arguments).record


def test_fail_fast_begins_no_scan_after_the_bad_one(spcli, scan, config, tmp_path):
    bad = tmp_path / "bad.bin"
    bad.write_bytes(b"123")
    last = tmp_path / "last.bin"
    last.write_bytes(scan.read_bytes())
    outcome = spcli("run", "--config", config, scan, bad, last, "-o", tmp_path / "out", "--fail-fast", "--maps-only")
    assert outcome.code == 4
    assert not (tmp_path / "out" / "last.stats.json").exists()


def test_what_a_run_reads_is_not_replaced_by_what_it_writes(spcli, scan, config, tmp_path):
    mine = tmp_path / "config.yaml"
    mine.write_text("# my own words\n" + config.read_text())
    before = mine.read_bytes()
    outcome = spcli("run", "--config", mine, scan, "-o", tmp_path, "--maps-only")
    assert outcome.code == 2 and "config.yaml is read and would be replaced by a result" in outcome.err
    assert mine.read_bytes() == before
    spcli("run", "--config", config, scan, "-o", tmp_path / "out", "--maps-only")
    resolved = tmp_path / "out" / "config.yaml"
    assert spcli("run", "--config", resolved, scan, "-o", tmp_path / "out", "--maps-only", "--overwrite").code == 0
    weights = tmp_path / "w" / "scan.features.npz"
    weights.parent.mkdir()
    spcli("run", "--config", config, scan, "-o", tmp_path / "out2", "--save-weights", weights)
    outcome = spcli("run", "--config", config, scan, "-o", weights.parent, "--weights", weights, "--overwrite")
    assert outcome.code == 2 and "would be replaced by a result" in outcome.err
