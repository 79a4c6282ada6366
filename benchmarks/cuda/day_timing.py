"""Steps that time: networks beside spconv and the card's floors, and single kernels by NVIDIA's profiler."""

from __future__ import annotations

import csv
import re
import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path

import numpy as np

from benchmarks.common.paths import CONFIGS, data_folder
from benchmarks.common.workload import Workload
from benchmarks.cuda import frames
from benchmarks.cuda.card import copy_rate, describe_card, product_rate
from benchmarks.cuda.day_environment import tool
from benchmarks.cuda.day_frames import TINY, formats, session, street, three_scans
from benchmarks.cuda.day_steps import NotHere, Task, Wrong
from benchmarks.cuda.day_tests import to_the_end
from benchmarks.cuda.peers import WORKLOADS
from benchmarks.cuda.report import CudaReport, FrameResult, Rates
from spcli.config import load_config

ROUNDS, STREAM = 50, 300
METRICS = {
    "gpu__time_duration.sum": "µs",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory %",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": "L2 %",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "multiprocessors %",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps active %",
    "launch__registers_per_thread": "registers",
    "launch__grid_size": "blocks",
}
DURATION = next(iter(METRICS))
DEAREST = 3


def second(task: Task) -> None:
    """SECOND on both KITTI scans."""
    timed(task, "second-kitti")


def centerpoint(task: Task) -> None:
    """CenterPoint on a nuScenes sweep; the preset's voxels are 0.075 m wide."""
    timed(task, "centerpoint-nuscenes")


def minkunet(task: Task) -> None:
    """MinkUNet on a KITTI scan."""
    timed(task, "minkunet-semantickitti")


class Section(TextIOBase):
    """A stream whose text goes into a step's section, and to the usual output."""

    def __init__(self, task: Task) -> None:
        self._task, self._usual = task, sys.stdout

    def write(self, text: str) -> int:
        """Text as it comes."""
        self._usual.write(text)
        self._task.add(text)
        return len(text)


def timed(task: Task, name: str) -> None:
    """What `make cuda-bench` does for one configuration, in all number formats.

    Raises:
        Wrong: features differ too much from the CPU's.
    """
    given = Namespace(dtype=list(formats(task)), rounds=ROUNDS, frames=STREAM, cold=False)
    if task.rehearsal:
        given.rounds = given.frames = 1
        frames.WARM_UP = 0
    report, rates, results = CudaReport(), rates_of(task, given.dtype), []
    with redirect_stdout(Section(task)):
        facts = [("card", "none: a rehearsal")] if task.rehearsal else describe_card()
        report.head(facts, rates, given.rounds, given.cold)
        for workload in workloads(task, name):
            results.append(frames.frame_result(workload, given, rates))
            report.frame(results[-1])
            task.conclude("<br>".join(in_short(result) for result in results))
    if report.failed:
        checks = [check for result in results for check in result.checks if not check.passed]
        raise Wrong("; ".join(f"{check.what}: relative L2 {check.error:.1e}" for check in checks))


def rates_of(task: Task, dtypes: Sequence[str]) -> Rates:
    """What the card can do; in a rehearsal, numbers that mean nothing."""
    if task.rehearsal:
        return Rates(1e12, dict.fromkeys(dtypes, 1e14))
    return Rates(copy_rate(), {dtype: product_rate(dtype) for dtype in dtypes})


def workloads(task: Task, name: str) -> Iterator[Workload]:
    """The configuration with its real scans, or with a street that has its columns."""
    config = CONFIGS / f"{name}.yaml"
    columns = (load_config(str(config)).voxelize or Namespace(columns=())).columns or ()
    if task.rehearsal:
        config = task.folder / config.name
        config.write_text(TINY.replace("[x, y, z, intensity]", f"[{', '.join(columns)}]"), encoding="utf-8")
    folder = data_folder()
    real = [] if folder is None or task.rehearsal else [folder / each for each in WORKLOADS[name]]
    there = [path for path in real if path.exists()] or [with_columns(task, len(columns))]
    for number, scan in enumerate(there):
        yield Workload(str(config), str(scan), task.folder / str(number))


def with_columns(task: Task, columns: int) -> Path:
    """A synthetic scan with so many columns; those beyond x, y and z are 0."""
    scan = street(task)
    values = np.zeros((len(scan), columns), np.float32)
    values[:, :3] = scan[:, :3]
    path = task.folder / "street.bin"
    values.tofile(path)
    return path


def in_short(result: FrameResult) -> str:
    """The whole frame of each number format in ms, with spconv's and the floor."""
    parts = []
    for dtype, floor in result.floors.items():
        ours, peer = (result.measures.get(f"{who} {dtype}") for who in ("spcli", "spconv"))
        seconds = {"spconv": peer and peer.stages.get("total"), "floor": floor["total"]}
        against = ", ".join(f"{name} {1e3 * value:.3f}" for name, value in seconds.items() if value is not None)
        if ours is not None:
            parts.append(f"{dtype} {1e3 * ours.stages['total']:.3f} ({against})")
    return f"{result.name.rpartition(' on ')[2]}, ms: {', '.join(parts)}"


# Single kernels


@dataclass(frozen=True)
class Launch:
    """One launch as the profiler saw it: the kernel's name and the metrics by their names."""

    kernel: str
    values: dict[str, float]


def kernels(task: Task) -> None:
    """One frame of second-kitti step by step under ncu: all kernels by their time, the dearest in detail.

    Raises:
        NotHere: ncu is not installed, or this machine keeps its counters from it.
        Wrong: it ended with an error, or saw no kernel.
    """
    path = tool("ncu")
    if path is None:
        raise NotHere("ncu is not installed")
    report = task.folder / "ncu.csv"
    child = [sys.executable, "-m", "benchmarks.cuda.child_day", "benchmarks.cuda.day_timing:one_frame"]
    # Clocks are left as they are: the card is not ours alone.
    options = ["--clock-control", "none", "--profile-from-start", "off", "--csv", "--page", "raw"]
    options += ["--print-units", "base", "--log-file", str(report), "--metrics", ",".join(METRICS)]
    code, _ = to_the_end([path, *options, *child, str(task.folder)], {})
    text = report.read_text(encoding="utf-8", errors="replace") if report.exists() else ""
    print(text)
    if "ERR_NVGPUCTRPERM" in text:
        raise NotHere("this machine does not let ncu read the card's counters (ERR_NVGPUCTRPERM)")
    launches = launches_of(text)
    if code or not launches:
        raise Wrong(f"ncu ended with status {code} and saw {len(launches)} launches")
    task.conclude(kernel_tables(task, launches))


def launches_of(text: str) -> list[Launch]:
    """The launches in ncu's table: a line of names, one of units, one for each launch."""
    lines = [line for line in text.splitlines() if line.startswith('"')]  # others are the profiler's own words
    rows = list(csv.DictReader(lines))
    return [
        Launch(row["Kernel Name"], {name: number_of(row.get(name)) for name in METRICS}) for row in rows if row["ID"]
    ]


def number_of(text: str | None) -> float:
    """A number as ncu writes it; NaN for what is none."""
    try:
        return float((text or "nan").replace(",", ""))
    except ValueError:
        return float("nan")


def kernel_tables(task: Task, launches: Sequence[Launch]) -> str:
    """All kernels by their time, then every launch of the dearest; gives the latter's names in a sentence."""
    by_kernel: dict[str, list[Launch]] = defaultdict(list)
    for launch in launches:
        by_kernel[short(launch.kernel)].append(launch)
    spent = {name: sum(each.values[DURATION] for each in group) / 1e3 for name, group in by_kernel.items()}
    order = sorted(spent, key=lambda name: -spent[name])
    task.say(
        f"One float16 frame of second-kitti, step by step: {len(launches)} launches, {sum(spent.values()):.0f} µs."
    )
    task.say("", "| kernel | launches | µs |", "|---|--:|--:|")
    task.say(*(f"| {name} | {len(by_kernel[name])} | {spent[name]:.1f} |" for name in order))
    for name in order[:DEAREST]:
        task.say("", f"### {name}", "", "| " + " | ".join(METRICS.values()) + " |", "|" + "--:|" * len(METRICS))
        for launch in by_kernel[name]:
            cells = (f"{value / 1e3 if metric == DURATION else value:.1f}" for metric, value in launch.values.items())
            task.say("| " + " | ".join(cells) + " |")
    return ", ".join(f"{name} {spent[name]:.0f} µs" for name in order[:DEAREST]) + f" of {sum(spent.values()):.0f}"


def short(name: str) -> str:
    """A kernel's name without arguments, templates and return type, cut where it is long."""
    bare = re.sub(r"<.*>|\(.*\)", "", name).split("::")[-1].split(" ")[-1]
    return (bare or name)[:60]


def one_frame(task: Task) -> None:
    """Frames until everything is compiled and loaded, then one that the profiler sees."""
    import torch

    scan = three_scans(task)[0]
    with session(task, "float16", graph=False) as running:
        running.run(scan)
        if not task.rehearsal:
            torch.cuda.profiler.start()
        running.run(scan)
        if not task.rehearsal:
            torch.cuda.synchronize()
            torch.cuda.profiler.stop()
