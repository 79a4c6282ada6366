"""The benchmark keeps working: its quick part runs, and its measuring tools say what happened."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.common.paths import ROOT
from benchmarks.common.processes import LAUNCHER


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_start_up_part_prints_a_table() -> None:
    done = run("-m", "benchmarks.cpu.peers", "--only", "startup", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "command", "import click, numpy", "spcli --help", "spcli --version", "python -c pass",
    ]  # fmt: skip


@pytest.mark.parametrize(("code", "status"), [("pass", 0), ("raise SystemExit(5)", 5)])
def test_a_launched_command_reports_its_time_memory_and_status(code: str, status: int) -> None:
    done = run("-I", "-S", str(LAUNCHER), sys.executable, "-c", code)
    answer = json.loads(done.stdout)
    assert answer["status"] == status
    assert answer["seconds"] > 0
    assert 1 < answer["peak_mb"] < 100
