"""The benchmark on a card, as far as it goes without one: what it would run, how it reads, what it says instead."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common import paths
from benchmarks.common.paths import ROOT, SAMPLE
from benchmarks.common.processes import Measured
from benchmarks.common.rounds import rounds
from benchmarks.common.workload import Workload, prepare
from benchmarks.cuda import card, frames, peers
from benchmarks.cuda.floors import Load, load_of
from benchmarks.cuda.report import Check, CudaReport, FrameResult, Measures, Rates, Start
from spcli import engines
from spcli.engines import load_engine
from spcli.engines.driver import ask_driver
from spcli.errors import DeviceError

COMMAND = [sys.executable, "-m", "benchmarks.cuda.peers"]


@pytest.fixture
def street(tmp_path: Path) -> Workload:
    """The first configuration on a hundred points of the sample scan."""
    values = np.fromfile(ROOT / "sample_data" / "street_000.bin", np.float32).reshape(-1, 4)
    scan = tmp_path / "hundred.bin"
    values[(values[:, 0] > 0) & (np.abs(values[:, 1]) < 9)][::60][:100].tofile(scan)
    return Workload(str(ROOT / "configs" / "quickstart.yaml"), str(scan), tmp_path / "work")


@pytest.fixture
def two_layers(tmp_path: Path, street: Workload) -> Workload:
    """A network so small that the interpreter is through with it in a moment."""
    config = tmp_path / "two.yaml"
    config.write_text(
        """
        version: 1
        name: two
        voxelize:
          {voxel_size: [0.5, 0.5, 0.5], point_cloud_range: [0, -10, -3, 30, 10, 3], columns: [x, y, z, intensity]}
        layers:
          - {name: same, type: SubMConv3d, out_channels: 8, kernel_size: 3}
          - {name: down, type: SparseConv3d, out_channels: 8, kernel_size: 2, stride: 2}
        """
    )
    return Workload(str(config), street.scan, street.folder)


@pytest.mark.skipif(ask_driver().devices > 0, reason="there is a CUDA device here")
def test_without_a_device_it_ends_with_3_and_one_sentence() -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1 and "CUDA" in done.stderr and "Traceback" not in done.stderr


def test_a_device_that_torch_cannot_use_is_told_in_the_same_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise DeviceError("torch 2 is a build without CUDA")

    monkeypatch.setattr(card, "missing_device", lambda: None)
    monkeypatch.setattr(engines, "load_engine", refuse)
    assert peers.main([]) == 3
    assert capsys.readouterr().err == "torch 2 is a build without CUDA\n"


def test_arguments_have_defaults_and_can_be_given_again() -> None:
    given = peers.arguments([])
    assert (given.rounds, given.frames, given.cold, given.only, given.write) == (50, 300, False, None, False)
    words = ["--scan", "a.bin", "--scan", "b.bin", "--dtype", "float32", "--config", "second-kitti", "--cold"]
    given = peers.arguments(words)
    assert (given.scan, given.dtype, given.config, given.cold) == (
        [Path("a.bin"), Path("b.bin")], ["float32"], ["second-kitti"], True,
    )  # fmt: skip


def test_every_named_scan_meets_every_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = peers.pairs(["second-kitti", "minkunet-semantickitti"], [Path("a"), Path("b")])
    assert [(config[:3], str(scan)) for config, scan in named] == [
        ("sec", "a"),
        ("sec", "b"),
        ("min", "a"),
        ("min", "b"),
    ]
    monkeypatch.setattr(paths, "data_folder", lambda: None)
    assert peers.pairs(None, None) == [(config, SAMPLE) for config in peers.WORKLOADS]
    monkeypatch.setattr(paths, "data_folder", lambda: tmp_path)
    sweep = tmp_path / "nuscenes_single_sweep.bin"
    sweep.touch()
    assert peers.pairs(["centerpoint-nuscenes"], None) == [("centerpoint-nuscenes", sweep)]
    assert peers.pairs(["second-kitti"], None) == [("second-kitti", SAMPLE)]


def test_a_peer_that_is_not_there_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch, street: Workload) -> None:
    monkeypatch.setitem(frames.CONTESTANTS, "spconv", "no_such_peer")
    assert frames.enter("spconv", street, "float16") == (
        "spconv float16 cannot be loaded: No module named 'no_such_peer'"
    )
    assert frames.enter("spconv", street, "bfloat16") == "spconv bfloat16: it has no such number format"


def test_a_peer_built_without_cuda_is_told_apart(street: Workload) -> None:
    cpp = pytest.importorskip("spconv.cppconstants", reason="needs the package spconv")
    if not cpp.CPU_ONLY_BUILD:
        pytest.skip("the spconv that is installed is a build with CUDA")
    reason = "spconv float16 cannot be loaded: the spconv that is installed is a build without CUDA"
    assert frames.enter("spconv", street, "float16") == reason


def test_rounds_give_medians_and_every_contestant_goes_first_in_turn() -> None:
    asked: list[str] = []

    def contestant(label: str, seconds: list[float]) -> Any:
        left = [9.0] * 3 + seconds

        def one_round() -> dict[str, float]:
            asked.append(label)
            return {"total": left.pop(0)}

        return one_round

    medians = rounds({"a": contestant("a", [3, 1, 2]), "b": contestant("b", [5, 5, 4])}, count=3, warm_up=3)
    assert medians == {"a": {"total": 2}, "b": {"total": 5}}
    assert asked[:4] == ["a", "b", "b", "a"]


def test_the_floor_counts_every_byte_and_product_once(street: Workload) -> None:
    frame = prepare(street)
    points = street.points
    load = load_of(street.network, frame, points, 2)
    sites = frame.sites[0]
    down = frame.counts["down"]
    assert load.voxelize == points.values.nbytes + sites * (16 + 4 + 4 * 2)
    assert load.maps == (
        16 * sites + 27 * 4 * sites  # subm1
        + 16 * (sites + down.out_sites) + 27 * 4 * down.out_sites
        + 16 * down.out_sites + 27 * 4 * down.out_sites  # subm2
        + 27 * 4 * sites  # down with its ends swapped
    )  # fmt: skip
    pairs = frame.counts["subm1"].pairs * (4 * 16 + 16 * 16) + down.pairs * (16 * 32 + 32 * 16)
    pairs += frame.counts["subm2"].pairs * 2 * 32 * 32 + sites * 32 * 8
    assert load.operations == 2 * pairs
    assert load.seconds(1e9, 1e30)["total"] == pytest.approx((load.voxelize + load.maps + load.convolutions) / 1e9)


def test_convolutions_take_as_long_as_their_bytes_or_their_products() -> None:
    load = Load(voxelize=10, maps=20, convolutions=30, operations=400)
    assert load.seconds(10, 100) == {"voxelize": 1, "maps": 2, "convolutions": 4, "network": 6, "total": 7}
    assert load.seconds(10, 1000)["convolutions"] == 3


def test_the_report_compares_equal_formats_and_tells_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    report = CudaReport()
    report.head([("card", "a card")], Rates(3e12, {"float16": 8e14}), 50, cold=True)
    ours = {"voxelize": 1e-4, "maps": 5e-5, "convolutions": 2e-4, "network": 2.5e-4, "total": 3.5e-4}
    measures = {
        "spcli float16": Measures(ours, 2000.4, 64 << 20),
        "spcli tf32": Measures(ours),
        "spconv float16": Measures({"maps": 1e-3, "convolutions": 2e-3, "network": 3e-3}),
    }
    checks = [Check("spcli float16 against spcli on the CPU", 1e-4, 5e-3)]
    result = FrameResult(
        "net on scan", (1000, 900, 80), 1.5, checks, measures, {"float16": ours}, ["spconv tf32 cannot be loaded: why"]
    )
    report.frame(result)
    text = report.markdown()
    assert capsys.readouterr().out == text and not report.failed
    lines = text.splitlines()
    assert "* copies on the card: 3.00 TB/s, read and written bytes both counted" in lines
    assert "* large matrix products: 800 TFLOP/s float16" in lines
    assert "* spcli float16 against spcli on the CPU: relative L2 1.0e-04, allowed 5e-03: ok" in lines
    assert "* not measured: spconv tf32 cannot be loaded: why" in lines
    assert lines[-4:] == [
        "| spcli float16 | 0.100 | 0.050 (20.0x) | 0.200 (10.0x) | 0.250 (12.0x) | 0.350 | 2,000 | 64 |",
        "| spcli tf32 | 0.100 | 0.050 | 0.200 | 0.250 | 0.350 |  |  |",
        "| spconv float16 |  | 1.000 | 2.000 | 3.000 |  |  |  |",
        "| floor float16 | 0.100 | 0.050 | 0.200 | 0.250 | 0.350 |  |  |",
    ]


def test_features_that_differ_too_much_fail_the_benchmark() -> None:
    report = CudaReport()
    checks = [Check("spcli tf32 against spcli on the CPU", float("inf"), 1e-3)]
    report.frame(FrameResult("net on scan", (1, 1, 1), 0.0, checks, {}, {}))
    assert report.failed
    assert "relative L2 inf, allowed 1e-03: FAILED" in report.markdown()


def test_first_and_warm_starts_stand_side_by_side() -> None:
    report = CudaReport()
    report.starts([Start("spcli run float16", Measured(12.5, 900), Measured(1.25, 800))], ["spconv float16 ended"])
    assert report.markdown().splitlines()[-1] == "| spcli run float16 | 12.50 | 1.25 | 800 |"
    assert "* not measured: spconv float16 ended" in report.markdown()


def test_our_contestant_computes_the_cpus_features_stage_by_stage(
    monkeypatch: pytest.MonkeyPatch, two_layers: Workload
) -> None:
    try:
        load_engine("cuda")
    except DeviceError as reason:
        pytest.skip(f"engine cuda: {reason}")
    from spcli.engines.cuda.runner import CudaRunner

    monkeypatch.setattr(CudaRunner, "proved", 0)
    monkeypatch.setattr(frames, "WARM_UP", 0)
    given = Namespace(dtype=["float32"], rounds=1, frames=1, cold=False)
    result = frames.frame_result(two_layers, given, Rates(1e12, {"float32": 1e14}))
    assert [check.passed for check in result.checks if check.what.startswith("spcli")] == [True]
    measures = result.measures["spcli float32"]
    assert set(measures.stages) == {"voxelize", "maps", "convolutions", "network", "total"}
    assert measures.stages["total"] > 0 and measures.rate is not None and measures.rate > 0
    assert result.sizes[0] == 100 and result.floors["float32"]["total"] > 0
