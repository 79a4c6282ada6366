"""Whole commands: wall time and peak memory of each, started in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.common.paths import ROOT
from benchmarks.common.rounds import rounds

LAUNCHER = Path(__file__).with_name("child_launch.py")


@dataclass(frozen=True)
class Command:
    """A command line, and its environment beside ours."""

    label: str
    arguments: list[str]
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Medians over the rounds."""

    seconds: float
    peak_mb: float


def spcli_command() -> list[str]:
    """The console script beside this Python, else the module."""
    script = Path(sys.executable).with_name("spcli")
    return [str(script)] if script.exists() else [sys.executable, "-m", "spcli"]


def measure(commands: list[Command], count: int) -> dict[str, Measured]:
    """Every command `count` times in rotating order, after one start that fills caches.

    Raises:
        RuntimeError: a command failed; carries what it said.
    """
    medians = rounds({command.label: partial(launched, command) for command in commands}, count, warm_up=1)
    return {label: Measured(each["seconds"], each["peak_mb"]) for label, each in medians.items()}


def works(command: Command) -> str | None:
    """Why a command cannot be measured (the last line it says), None where it can."""
    try:
        launched(command)
    except RuntimeError as error:
        return str(error)
    return None


def launched(command: Command) -> dict[str, float]:
    """Seconds and peak memory of one start.

    Raises:
        RuntimeError: the command failed; carries what it said last.
    """
    # By its path, since -I finds no module of the repository; started in the root, from which `-m` finds them.
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), *command.arguments]
    environ = os.environ | command.environ
    done = subprocess.run(launcher, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command.label} cannot be started: {_last_line(done.stderr)}")
    answer: dict[str, float] = json.loads(done.stdout)
    if answer["status"]:
        raise RuntimeError(f"{command.label} ended with status {answer['status']:.0f}: {_last_line(done.stderr)}")
    return answer


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
