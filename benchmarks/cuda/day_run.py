"""Runs the steps: each a process of its own, with a limit of time at which it is ended with all its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from benchmarks.common.paths import ROOT
from benchmarks.cuda.day_steps import NOT_HERE, REHEARSAL, SUMMARY, Step

PASSED, FAILED, STOPPED, ABSENT = "passed", "FAILED", "STOPPED at its limit", "not here"
RUNNING, NOT_RUN, INTERRUPTED = "running", "not run", "interrupted"
UNDISTURBED = 0.7  # of its time a step has in any case before it is asked to end
ENOUGH = 0.8  # of a step's seconds must be left for it to begin: those before it may have ended a little late
LAST_WAIT = 5.0  # for a process that was killed; one that hangs in a driver may stay


@dataclass
class Outcome:
    """What became of a step.

    Attributes:
        step: the step.
        folder: where its files are.
        state: one of the words above.
        seconds: how long it ran, None where it did not.
        allowed: its limit when it was started.
        summary: what came out, in a sentence.
    """

    step: Step
    folder: Path
    state: str = NOT_RUN
    seconds: float | None = None
    allowed: float = 0.0
    summary: str = ""

    @property
    def log(self) -> Path:
        """Everything the step printed."""
        return self.folder / "log.txt"


class Schedule:
    """Gives every step the time that is its own, and what those before it left."""

    def __init__(self, steps: Sequence[Step], total: float, now: Callable[[], float] = monotonic) -> None:
        self._steps, self._now = list(steps), now
        self._ends = now() + total

    def allowed(self, step: Step) -> float | None:
        """Seconds for `step`, None where there is less left than it needs."""
        left = self._ends - self._now()
        later = sum(each.seconds for each in self._steps[self._steps.index(step) + 1 :])
        return None if left < ENOUGH * step.seconds else max(min(step.seconds, left), left - later)


def run_step(outcome: Outcome, seconds: float, environ: Mapping[str, str]) -> None:
    """Runs the step in at most `seconds` and notes what became of it."""
    outcome.state, outcome.allowed, started = RUNNING, seconds, monotonic()
    command = [sys.executable, "-m", "benchmarks.cuda.child_day", outcome.step.work, str(outcome.folder)]
    try:
        outcome.folder.mkdir(parents=True, exist_ok=True)
        code, stopped = limited(command, (seconds, outcome.step.notice), environ, outcome.log)
    except Exception as error:  # no disk, no memory: the other steps are tried all the same
        outcome.state, outcome.summary = FAILED, f"could not be run: {type(error).__name__}: {error}"
    except BaseException:
        outcome.state = INTERRUPTED
        raise
    else:
        outcome.state = STOPPED if stopped else {0: PASSED, NOT_HERE: ABSENT}.get(code, FAILED)
        outcome.summary = _summary(outcome, code)
    finally:
        outcome.seconds = monotonic() - started


def limited(
    command: Sequence[str], limit: tuple[float, float], environ: Mapping[str, str], log: Path
) -> tuple[int, bool]:
    """A command's exit code, and whether its limit ended it. Nothing that it started is left when this returns.

    Args:
        command: what is started.
        limit: seconds after which it is killed, and how long before that it is interrupted.
        environ: its environment.
        log: the file for its output.
    """
    seconds, notice = limit
    ends = monotonic() + seconds
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(environ), cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
    stopped = False
    try:
        if not _ends_within(process, max(seconds - notice, UNDISTURBED * seconds)):
            stopped = True
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            _ends_within(process, ends - monotonic())
    finally:
        end_family(process)
    return (process.returncode if process.returncode is not None else -signal.SIGKILL), stopped


def end_family(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of a process and of everything that it started."""
    known: set[int] = set()
    for _ in range(10):  # what was started meanwhile is found in the next round
        family = _family(process.pid, known)
        if not family:
            break
        known |= family
        for pid in family:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        _ends_within(process, LAST_WAIT)


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return False
    return True


def _family(leader: int, known: set[int]) -> set[int]:
    """Living processes of the leader's session, and those that they or `known` ones started."""
    table = dict(filter(None, map(_status, filter(str.isdigit, os.listdir("/proc")))))
    family = {pid for pid, (state, _, session) in table.items() if session == leader and state not in "ZX"}
    while True:
        found = {pid for pid, (state, parent, _) in table.items() if parent in family | known and state not in "ZX"}
        if found <= family:
            return family
        family |= found


def _status(pid: str) -> tuple[int, tuple[str, int, int]] | None:
    """A process's number, and its state, parent and session; None where it just ended."""
    try:
        text = Path("/proc", pid, "stat").read_text(encoding="utf-8", errors="replace")
        state, parent, _, session = text.rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return int(pid), (state, int(parent), int(session))


def _summary(outcome: Outcome, code: int) -> str:
    with suppress(OSError):
        return (outcome.folder / SUMMARY).read_text(encoding="utf-8")
    if outcome.state == STOPPED:
        return f"not finished after {outcome.allowed:.0f} s"
    return "" if outcome.state == PASSED else f"ended with status {code}: {last_lines(outcome.log, 1)}"


def last_lines(path: Path, count: int) -> str:
    """The last lines of a file that are not empty at its end; "" where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-count:])


def environment_of(packages: Sequence[Path], kernels: Path, rehearsal: bool) -> dict[str, str]:
    """The environment of every step: this checkout and `packages` are imported, compiled kernels go to `kernels`."""
    places = [ROOT, ROOT / "tests" / "support", *packages]
    before = os.environ.get("PYTHONPATH")
    environ = dict(os.environ)
    environ["PYTHONPATH"] = os.pathsep.join([*map(str, places), *([before] if before else [])])
    environ["PYTHONUNBUFFERED"] = environ["PYTHONFAULTHANDLER"] = "1"
    environ.setdefault("TRITON_CACHE_DIR", str(kernels))
    if rehearsal:
        environ |= {REHEARSAL: "1", "TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1"}
    return environ
