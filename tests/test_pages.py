"""Everything that the README and the pages of docs/ show to be typed does what they say, and prints what they show."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import spcli
from sessions import ROOT, blocks, check_session, make_desk, pages, run_example, sessions, shown_output
from spcli.cli.group import COMMANDS, group
from spcli.config.schema import json_schema
from spcli.layers import LAYERS
from tools.reference_pages import on_page_markdown

PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in pages()}
README = PAGES["README.md"]
MAKE_TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
NOT_OURS = {"cd", "git", "source"}
"""Commands of a shell that pages need to say where to begin."""


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if sessions(text)])
def test_the_console_sessions_print_what_the_page_shows(tmp_path: Path, page: str) -> None:
    """In the page's order, since a command may use what the one before it wrote."""
    desk = make_desk(tmp_path)
    for command, shown in sessions(PAGES[page]):
        if "--plot" not in command or find_spec("matplotlib"):
            check_session(desk, command, shown)


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if blocks(text, "python")])
def test_the_python_examples_print_their_last_comments(tmp_path: Path, page: str) -> None:
    desk = make_desk(tmp_path)
    for example in blocks(PAGES[page], "python"):
        done = run_example(desk, example)
        assert done.returncode == 0, done.stderr
        assert done.stdout == shown_output(example)


def lines_for_a_shell() -> list[tuple[str, str]]:
    """Page and line of what is shown for a shell and cannot be carried out here: it installs, or needs a GPU."""
    return [(page, line) for page, text in PAGES.items() for block in blocks(text, "sh") for line in block.splitlines()]


@pytest.mark.parametrize(("page", "line"), lines_for_a_shell())
def test_lines_for_a_shell_name_what_there_is(page: str, line: str) -> None:
    """A target of the Makefile, an extra of the package, or a command line that spcli's own parser accepts."""
    first, *rest = shlex.split(line)
    if first == "make":
        assert rest[0] in MAKE_TARGETS
    elif first == "pip":
        extras = re.findall(r"\.\[(.*?)\]", line)
        declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert rest[0] == "install" and all(f"\n{extra} = [" in declared for extra in extras)
    elif first == "spcli":
        command = group.get_command(click.Context(group), rest[0])
        assert command is not None
        command.make_context(rest[0], rest[1:])
    else:
        assert first in NOT_OURS


def test_make_targets_in_the_text_exist() -> None:
    named = {target for text in PAGES.values() for target in re.findall(r"`make ([\w-]+)", text)}
    assert {"demo", "test", "docs", "wheel", "bench"} <= named <= MAKE_TARGETS


def test_pages_are_made_of_blocks_that_a_test_carries_out() -> None:
    known = {"", "console", "python", "sh", "yaml", "text"}
    found = {name for text in PAGES.values() for name in re.findall(r"^```(\w+)$", text, re.MULTILINE)}
    assert found <= known


def test_the_readme_is_for_the_first_five_minutes() -> None:
    assert len(README.splitlines()) <= 130
    assert [name for name in COMMANDS if f"`spcli {name}`" not in README] == []
    top = [page for page in PAGES if re.fullmatch(r"docs/[\w-]+\.md|docs/commands/index\.md", page)]
    elsewhere = {"docs/index.md", "docs/changelog.md", "docs/contributing.md"}
    assert [page for page in top if f"]({page})" not in README and page not in elsewhere] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_with_examples_and_its_options(command: str) -> None:
    page = PAGES[f"docs/commands/{command}.md"]
    assert any(f"spcli {command}" in line or f"spcli -q {command}" in line for line, _ in sessions(page))
    assert "`-v, --verbose`" in on_page_markdown(page)


def test_the_reference_has_every_layer_type_and_says_what_each_key_means() -> None:
    written = PAGES["docs/configuration.md"]
    made = on_page_markdown(written)
    assert [name for name in LAYERS if f"`{name}`: " not in made] == []
    sections = json_schema()["$defs"]
    keys = {key for name in ("Voxelize", *LAYERS) for key in sections[name]["properties"]} - {"type"}
    assert [key for key in sorted(keys) if f"\n| `{key}` | " not in written] == []
    assert "made from the code" not in made


def test_the_python_page_has_every_public_name() -> None:
    described = {line.rsplit(".", 1)[1] for line in re.findall(r"^::: (\S+)$", PAGES["docs/python.md"], re.MULTILINE)}
    assert described == set(dir(spcli)) - {"__version__"}
