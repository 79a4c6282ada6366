"""What a page shows that can be carried out: console sessions, Python examples, and lines for a shell.

`python tests/support/sessions.py PAGE...` writes what each command prints now into the pages.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]

# Usage, device, input, configuration, and a check that failed: what an example may show.
FAILURES = (2, 3, 4, 5, 7)
ERRORS = re.compile(r"^(spcli: error|Error):", re.MULTILINE)
"""How spcli and click begin one."""


def sessions(text: str) -> list[tuple[str, str]]:
    """Each `$ command` of the console blocks with the output shown under it, in order."""
    found = []
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """Every page a reader gets: the README, those of docs/, how to contribute, and the list of benchmarks."""
    single = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
    return [*(ROOT / name for name in single), *sorted((ROOT / "docs").rglob("*.md"))]


def make_desk(folder: Path) -> Path:
    """A folder as a reader has it: the samples, the configurations, `spcli` of this interpreter, room for results."""
    for name in ("sample_data", "configs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    for name, module in (("spcli", " -m spcli"), ("python3", "")):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    return folder


def environment(desk: Path) -> dict[str, str]:
    """Where `spcli` and `python3` are the desk's."""
    path = os.pathsep.join([str(desk / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def check_session(desk: Path, command: str, shown: str) -> None:
    """The command prints what is shown, standard error included where that shows an error."""
    done = carry_out(desk, command, shown)
    expected = FAILURES if ERRORS.search(shown) and not tells_its_code(command) else (0,)
    assert done.returncode in expected, (command, done.stdout, done.stderr)
    printed = [without_times(line) for line in done.stdout.splitlines()]
    assert printed == [without_times(line) for line in shown.splitlines()], command


def carry_out(desk: Path, command: str, shown: str) -> subprocess.CompletedProcess[str]:
    """The command in bash; standard error goes into standard output where an error is shown."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=desk,
        env=environment(desk),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if ERRORS.search(shown) else subprocess.PIPE,
        text=True,
        check=False,
    )


def tells_its_code(command: str) -> bool:
    """Whether it ends with an `echo` of the exit code, whose own code is 0."""
    return "; echo " in command


def without_times(line: str) -> str:
    """A line of phases with its milliseconds left out."""
    return re.sub(r"\d+\.\d+(?=,|$)", "T", line, flags=re.MULTILINE) if line.startswith("ms ") else line


def shown_output(example: str) -> str:
    """What a Python example prints: the comment lines that end it."""
    found = re.search(r"(?:^# .*\n)*\Z", example, re.MULTILINE)
    assert found is not None
    return "".join(line.removeprefix("# ") for line in found.group().splitlines(keepends=True))


def run_example(desk: Path, example: str) -> subprocess.CompletedProcess[str]:
    """A Python example in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", example], cwd=desk, env=environment(desk), capture_output=True, text=True, check=False
    )


def refresh(page: Path) -> None:
    """Write what the page's commands and examples print now; lines that differ in milliseconds only stay."""
    text = page.read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        desk = make_desk(Path(folder))
        for command, shown in sessions(text):
            printed = carry_out(desk, command, shown).stdout
            if [*map(without_times, printed.splitlines())] != [*map(without_times, shown.splitlines())]:
                text = text.replace(f"$ {command}\n{shown}", f"$ {command}\n{printed}", 1)
        for example in blocks(text, "python"):
            shown = shown_output(example)
            commented = "".join(f"# {line}\n" for line in run_example(desk, example).stdout.splitlines())
            if shown:
                body = example[: -len("".join(f"# {line}\n" for line in shown.splitlines()))]
                text = text.replace(example, body + commented, 1)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        refresh(Path(argument))
