"""The benchmarks keep working: a quick part runs, times and failures are reported, --help says what is printed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common.paths import ROOT
from benchmarks.common.processes import LAUNCHER

FOLDER = ROOT / "benchmarks"
SCRIPTS = [path for path in sorted(FOLDER.rglob("*.py")) if '__name__ == "__main__"' in path.read_text("utf-8")]
CHILDREN = [path for path in SCRIPTS if path.name.startswith("child_")]
COMMANDS = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SCRIPTS if path not in CHILDREN]


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


def test_every_command_says_in_its_help_what_it_prints() -> None:
    running = {
        name: subprocess.Popen([sys.executable, "-m", name, "--help"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for name in COMMANDS
    }
    texts = {name: process.communicate()[0] for name, process in running.items()}
    assert {name: process.returncode for name, process in running.items()} == dict.fromkeys(COMMANDS, 0)
    assert [name for name, text in texts.items() if not text.startswith(f"usage: python -m {name} ")] == []
    assert [name for name, text in texts.items() if "\nPrints " not in text] == []


def test_the_readme_of_the_benchmarks_knows_every_command_and_every_folder() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    assert len(COMMANDS) >= 5
    assert [name for name in COMMANDS if f"python -m {name}" not in text] == []
    named = set(re.findall(r"`(\w+/)`", text))
    assert {f"{path.parent.name}/" for path in FOLDER.glob("*/__init__.py")} <= named


@pytest.mark.parametrize("path", CHILDREN, ids=lambda path: path.stem)
def test_a_script_that_only_others_start_says_which(path: Path) -> None:
    says = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    (starter,) = re.findall(r"^Started by (\w+\.py)", says, re.MULTILINE)
    assert path.stem in path.with_name(starter).read_text("utf-8")
