"""Contestants side by side: each in a process of its own, asked in turn, so that a busy moment strikes all alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from benchmarks.common.paths import ROOT

PAUSE_S = 0.02  # lets the threads of the last contestant stop spinning


@dataclass(frozen=True)
class Entry:
    """A contestant: its module in this folder, its threads, and its environment beside ours."""

    label: str
    module: str
    threads: int = 1
    environ: dict[str, str] = field(default_factory=dict)


class Worker:
    """A contestant's process; `ask` has it do one round and gives the seconds of each stage."""

    def __init__(self, entry: Entry, config: str, scan: str, folder: str) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.cpu.child_worker",
            entry.module,
            str(entry.threads),
            config,
            scan,
            folder,
        ]
        self.entry = entry
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | entry.environ
        )
        self.ready = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    @property
    def refusal(self) -> str | None:
        """Why the contestant cannot take part, None where it can."""
        return self.ready.get("error")

    def ask(self, what: str = "round") -> dict[str, Any]:
        """One answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries may chat on standard output
                answer: dict[str, Any] = json.loads(line)
                return answer
        return {"error": f"{self.entry.label} ended early with status {self._process.wait()}"}


def rounds(workers: list[Worker], count: int, warm_up: int = 2) -> dict[str, dict[str, float]]:
    """Median seconds of each stage by contestant's label, over `count` rounds in rotating order."""
    taken: dict[str, list[dict[str, Any]]] = {worker.entry.label: [] for worker in workers}
    for number in range(warm_up + count):
        turn = number % len(workers)
        for worker in workers[turn:] + workers[:turn]:
            time.sleep(PAUSE_S)
            answer = worker.ask()
            if "error" in answer:
                raise RuntimeError(answer["error"])
            if number >= warm_up:
                taken[worker.entry.label].append(answer)
    return {label: _medians(answers) for label, answers in taken.items()}


def _medians(answers: list[dict[str, Any]]) -> dict[str, float]:
    return {stage: statistics.median(answer[stage] for answer in answers) for stage in answers[0]}
