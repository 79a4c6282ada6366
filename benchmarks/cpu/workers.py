"""Contestants as processes of their own, each asked for one round after another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.common.paths import ROOT
from benchmarks.common.workload import Workload

PAUSE_S = 0.02  # lets the threads of the last contestant stop spinning


@dataclass(frozen=True)
class Entry:
    """A contestant: its module in this folder, its threads, and its environment beside ours."""

    label: str
    module: str
    threads: int = 1
    environ: dict[str, str] = field(default_factory=dict)


class Worker:
    """A contestant's process."""

    def __init__(self, entry: Entry, workload: Workload) -> None:
        command = [sys.executable, "-m", "benchmarks.cpu.child_worker", entry.module, str(entry.threads)]
        command += [workload.config, workload.scan, str(workload.folder)]
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

    def round(self) -> dict[str, float]:
        """Seconds of each stage of one round.

        Raises:
            RuntimeError: the process has ended.
        """
        time.sleep(PAUSE_S)
        answer = self._ask("round")
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and features of the last layer, in canonical order."""
        with np.load(self._ask("output")["path"], allow_pickle=False) as file:
            indices, features = file["indices"], file["features"]
        order = np.lexsort(indices.T[::-1])
        return indices[order], features[order]

    def _ask(self, what: str) -> dict[str, Any]:
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
