"""The first day of the CUDA engine on a card, in one command of at most ten minutes: `make cuda-day`.

Prints one line per step, and writes one page of Markdown (benchmarks/cuda/DAY.md): a verdict, the machine, a table of
steps with what came out, then each step's own results. The page is written anew after every step, so an interrupted
day leaves what it had. The steps, in the order of their worth:

{steps}

Every step is a process of its own with a limit of time; it is ended there with everything it started, and the others
go on. Time that a step leaves is given to those after it. Nothing is installed and no network is used: the Python that
runs this is the one that is tested, with the spcli of this checkout. A folder of wheels or unpacked packages can be
given with --packages.

With --rehearse there is no need for a card: Triton's interpreter and stand-ins for the driver and for NVIDIA's tools
take every step through a tiny scan.

The exit code is 0 where every step that ran passed, 7 where one did not, 3 where there is no CUDA device, 130 where
the day was interrupted.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import NoReturn

from benchmarks.common.paths import ROOT
from benchmarks.cuda import day_page, day_standins
from benchmarks.cuda.day_run import ABSENT, PASSED, RUNNING, Outcome, Schedule, environment_of, run_step
from benchmarks.cuda.day_steps import STEPS, TOTAL, Step

DAY = Path(__file__).with_name("DAY.md")
KEPT = ROOT / "build" / "cuda-day"  # compiled kernels, for another day on the same machine
BAD, NO_DEVICE, INTERRUPTED = 7, 3, 130


@dataclass(frozen=True)
class Day:
    """One run.

    Attributes:
        steps: what is done, in order.
        output: the page.
        total: seconds for all steps.
        environ: of every step's process.
        rehearsal: whether no card is needed.
    """

    steps: tuple[Step, ...]
    output: Path
    total: float
    environ: Mapping[str, str]
    rehearsal: bool = False

    def run(self, folder: Path) -> int:
        """Every step, its files in `folder`; gives the exit code."""
        started, schedule = monotonic(), Schedule(self.steps, self.total)
        outcomes = [Outcome(step, folder / step.name) for step in self.steps]

        def keep() -> None:
            day_page.write(self.output, day_page.page(outcomes, monotonic() - started, self.rehearsal))
            day_page.write_log(self.output.with_suffix(".log"), outcomes)

        try:
            for outcome in outcomes:
                self._step(outcome, schedule, keep, not_here(outcomes))
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            keep()
        if not_here(outcomes):
            return NO_DEVICE
        good = all(outcome.state in (PASSED, ABSENT) for outcome in outcomes if outcome.seconds is not None)
        return 0 if good else BAD

    def _step(self, outcome: Outcome, schedule: Schedule, keep: Callable[[], None], no_card: bool) -> None:
        seconds = schedule.allowed(outcome.step)
        if no_card and outcome.step.on_card:
            outcome.summary = "there is no CUDA device here"
        elif seconds is None:
            outcome.summary = f"no time left; it needs {outcome.step.seconds:.0f} s"
        else:
            outcome.state = RUNNING
            keep()
            run_step(outcome, seconds, self.environ)
        took = "" if outcome.seconds is None else f" in {outcome.seconds:.0f} s"
        print(f"{outcome.step.name}: {outcome.state}{took}. {outcome.summary}", flush=True)
        keep()


def not_here(outcomes: Sequence[Outcome]) -> bool:
    """Whether the environment step found no card."""
    return any(outcome.step.name == "environment" and outcome.state == ABSENT for outcome in outcomes)


def packages_in(folder: Path, scratch: Path) -> list[Path]:
    """Where packages can be imported from: the folder itself, and its wheels unpacked."""
    wheels = sorted(folder.glob("*.whl"))
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as file:
            file.extractall(scratch)
    return [folder.resolve(), *([scratch] if wheels else [])]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    width = max(len(step.name) for step in STEPS)
    table = "\n".join(f"    {step.name:{width}}  {step.title} ({step.seconds:.0f} s)" for step in STEPS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda.day",
        description=(__doc__ or "").format(steps=table),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [step.name for step in STEPS]
    parser.add_argument("--rehearse", action="store_true", help="without a card, see above")
    parser.add_argument(
        "--only", action="append", choices=names, metavar="STEP", help="only this step (again for more)"
    )
    parser.add_argument("--output", type=Path, default=DAY, help="the page (default benchmarks/cuda/DAY.md)")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="wheels or unpacked packages to import from")
    total = f"seconds for all steps (default {TOTAL:.0f}, ten times that in a rehearsal)"
    parser.add_argument("--total", type=float, help=total)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the day and say where its page is."""
    given = arguments(words)
    signal.signal(signal.SIGTERM, _interrupt)
    steps = tuple(step for step in STEPS if given.only is None or step.name in given.only)
    scratch = Path(tempfile.mkdtemp(prefix="cuda-day-"))
    try:
        packages = packages_in(given.packages, scratch / "packages") if given.packages else []
        environ = environment_of(packages, KEPT / "kernels", given.rehearse)
        if given.rehearse:
            environ = day_standins.make(scratch / "bin", environ)
        total = given.total or (10 * TOTAL if given.rehearse else TOTAL)  # an interpreter is slow
        code = Day(steps, given.output.resolve(), total, environ, given.rehearse).run(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"written: {given.output}")
    return code


def _interrupt(number: int, frame: object) -> NoReturn:
    """Ending the day from outside is an interrupt, too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
