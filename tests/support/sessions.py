"""The console sessions of a document: each `$ command` with the output shown under it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Bad configuration, and a check that failed: what an example may show.
FAILURES = (5, 7)


def sessions(text: str) -> list[tuple[str, str]]:
    """Commands and outputs, in order."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def make_desk(folder: Path) -> Path:
    """A folder as a reader has it: the samples, the configurations, `spcli` of this interpreter, room for results."""
    for name in ("sample_data", "configs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    command = folder / "bin" / "spcli"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spcli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return folder


def environment(desk: Path) -> dict[str, str]:
    """Where `spcli` is the desk's."""
    path = os.pathsep.join([str(desk / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def check_session(desk: Path, command: str, shown: str) -> None:
    """The command prints what is shown, standard error included where that shows an error."""
    fails = "spcli: error:" in shown
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=desk,
        env=environment(desk),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if fails else subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode in (FAILURES if fails else (0,)), (command, done.stdout, done.stderr)
    printed = [without_times(line) for line in done.stdout.splitlines()]
    assert printed == [without_times(line) for line in shown.splitlines()], command


def without_times(line: str) -> str:
    """A line of phases with its milliseconds left out."""
    return re.sub(r"\d+\.\d+(?=,|$)", "T", line, flags=re.MULTILINE) if line.startswith("ms ") else line
