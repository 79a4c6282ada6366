"""Every command of the README does what the README says, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)


def sessions() -> list[tuple[str, str]]:
    """Each `$ command` of the README with the output shown under it."""
    found = []
    for block in CONSOLE:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+(?=,|$)", "T", text, flags=re.MULTILINE) if text.startswith("ms ") else text


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader of the README has it: the samples and the configurations, and room for results."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("sample_data", "configs"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def environment(desk: Path) -> dict[str, str]:
    """Where `spcli` is the one of this interpreter."""
    bin_folder = desk / "bin"
    bin_folder.mkdir(exist_ok=True)
    command = bin_folder / "spcli"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spcli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = os.pathsep.join([str(bin_folder), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def test_the_console_sessions_print_what_the_readme_shows(desk: Path) -> None:
    """In the README's order, since a command may use what the one before it wrote."""
    assert len(sessions()) >= 8
    for command, shown in sessions():
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=desk,
            env=environment(desk),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if "error:" in shown else subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == (5 if "error:" in shown else 0), (command, done.stdout, done.stderr)
        printed = [without_times(line) for line in done.stdout.splitlines()]
        assert printed == [without_times(line) for line in shown.splitlines()], command


def test_the_python_example_prints_its_comment(desk: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (expected,) = re.findall(r"# (\(.*)$", example, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=desk, env=environment(desk), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([\w-]+)", README))
    assert named <= targets and {"demo", "test", "bench"} <= named


def test_every_command_and_layer_type_is_named() -> None:
    from spcli.cli.group import COMMANDS
    from spcli.layers import LAYERS

    missing = [name for name in COMMANDS if f"`spcli {name}`" not in README]
    bases = {re.sub(r"[23]d$", "", name) for name in LAYERS}
    missing += [name for name in bases if name not in README]
    assert not missing
