"""spcli's CUDA engine beside its peers on this machine's card: `python -m benchmarks.cuda.peers [--write]`.

Everything runs in one process, times are between CUDA events, medians over interleaved rounds. Features are compared
with the CPU's before anything is timed. Without a CUDA device it ends with status 3 and says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common.machine import describe_machine
from benchmarks.common.paths import CONFIGS, CUDA_RESULTS, ROOT, scans
from benchmarks.common.processes import Command, Measured, launched, measure, spcli_command
from benchmarks.common.reference64 import relative_l2
from benchmarks.common.workload import Workload, macs, prepare
from benchmarks.cuda.card import Flush, copy_rate, describe_card, missing_device, product_rate
from benchmarks.cuda.floors import load_of
from benchmarks.cuda.report import Check, CudaReport, FrameResult, Measures, Rates, Start
from spcli.engines import load_engine
from spcli.errors import DeviceError, SpcliError
from spcli.sparse_tensor import SparseTensor

CONTESTANTS = {"spcli": "benchmarks.cuda.ours", "spconv": "benchmarks.cuda.spconv"}
DTYPES = ("float16", "tf32", "bfloat16", "float32")
SIZES = {"float16": 2, "bfloat16": 2}
# What features may differ from the CPU's by, relative L2.
ALLOWED = {"float32": 1e-5, "tf32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}
WORKLOADS = {
    "second-kitti": ("kitti_000000_full.bin", "kitti_000008_front.bin"),
    "centerpoint-nuscenes": ("nuscenes_single_sweep.bin",),
    "minkunet-semantickitti": ("kitti_000000_full.bin",),
}
WARM_UP = 3


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", choices=tuple(WORKLOADS), help="only this one (again for more)")
    parser.add_argument("--scan", action="append", type=Path, help="time this scan instead (again for more)")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="number format (default float16 and tf32)")
    parser.add_argument("--rounds", type=int, default=50, help="rounds a median is taken over (default 50)")
    parser.add_argument("--frames", type=int, default=300, help="frames of a stream (default 300)")
    parser.add_argument("--cold", action="store_true", help="empty the card's cache before every frame")
    parser.add_argument("--only", choices=("frames", "startup"), help="one part of the benchmark")
    parser.add_argument("--write", action="store_true", help=f"also write {CUDA_RESULTS.name}")
    once = ("PEER", "DTYPE", "CONFIG", "SCAN", "FOLDER")
    parser.add_argument("--once", nargs=5, metavar=once, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def pairs(configs: Sequence[str] | None, given: Sequence[Path] | None) -> list[tuple[str, Path]]:
    """Configurations with the scans they are timed on; the repository's own scan where there are no real ones."""
    return [(config, scan) for config in configs or WORKLOADS for scan in given or scans(WORKLOADS[config])]


def enter(name: str, workload: Workload, dtype: str) -> Any:
    """A contestant made ready, or the reason why it takes no part; our own errors are not caught."""
    if name == "spconv" and dtype == "bfloat16":
        return "spconv bfloat16: it has no such number format"
    if name == "spcli":
        return import_module(CONTESTANTS[name]).Contestant(workload, dtype)
    try:
        return import_module(CONTESTANTS[name]).Contestant(workload, dtype)
    except Exception as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        return f"{name} {dtype} cannot be loaded: {words[0]}"


def frame_result(workload: Workload, given: argparse.Namespace, rates: Rates) -> FrameResult:
    """Check, then time."""
    frame = prepare(workload)
    expected = frame.outputs[workload.output]
    entered = {f"{name} {dtype}": enter(name, workload, dtype) for dtype in given.dtype for name in CONTESTANTS}
    absent = [reason for reason in entered.values() if isinstance(reason, str)]
    present = {label: one for label, one in entered.items() if not isinstance(one, str)}
    checks = [compared(label, one.output(), expected) for label, one in present.items()]
    stages = rounds({label: one.round for label, one in present.items()}, given.rounds, given.cold)
    measures = {
        label: Measures(stages[label], one.frames_a_second(given.frames), one.memory) for label, one in present.items()
    }
    floors = {
        dtype: load_of(workload.network, frame, workload.points, SIZES.get(dtype, 4)).seconds(
            rates.copy, rates.products[dtype]
        )
        for dtype in given.dtype
    }
    sizes = len(workload.points.values), len(workload.tensor.indices), len(expected.indices)
    return FrameResult(workload.name, sizes, macs(workload.layers) / 1e9, checks, measures, floors, absent)


def compared(label: str, output: tuple[np.ndarray, np.ndarray], expected: SparseTensor) -> Check:
    """A contestant's features beside the CPU's."""
    indices, features = output
    same = np.array_equal(indices, expected.indices)
    error = relative_l2(features, expected.features) if same else float("inf")
    return Check(f"{label} against spcli on the CPU", error, ALLOWED[label.split()[1]])


def rounds(
    contestants: dict[str, Callable[[], dict[str, float]]], count: int, cold: bool
) -> dict[str, dict[str, float]]:
    """Median seconds of each stage by label, over `count` rounds in rotating order."""
    flush = Flush() if cold else None
    taken: dict[str, list[dict[str, float]]] = {label: [] for label in contestants}
    order = list(contestants)
    for number in range(WARM_UP + count):
        turn = number % len(order)
        for label in order[turn:] + order[:turn]:
            if flush is not None:
                flush()
            seconds = contestants[label]()
            if number >= WARM_UP:
                taken[label].append(seconds)
    return {
        label: {stage: median(each[stage] for each in all_rounds) for stage in all_rounds[0]}
        for label, all_rounds in taken.items()
    }


def start_ups(workload: Workload, dtype: str, count: int) -> tuple[list[Start], list[str]]:
    """First and warm runs of `spcli run` and of a script with the peer."""
    prepare(workload)
    folder = workload.folder
    cache = {"TRITON_CACHE_DIR": str(folder / "kernels"), "CUDA_CACHE_PATH": str(folder / "driver")}
    ours = [*spcli_command(), "run", "--device", "cuda", "--dtype", dtype, "--config", workload.config, workload.scan]
    ours += ["-o", str(folder / "features"), "--write", "features", "--overwrite"]
    once = [sys.executable, "-m", "benchmarks.cuda.peers", "--once", "spconv", dtype]
    once += [workload.config, workload.scan, str(folder)]
    starts, absent = [], []
    for command in (Command(f"spcli run {dtype}", ours, cache), Command(f"spconv {dtype}", once, cache)):
        try:
            first = launched(command)
            warm = measure([command], count)[command.label]
        except RuntimeError as error:
            absent.append(str(error))
        else:
            starts.append(Start(command.label, Measured(first["seconds"], first["peak_mb"]), warm))
    return starts, absent


def one_frame(name: str, dtype: str, config: str, scan: str, folder: str) -> int:
    """What a peer's user writes: one frame, features to a file; the workload was prepared before."""
    contestant = import_module(CONTESTANTS[name]).Contestant(Workload(config, scan, Path(folder)), dtype, warm_up=0)
    indices, features = contestant.output()
    np.savez(os.path.join(folder, "once.npz"), indices=indices, features=features)
    return 0


def measured(given: argparse.Namespace, folder: Path) -> CudaReport:
    """The whole benchmark."""
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
    if given.once:
        return one_frame(*given.once)
    given.dtype = given.dtype or ["float16", "tf32"]
    with tempfile.TemporaryDirectory() as name:
        report = measured(given, Path(name))
    if given.write:
        CUDA_RESULTS.write_text(report.markdown(), encoding="utf-8")
        print(f"written: {CUDA_RESULTS.relative_to(ROOT)}", file=sys.stderr)
    return 7 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
