"""Whole processes: from a scan to a file of features, and how long a command takes to start."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.paths import CONFIGS
from benchmarks.common.processes import Command, Measured, measure, spcli_command, works
from spcli.engines.cpu.library import cpu_flags


@dataclass(frozen=True)
class WholeReport:
    """Medians of some commands.

    Attributes:
        name: what they do.
        base: label of the command that the others are compared with.
        measured: seconds and peak memory by label.
        absent: commands that could not be measured, with the reason.
    """

    name: str
    base: str
    measured: dict[str, Measured]
    absent: list[str]


def process_report(scan: Path, folder: Path, rounds: int) -> WholeReport:
    """`spcli run --write features` beside a script that does the same with spconv."""
    threads = len(os.sched_getaffinity(0))
    run = [*spcli_command(), "run", "--config", str(CONFIGS / "second-kitti.yaml"), str(scan)]
    run += ["-o", str(folder / "features"), "--write", "features", "--overwrite"]
    peer = [sys.executable, "-m", "benchmarks.cpu.child_second", str(scan), str(folder / "peer.npz")]
    commands = [
        *(Command(f"spcli {n}T", [*run, "--threads", str(n)]) for n in sorted({1, threads})),
        Command("spconv 1T", peer),
    ]
    if "avx512bw" in cpu_flags():
        commands.insert(-1, Command(f"spcli AVX2 {threads}T", run, {"SPCLI_ISA": "v3"}))
    return _report(f"whole process on {scan.name}", "spconv 1T", commands, rounds)


def start_up_report(rounds: int) -> WholeReport:
    """`spcli --help` beside the imports that any such tool needs."""
    commands = [
        Command("import click, numpy", [sys.executable, "-c", "import click, numpy"]),
        Command("spcli --help", [*spcli_command(), "--help"]),
        Command("spcli --version", [*spcli_command(), "--version"]),
        Command("python -c pass", [sys.executable, "-c", "pass"]),
    ]
    return _report("start-up", "import click, numpy", commands, rounds)


def _report(name: str, base: str, commands: list[Command], rounds: int) -> WholeReport:
    reasons = {command.label: works(command) for command in commands}
    able = [command for command in commands if reasons[command.label] is None]
    return WholeReport(name, base, measure(able, rounds) if able else {}, [r for r in reasons.values() if r])
