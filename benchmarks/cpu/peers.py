"""Side-by-side timings of spcli and its peers on the CPU: `make bench`, or `python -m benchmarks.cpu.peers`.

Every contestant is a process of its own and they take turns, so that a busy moment of the machine strikes all alike;
medians are printed, with the ratio to the peer. Before anything is timed the features are compared: with a float64
evaluation over the same rulebooks and with spconv's, at the same weights.
"""

from __future__ import annotations

import argparse
import compileall
import sys
import tempfile
from pathlib import Path

from benchmarks.common.machine import describe_machine, load_average
from benchmarks.common.paths import CONFIGS, RESULTS, ROOT, scans
from benchmarks.common.workload import Workload
from benchmarks.cpu.commands import WholeReport, process_report, start_up_report
from benchmarks.cpu.frames import FrameReport, frame_report
from benchmarks.cpu.report import Report

SCANS = ("kitti_000000_full.bin", "kitti_000008_front.bin")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds a median is taken over (default 9)")
    parser.add_argument("--only", choices=("frames", "process", "startup"), help="one part of the benchmark")
    parser.add_argument("--scan", type=Path, action="append", help="time this scan instead (can be given again)")
    parser.add_argument("--write", action="store_true", help=f"also write {RESULTS.name}")
    return parser.parse_args()


def frames(rounds: int, chosen: list[Path], folder: Path) -> list[FrameReport]:
    """SECOND on every scan, and the U-Net on the first."""
    second, unet = (str(CONFIGS / name) for name in ("second-kitti.yaml", "minkunet-semantickitti.yaml"))
    workloads = [Workload(second, str(scan), folder / f"second{n}") for n, scan in enumerate(chosen)]
    workloads.append(Workload(unet, str(chosen[0]), folder / "unet"))
    return [frame_report(workload, rounds) for workload in workloads]


def processes(rounds: int, chosen: list[Path], folder: Path) -> list[WholeReport]:
    """The whole command on every scan."""
    return [process_report(scan, folder, rounds) for scan in chosen]


def main() -> int:
    """Measure, print, and write where asked; 7 where a check of the features failed."""
    given = arguments()
    chosen = [scan.resolve() for scan in given.scan or scans(SCANS)]
    # As pip does when it installs; without it every process of ours would compile its modules first.
    compileall.compile_dir(ROOT / "spcli", quiet=1)
    report = Report()
    report.machine(describe_machine(), load_average(), given.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.only in (None, "frames"):
            for frame in frames(given.rounds, chosen, folder):
                report.frame(frame)
        if given.only in (None, "process"):
            for whole in processes(given.rounds, chosen, folder):
                report.whole(whole)
        if given.only in (None, "startup"):
            report.whole(start_up_report(2 * given.rounds))
    report.close(load_average())
    if given.write:
        RESULTS.write_text(report.markdown(), encoding="utf-8")
        print(f"written: {RESULTS.relative_to(ROOT)}", file=sys.stderr)
    return 7 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
