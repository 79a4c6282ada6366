"""Steps that start commands: the tests, the check of first frames, NVIDIA's checker of memory accesses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks.common.paths import ROOT
from benchmarks.cuda.day_environment import tool
from benchmarks.cuda.day_steps import NotHere, Task, Wrong

DTYPES = ("float16", "tf32", "bfloat16", "float32")
# What only a card can show comes first.
TESTS = ("tests/engines/test_cuda_device.py", "tests/cli/test_cuda.py", "tests/test_golden.py", "tests/engines")
CHOSEN = {False: "cuda", True: "cuda and slack"}  # by rehearsal: one small test there
PROCESSES = 8  # more do not fit beside each other's memory tests


def tests(task: Task) -> None:
    """The CUDA engine's tests, in several processes where pytest can. At the limit pytest is asked to sum up.

    Raises:
        NotHere: there is no pytest.
        Wrong: a test failed, or there was no time for all.
    """
    for name in ("pytest", "hypothesis"):
        if find_spec(name) is None:
            raise NotHere(f"{name} cannot be imported")
    command = [sys.executable, "-m", "pytest", *TESTS, "-v", "-k", CHOSEN[task.rehearsal], "-p", "no:cacheprovider"]
    count = min(PROCESSES, len(os.sched_getaffinity(0)))
    if find_spec("xdist") is not None:
        command += ["-p", "xdist.plugin", "-n", str(count), "--dist", "load"]
    task.say(f"`pytest {' '.join(command[3:])}`", "")
    # Plugins that others installed are none of this project's; their warnings would be errors here.
    code, text = to_the_end(command, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, Tally(task).take)
    summed_up = re.findall(r"^=+ (.*?) =+$", text, re.MULTILINE)
    sentence = summed_up[-1] if summed_up else f"pytest ended with status {code}"
    task.say("", *(f"* `{line}`" for line in re.findall(r"^SKIPPED .*$", text, re.MULTILINE)))
    if code:
        raise Wrong(sentence)
    task.conclude(sentence)


class Tally:
    """Counts tests while they end, so that a step that is killed has said how far it came."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._counts: Counter[str] = Counter()

    def take(self, line: str) -> None:
        """One line of pytest's."""
        found = re.search(r"\b(PASSED|FAILED|ERROR|SKIPPED)\b", line)
        if found is None or "%]" not in line:
            return
        self._counts[found[1].lower()] += 1
        if found[1] in ("FAILED", "ERROR"):
            self._task.say(f"* `{line.strip()}`")
        counts = ", ".join(f"{count} {word}" for word, count in self._counts.items())
        self._task.conclude(f"{counts}, and not all were run")


def to_the_end(
    command: Sequence[str], environ: Mapping[str, str], each: Callable[[str], object] = lambda line: None
) -> tuple[int, str]:
    """A command's exit code and output, which is passed on line by line."""
    lines = []
    with interrupts_passed_on(), subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | environ, cwd=ROOT,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
            each(line)
    return process.returncode, "".join(lines)


@contextmanager
def interrupts_passed_on() -> Iterator[None]:
    """An interrupt, which all processes of a step get, is left to the commands; this process goes on after them."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # unlike "ignore", not handed on to a command
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def first_frames(task: Task) -> None:
    """`spcli doctor --warmup` for every number format at once, which also compiles what later steps use.

    Raises:
        Wrong: one of them ended with an error.
    """
    commands = {
        dtype: [sys.executable, "-m", "spcli", "doctor", "--warmup", "--dtype", dtype, "--format", "table"]
        for dtype in DTYPES
    }
    if task.rehearsal:  # whole presets would take the interpreter hours
        child = [sys.executable, "-m", "benchmarks.cuda.child_day", "benchmarks.cuda.day_frames:warmed"]
        commands = {dtype: [*child, str(task.folder), dtype] for dtype in DTYPES[-2:]}
    ended = together(commands, task.folder)
    shown: set[str] = set()
    for dtype, (code, text) in ended.items():
        new = [line for line in text.splitlines() if line not in shown]
        shown.update(new)
        task.say(
            f"{dtype}: {'passed' if code == 0 else f'**ended with status {code}**'}", "", "```text", *new, "```", ""
        )
    bad = [dtype for dtype, (code, _) in ended.items() if code]
    if bad:
        raise Wrong(f"not passed: {', '.join(bad)}")
    counts = [re.search(r"(\d+) kernels compiled", text) for _, text in ended.values()]
    compiled = f"; {sum(int(count[1]) for count in counts if count)} kernels compiled" if any(counts) else ""
    task.conclude(f"passed in {', '.join(ended)}{compiled}")


def together(
    commands: Mapping[str, Sequence[str]], folder: Path, environs: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, tuple[int, str]]:
    """Exit code and output of commands that run at the same time, by label."""
    logs = {label: folder / f"{label}.txt" for label in commands}
    running = {}
    for label, command in commands.items():
        more = (environs or {}).get(label, {})
        with logs[label].open("wb") as output:
            running[label] = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | more, cwd=ROOT
            )
    with interrupts_passed_on():
        codes = {label: process.wait() for label, process in running.items()}
    texts = {label: log.read_text(encoding="utf-8", errors="replace") for label, log in logs.items()}
    for label, text in texts.items():
        print(f"--- {label}: status {codes[label]}", text, sep="\n")
    return {label: (codes[label], texts[label]) for label in commands}


def sanitizer(task: Task) -> None:
    """Frames step by step under `compute-sanitizer`, every tensor an allocation of its own.

    Raises:
        NotHere: the checker is not installed.
        Wrong: it found something, or did not finish.
    """
    path = tool("compute-sanitizer")
    if path is None:
        raise NotHere("compute-sanitizer is not installed")
    child = [sys.executable, "-m", "benchmarks.cuda.child_day", "benchmarks.cuda.day_frames:every_kernel"]
    command = [path, "--tool", "memcheck", "--error-exitcode", "9", *child, str(task.folder)]
    code, text = to_the_end(command, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    found = re.findall(r"ERROR SUMMARY: (\d+) error", text)
    if code or found != ["0"]:
        raise Wrong(f"{found[-1] if found else 'unknown number of'} errors, status {code}")
    task.conclude("no bad access in any kernel of second-kitti and of a network of all layer types")
