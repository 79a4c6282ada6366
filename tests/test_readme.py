"""Every command of the README and of docs/ does what the page says, and prints what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from sessions import ROOT, check_session, environment, make_desk, sessions

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_desk(tmp_path_factory.mktemp("readme"))


def check_all(desk: Path, text: str) -> None:
    """In the page's order, since a command may use what the one before it wrote."""
    for command, shown in sessions(text):
        if "--plot" in command and find_spec("matplotlib") is None:
            continue
        check_session(desk, command, shown)


def test_the_console_sessions_print_what_the_readme_shows(desk: Path) -> None:
    assert len(sessions(README)) >= 8
    check_all(desk, README)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_console_sessions_print_what_a_page_of_docs_shows(tmp_path: Path, name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    check_all(make_desk(tmp_path), text)


def test_the_docs_are_there_and_found_from_the_readme() -> None:
    assert "rulebook.md" in DOCUMENTS
    assert not [name for name in DOCUMENTS if f"docs/{name}" not in README]


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
