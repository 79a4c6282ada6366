"""What a command is going to write, before it writes."""

from __future__ import annotations

import pytest

from spcli.config import load_preset
from spcli.errors import UsageError
from spcli.pipeline.outputs import (
    Job,
    check_existing,
    check_space,
    estimated_bytes,
    free_bytes,
    plan_jobs,
)
from spcli.readers import ScanPath


def test_outputs_are_named_by_stem_and_kind():
    (job,) = plan_jobs([ScanPath("in/a.bin", "a")], "out", ("features", "features.conv1", "rulebooks", "stats"))
    assert job.outputs == {
        "features": "out/a.features.npz",
        "features.conv1": "out/a.features.conv1.npz",
        "rulebooks": "out/a.rulebooks.npz",
        "stats": "out/a.stats.json",
    }


def test_folders_are_kept_on_request():
    scans = [ScanPath("in/x/a.bin", "a", "x"), ScanPath("in/y/a.bin", "a", "y")]
    jobs = plan_jobs(scans, "out", ("voxels",), keep_tree=True)
    assert [job.outputs["voxels"] for job in jobs] == ["out/x/a.voxels.npz", "out/y/a.voxels.npz"]
    with pytest.raises(UsageError, match=r"in/x/a\.bin and in/y/a\.bin would both write out/a\.voxels\.npz"):
        plan_jobs(scans, "out", ("voxels",))


def test_a_layers_file_may_not_be_another_scans():
    """Scan `a` with layer `b` and a scan called `a.features.b` would meet in one file."""
    scans = [ScanPath("a.bin", "a"), ScanPath("c.bin", "a.features.b")]
    jobs = plan_jobs(scans, "out", ("features", "features.b"))
    assert len({path for job in jobs for path in job.outputs.values()}) == 4
    with pytest.raises(UsageError, match="both write"):
        plan_jobs([ScanPath("a.bin", "a"), ScanPath("b.bin", "a")], "out", ("features",))


def test_the_same_scan_twice_is_a_collision():
    with pytest.raises(UsageError, match="both write"):
        plan_jobs([ScanPath("a.bin", "a"), ScanPath("a.bin", "a")], "out", ("voxels",))


def test_existing_outputs_are_named_and_counted(tmp_path):
    jobs = plan_jobs([ScanPath("a.bin", "a")], str(tmp_path), ("features", "stats"))
    check_existing(jobs)
    for path in jobs[0].outputs.values():
        open(path, "w").close()
    with pytest.raises(UsageError, match=r"a\.features\.npz \(and 1 more\) exists"):
        check_existing(jobs)


def test_an_estimate_follows_the_size_of_the_scan(tmp_path):
    network = load_preset("second-kitti", environ={}).network()
    sizes = []
    for points in (1000, 10_000):
        (tmp_path / "a.bin").write_bytes(bytes(16 * points))
        job = Job(ScanPath(str(tmp_path / "a.bin"), "a"), {"features": "f", "rulebooks": "r"})
        sizes.append(estimated_bytes(job, network))
        assert estimated_bytes(Job(job.scan, {"features": "f"}), network) < sizes[-1] / 3
    assert sizes[1] == pytest.approx(10 * sizes[0], rel=0.01)


def test_the_estimate_of_a_real_scan_is_near_what_is_written(shared):
    """A full KITTI scan's rules take 22.6 MB and its features 3.4 MB."""
    network = load_preset("second-kitti", environ={}).network()
    job = Job(ScanPath(str(shared / "data" / "kitti_000000_full.bin"), "a"), {"features": "f", "rulebooks": "r"})
    assert 13e6 < estimated_bytes(job, network) < 52e6


def test_standard_input_has_no_estimate():
    assert estimated_bytes(Job(ScanPath("-", "stdin"), {"voxels": "v"}), None) == 0


def test_free_space_is_that_of_the_first_folder_that_exists(tmp_path):
    assert free_bytes(str(tmp_path / "not" / "there" / "yet")) > 0
    with pytest.raises(UsageError, match=r"need about 1000000000\.0 GB"):
        check_space(10**18, str(tmp_path))
