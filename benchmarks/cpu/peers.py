"""Times spcli's CPU engine side by side with its peers: `make bench`.

Prints Markdown:
* for each network and scan ("frames"), the relative L2 errors of the features against float64 and against spconv;
* for each of them a table: ms of voxelize, rulebooks, convolution and network. "(2.3x)" after a time: spconv takes 2.3
  times as long. Rows "floor": the same multiply-adds as dense torch.mm. Labels end with the threads: "2T";
* for whole commands ("process") and for start-up ("startup"), a table: ms, peak MB, share of the peer's time.

Each implementation is a process of its own and they take turns, so that a busy moment of the machine strikes all
alike. Times are medians over the rounds. Features are compared before anything is timed, at the same weights; the exit
code is 7 where they differ too much.
"""

from __future__ import annotations

import argparse
import compileall
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.paths import CONFIGS, RESULTS, ROOT, scans

# What measures is imported where it is called, so that --help waits for none of it.
if TYPE_CHECKING:
    from benchmarks.cpu.report import Report

SCANS = ("kitti_000000_full.bin", "kitti_000008_front.bin")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="rounds a median is taken over (default 9)")
    parser.add_argument("--only", choices=("frames", "process", "startup"), help="one part of the benchmark")
    parser.add_argument("--scan", type=Path, action="append", help="time this scan instead (again for more)")
    parser.add_argument("--write", action="store_true", help=f"also write {RESULTS.name}")
    return parser.parse_args()


def frames(report: Report, count: int, chosen: list[Path], folder: Path) -> None:
    """SECOND on every scan, and the U-Net on the first."""
    from benchmarks.common.workload import Workload
    from benchmarks.cpu.frames import frame_report

    second, unet = (str(CONFIGS / name) for name in ("second-kitti.yaml", "minkunet-semantickitti.yaml"))
    workloads = [Workload(second, str(scan), folder / f"second{n}") for n, scan in enumerate(chosen)]
    workloads.append(Workload(unet, str(chosen[0]), folder / "unet"))
    for workload in workloads:
        report.frame(frame_report(workload, count))


def measured(given: argparse.Namespace, folder: Path) -> Report:
    """The whole benchmark."""
    from benchmarks.common.machine import describe_machine, load_average
    from benchmarks.cpu.commands import process_report, start_up_report
    from benchmarks.cpu.report import Report

    chosen = [scan.resolve() for scan in given.scan or scans(SCANS)]
    report = Report()
    report.machine(describe_machine(), load_average(), given.rounds)
    if given.only in (None, "frames"):
        frames(report, given.rounds, chosen, folder)
    if given.only in (None, "process"):
        for scan in chosen:
            report.whole(process_report(scan, folder, given.rounds))
    if given.only in (None, "startup"):
        report.whole(start_up_report(2 * given.rounds))
    report.close(load_average())
    return report


def main() -> int:
    """Measure, print, and write where asked; 7 where a check of the features failed."""
    given = arguments()
    # As pip does when it installs; without it every process of ours would compile its modules first.
    compileall.compile_dir(ROOT / "spcli", quiet=1)
    with tempfile.TemporaryDirectory() as name:
        report = measured(given, Path(name))
    return report.finish(RESULTS if given.write else None)


if __name__ == "__main__":
    sys.exit(main())
