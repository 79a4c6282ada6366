"""Times spcli's CUDA engine side by side with its peers on this machine's card: `make cuda-bench`.

Prints Markdown:
* for each network and scan, the relative L2 error of the features against the CPU's;
* for each of them a table: ms of voxelize, maps, convolutions, network and total, frames/s of a stream, peak MB of the
  card's memory. "(2.3x)" after a time of spcli: spconv takes 2.3 times as long. Rows "floor": what the rates of copies
  and of large matrix products on this card would allow;
* for a whole command: seconds of the first and of a warm run, peak MB of the host's memory.

Everything runs in one process. Times are between CUDA events, medians over interleaved rounds. Features are compared
before anything is timed; the exit code is 7 where they differ too much. Without a CUDA device it is 3.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.paths import CONFIGS, CUDA_RESULTS, scans

# What measures is imported where it is called, so that --help waits for none of it.
if TYPE_CHECKING:
    from benchmarks.cuda.report import CudaReport

DTYPES = ("float16", "tf32", "bfloat16", "float32")
WORKLOADS = {
    "second-kitti": ("kitti_000000_full.bin", "kitti_000008_front.bin"),
    "centerpoint-nuscenes": ("nuscenes_single_sweep.bin",),
    "minkunet-semantickitti": ("kitti_000000_full.bin",),
}


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", action="append", choices=tuple(WORKLOADS), help="only this one (again for more)")
    parser.add_argument("--scan", action="append", type=Path, help="time this scan instead (again for more)")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="number format (default float16 and tf32)")
    parser.add_argument("--rounds", type=int, default=50, help="rounds a median is taken over (default 50)")
    parser.add_argument("--frames", type=int, default=300, help="frames of a stream (default 300)")
    parser.add_argument("--cold", action="store_true", help="empty the card's cache before every frame")
    parser.add_argument("--only", choices=("frames", "startup"), help="one part of the benchmark")
    parser.add_argument("--write", action="store_true", help=f"also write {CUDA_RESULTS.name}")
    return parser.parse_args(words)


def pairs(configs: Sequence[str] | None, given: Sequence[Path] | None) -> list[tuple[str, Path]]:
    """Configurations with the scans they are timed on; the repository's own scan where there are no real ones."""
    return [(config, scan) for config in configs or WORKLOADS for scan in given or scans(WORKLOADS[config])]


def measured(given: argparse.Namespace, folder: Path) -> CudaReport:
    """The whole benchmark."""
    from benchmarks.common.machine import describe_machine
    from benchmarks.common.workload import Workload
    from benchmarks.cuda.card import copy_rate, describe_card, product_rate
    from benchmarks.cuda.commands import start_ups
    from benchmarks.cuda.frames import frame_result
    from benchmarks.cuda.report import CudaReport, Rates
    from spcli.errors import SpcliError

    report = CudaReport()
    rates = Rates(copy_rate(), {dtype: product_rate(dtype) for dtype in given.dtype})
    report.head([*describe_card(), *describe_machine()], rates, given.rounds, given.cold)
    workloads = [
        Workload(str(CONFIGS / f"{config}.yaml"), str(scan.resolve()), folder / str(number))
        for number, (config, scan) in enumerate(pairs(given.config, given.scan))
    ]
    if given.only in (None, "frames"):
        for workload in workloads:
            try:
                report.frame(frame_result(workload, given, rates))
            except SpcliError as error:
                report.absent([f"{workload.name}: {error}"])
    if given.only in (None, "startup"):
        report.starts(*start_ups(workloads[0], given.dtype[0], max(3, given.rounds // 10)))
    return report


def trouble() -> str | None:
    """Why nothing can be timed here, None where it can."""
    from benchmarks.cuda.card import missing_device
    from spcli.engines import load_engine
    from spcli.errors import DeviceError

    reason = missing_device()
    if reason is None:
        try:
            load_engine("cuda")
        except DeviceError as error:
            return str(error)
    return reason


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and write where asked; 3 without a device, 7 where a check of the features failed."""
    given = arguments(words)
    reason = trouble()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 3
    given.dtype = given.dtype or ["float16", "tf32"]
    with tempfile.TemporaryDirectory() as name:
        report = measured(given, Path(name))
    return report.finish(CUDA_RESULTS if given.write else None)


if __name__ == "__main__":
    sys.exit(main())
