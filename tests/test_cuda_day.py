"""The card's first day: limits, the page and exit codes with stand-in steps, and a rehearsal of the real ones."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common.paths import ROOT
from benchmarks.cuda import day, day_engine, day_page, day_run
from benchmarks.cuda.day import Day, packages_in
from benchmarks.cuda.day_environment import NEEDED as LISTED
from benchmarks.cuda.day_run import ABSENT, FAILED, NOT_RUN, PASSED, RUNNING, STOPPED, Outcome, Schedule, environment_of
from benchmarks.cuda.day_steps import REHEARSAL, STEPS, TOTAL, Step, Task
from benchmarks.cuda.day_tests import Tally, to_the_end
from spcli.doctor import NEEDED
from spcli.engines import device
from spcli.engines.driver import CudaDriver
from standin_steps import (
    finds,
    hangs,
    lacks,
    leaves_a_child,
    needs_a_package,
    passes,
    raises,
    sums_up,
    waits,
)


def step(function: Any, seconds: float = 30, on_card: bool = True) -> Step:
    name = function.__name__
    return Step(name, f"It {name}", seconds, f"standin_steps:{name}", on_card)


@pytest.fixture
def environ() -> dict[str, str]:
    return environment_of([], Path("kernels"), rehearsal=False)


class Ran:
    """A day of stand-in steps."""

    def __init__(self, folder: Path, environ: dict[str, str], *steps: Step, total: float = 600) -> None:
        self.output = folder / "out" / "DAY.md"
        self.code = Day(tuple(steps), self.output, total, environ).run(folder / "work")

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8")

    @property
    def rows(self) -> dict[str, tuple[str, str]]:
        """State and summary by title."""
        cells = re.findall(r"^\| \[?(It \w+)\]?\S* \| \**([^|*]+)\** \| \d* \| (.*) \|$", self.text, re.MULTILINE)
        return {title[3:]: (state.strip(), summary) for title, state, summary in cells}


def survivors(pids: Iterable[str]) -> list[str]:
    """Those that still run; they are ended, so that a failing test leaves nothing behind."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(pid)
            os.kill(int(pid), signal.SIGKILL)
    return found


def test_every_step_survives_the_failure_of_the_others(tmp_path: Path, environ: dict[str, str]) -> None:
    ran = Ran(tmp_path, environ, *map(step, (raises, finds, lacks, needs_a_package, passes)))
    assert ran.rows == {
        "raises": (FAILED, "ended with status 1: ValueError: something broke"),
        "finds": (FAILED, "bits differ"),
        "lacks": (ABSENT, "ncu is not installed"),
        "needs_a_package": (FAILED, "cannot be imported: No module named 'no_such_package'"),
        "passes": (PASSED, "all / well"),
    }
    assert ran.code == 7
    assert "**FAILED: raises, finds, needs_a_package. 1 of 5 steps passed. Not here: lacks.**" in ran.text


def test_a_section_has_the_steps_own_result_and_its_output_only_where_it_failed(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    text = Ran(tmp_path, environ, step(raises), step(passes)).text
    broken, well = text.split("\n## ")[1:]
    assert "so far\n" in broken and "the reason is above" in broken and "ValueError: something broke" in broken
    assert "a table\n### of its own" in well and "output" not in well
    assert text.index("| step |") < text.index("## It raises")


@pytest.fixture
def limit(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Has the limit of a step come when the step says that it is ready, and the end of its warning at once or never."""
    path = tmp_path / "ready"
    os.mkfifo(path)
    pipe, usual = os.open(path, os.O_RDWR), day_run._ends_within
    environ["STANDIN_READY"] = str(path)

    def is_ready(process: object) -> bool:
        assert select.select([pipe], [], [], 60)[0], "the step never became ready"
        return False

    def come(hears: bool) -> None:
        turns = [is_ready] if hears else [is_ready, lambda process: False]
        monkeypatch.setattr(
            day_run, "_ends_within", lambda process, seconds: turns.pop(0)(process) if turns else usual(process, 60)
        )

    yield come
    os.close(pipe)


def test_a_step_that_hangs_is_ended_with_its_children(
    tmp_path: Path, environ: dict[str, str], limit: Callable[[bool], None]
) -> None:
    limit(False)
    ran = Ran(tmp_path, environ, step(hangs))
    assert (ran.code, ran.rows["hangs"][0]) == (7, STOPPED)
    (family,) = re.findall(r"child (\d+), parent (\d+)", ran.text)
    assert survivors(family) == []


@pytest.mark.parametrize("interrupts", [signal.default_int_handler, signal.SIG_IGN], ids=["heard", "ignored"])
def test_a_step_is_asked_to_sum_up_before_its_limit(
    tmp_path: Path, environ: dict[str, str], limit: Callable[[bool], None], interrupts: Any
) -> None:
    """Also where the day runs in the background, whose processes begin with interrupts ignored."""
    limit(True)
    before = signal.signal(signal.SIGINT, interrupts)
    try:
        ran = Ran(tmp_path, environ, step(sums_up))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ran.code, ran.rows) == (7, {"sums_up": (STOPPED, "came to 7 of 9")})


def test_a_limit_is_kept_whatever_the_step_does_and_the_next_step_runs(tmp_path: Path, environ: dict[str, str]) -> None:
    ran = Ran(tmp_path, environ, step(waits, 0.3), step(passes, 60), total=60.3)
    assert [state for state, _ in ran.rows.values()] == [STOPPED, PASSED]
    assert ran.code == 7


def test_what_a_step_leaves_running_is_ended_too(tmp_path: Path, environ: dict[str, str]) -> None:
    ran = Ran(tmp_path, environ, step(leaves_a_child))
    assert (ran.code, ran.rows["leaves_a_child"][0]) == (0, PASSED)
    assert survivors(re.findall(r"child (\d+)", ran.text)) == []


def test_a_step_that_cannot_even_be_started_stops_no_other(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = day_run.limited

    def full(command: Any, limit: Any, environ: Any, log: Path) -> tuple[int, bool]:
        if log.parent.name == "finds":
            raise OSError(28, "No space left on device")
        return usual(command, limit, environ, log)

    monkeypatch.setattr(day_run, "limited", full)
    ran = Ran(tmp_path, environ, step(finds), step(passes))
    assert ran.rows["finds"] == (FAILED, "could not be run: OSError: [Errno 28] No space left on device")
    assert (ran.code, ran.rows["passes"][0]) == (7, PASSED)


def test_steps_that_no_longer_fit_are_not_run_and_say_so(tmp_path: Path, environ: dict[str, str]) -> None:
    ran = Ran(tmp_path, environ, step(passes, 30), step(finds, 500), step(lacks, 10), total=60)
    assert ran.rows["finds"] == (NOT_RUN, "no time left; it needs 500 s")
    assert ran.rows["lacks"][0] == ABSENT
    assert ran.code == 0


def test_without_a_device_the_environment_is_kept_and_the_code_is_3(tmp_path: Path, environ: dict[str, str]) -> None:
    first = Step("environment", "It lacks", 30, "standin_steps:lacks", on_card=False)
    ran = Ran(tmp_path, environ, first, step(raises), step(passes, on_card=False))
    assert ran.code == 3
    assert "**No card: most of the day was not run. 1 of 3 steps passed." in ran.text
    assert ran.rows["raises"] == (NOT_RUN, "there is no CUDA device here")
    assert ran.rows["passes"][0] == PASSED


def test_the_page_is_written_after_every_step(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []
    write = day_page.write

    def noted(path: Path, text: str) -> None:
        write(path, text)
        pages.extend([path.read_text("utf-8")] if path.suffix == ".md" else [])

    monkeypatch.setattr(day_page, "write", noted)
    Ran(tmp_path, environ, step(passes), step(finds))
    states = [re.findall(r"^\| .* \| \**(running|passed|FAILED|not run)\** \|", page, re.MULTILINE) for page in pages]
    assert states[:4] == [[RUNNING, NOT_RUN], [PASSED, NOT_RUN], [PASSED, RUNNING], [PASSED, FAILED]]


def test_a_day_that_is_interrupted_keeps_what_it_had(tmp_path: Path, environ: dict[str, str]) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from benchmarks.cuda import day, day_steps\n"
        "signal.signal(signal.SIGTERM, day._interrupt)\n"
        "names = 'passes', 'interrupts_the_day', 'finds'\n"
        "steps = tuple(day_steps.Step(name, name, 30, f'standin_steps:{name}') for name in names)\n"
        "sys.exit(day.Day(steps, Path(sys.argv[1]), 600, os.environ).run(Path(sys.argv[2])))"
    )
    page = tmp_path / "DAY.md"
    command = [sys.executable, "-c", script, str(page), str(tmp_path / "work")]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "**interrupted: interrupts_the_day. 1 of 3 steps passed. Not run: finds.**" in page.read_text("utf-8")


# The plan


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_day_takes_at_most_ten_minutes_and_no_step_can_take_anothers_time() -> None:
    assert sum(each.seconds for each in STEPS) <= TOTAL <= 590
    assert [each.name for each in STEPS][:4] == ["environment", "engine", "tests", "first-frame"]
    clock = Clock()
    schedule = Schedule(STEPS, TOTAL, clock)
    for each in STEPS:  # all of them hang
        allowed = schedule.allowed(each)
        assert allowed is not None and allowed >= 0.99 * each.seconds
        clock.now += allowed
    assert clock.now <= TOTAL


def test_time_that_a_step_leaves_is_given_to_the_next() -> None:
    clock, steps = Clock(), [step(passes, 10), step(finds, 20), step(lacks, 30)]
    schedule = Schedule(steps, 60, clock)
    assert schedule.allowed(steps[0]) == 10
    clock.now = 4
    assert schedule.allowed(steps[1]) == 26
    clock.now = 40
    assert schedule.allowed(steps[2]) is None


@pytest.mark.parametrize("each", STEPS, ids=lambda each: each.name)
def test_the_function_of_every_step_is_there(each: Step) -> None:
    assert callable(each.function())


def test_the_day_itself_needs_nothing_that_is_installed() -> None:
    """So that it can say what is missing."""
    code = "from benchmarks.cuda import day, child_day, day_environment, day_engine, day_standins; print(day.__doc__)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_packages_that_are_listed_are_those_that_spcli_needs() -> None:
    assert set(LISTED) == {*NEEDED, "torch", "triton"}


def test_wheels_are_unpacked_and_come_before_what_is_installed(tmp_path: Path) -> None:
    given, scratch = tmp_path / "given", tmp_path / "scratch"
    given.mkdir()
    with zipfile.ZipFile(given / "msgspec-9.9-py3-none-any.whl", "w") as wheel:
        wheel.writestr("msgspec/__init__.py", "version = '9.9'")
    (given / "tqdm.py").write_text("version = '8.8'")
    environ = environment_of(packages_in(given, scratch), tmp_path, rehearsal=False)
    code = "import msgspec, tqdm, benchmarks; print(msgspec.version, tqdm.version, benchmarks.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["9.9", "8.8", str(ROOT / "benchmarks" / "__init__.py")]


def test_the_make_target_installs_nothing() -> None:
    command = ["make", "--dry-run", "cuda-day", "PYTHON=/some/python", "DAY_PACKAGES=wheels", "DAY=--rehearse"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environ)
    assert done.stdout.split() == ["/some/python", "-m", "benchmarks.cuda.day", "--packages", "wheels", "--rehearse"]


# Parts of steps


def test_the_recipe_for_the_cpu_engine_is_that_of_cmake() -> None:
    recipe = day_engine.recipe()
    assert "-march=" in " ".join(recipe.libraries["_cpu_base"])
    assert {f"{name}" for name in recipe.sources} == {path.name for path in day_engine.SOURCES.glob("*.cpp")}
    assert "-ffp-contract=off" in recipe.common and recipe.special == {"convolve.cpp": ["-ffp-contract=fast"]}


def test_a_command_that_is_interrupted_is_heard_to_its_end() -> None:
    code = (
        "import os\ntry:\n print(os.getpid(), flush=True)\n os.read(os.pipe()[0], 1)\n"
        "except KeyboardInterrupt: print('3 passed, 1 left')"
    )

    def interrupt(line: str) -> None:
        if line.strip().isdigit():
            for pid in (os.getpid(), int(line)):
                os.kill(pid, signal.SIGINT)

    ended, text = to_the_end([sys.executable, "-IuSc", code], {}, interrupt)
    assert (ended, text.splitlines()[1:]) == (0, ["3 passed, 1 left"])


def test_tests_are_counted_while_they_end(tmp_path: Path) -> None:
    tally = Tally(Task(tmp_path, False))
    for line in (
        "tests/a.py::test_b[FAILED] ",
        "[gw0] [  1%] PASSED tests/a.py::test_b ",
        "[gw1] [  2%] FAILED tests/a.py::test_c ",
        "tests/a.py::test_d PASSED [ 3%]",
        "FAILED tests/a.py::test_c - AssertionError",
    ):
        tally.take(line)
    assert (tmp_path / "summary.txt").read_text("utf-8") == "2 passed, 1 failed, and not all were run"
    assert (tmp_path / "result.md").read_text("utf-8") == "* `[gw1] [  2%] FAILED tests/a.py::test_c`\n"


NCU = """\
==PROF== Connected to process 7
"ID","Process ID","Kernel Name","Block Size","gpu__time_duration.sum","launch__registers_per_thread"
"","","","","ns","register/thread"
"0","7","convolve","(128, 1, 1)","1,500.5","64"
"1","7","void at::native::sort<int, 4>(int*)","(32, 1, 1)","300","n/a"
"2","7","convolve","(128, 1, 1)","2,000","64"
==PROF== Disconnected
"""


def test_launches_are_read_from_the_profilers_table(tmp_path: Path) -> None:
    from benchmarks.cuda.day_timing import kernel_tables, launches_of

    launches = launches_of(NCU)
    assert [launch.kernel[:8] for launch in launches] == ["convolve", "void at:", "convolve"]
    assert launches[0].values["gpu__time_duration.sum"] == 1500.5
    assert np.isnan(launches[1].values["launch__registers_per_thread"])
    assert kernel_tables(Task(tmp_path, False), launches) == "convolve 4 µs, sort 0 µs of 4"
    assert "| convolve | 2 | 3.5 |" in (tmp_path / "result.md").read_text("utf-8")
    assert launches_of("==ERROR== nothing") == []


def test_frames_that_differ_from_their_scans_first_are_named() -> None:
    from benchmarks.cuda.day_frames import flights

    class Session:
        """Gives the scan back; the eighth frame is spoilt."""

        depth = 3

        def __init__(self) -> None:
            self.flying: dict[int, np.ndarray] = {}

        def __enter__(self) -> Session:
            return self

        def __exit__(self, *error: object) -> None: ...

        def submit(self, scan: np.ndarray) -> int:
            self.flying[len(self.flying)] = scan
            assert len(self.flying) <= 12
            return len(self.flying) - 1

        def result(self, ticket: int) -> Any:
            scan = self.flying[ticket] + (1 if ticket == 7 else 0)
            tensor = type("Tensor", (), {"indices": scan, "features": scan})
            return type("Result", (), {"features": tensor})

    running: Any = Session()
    assert flights(running, [np.full(3, seed) for seed in range(3)], 12) == [7]


def test_the_short_result_of_a_benchmark_has_the_peer_and_the_floor() -> None:
    from benchmarks.cuda.day_timing import in_short
    from benchmarks.cuda.report import FrameResult, Measures

    measures = {"spcli float16": Measures({"total": 3e-4}), "spconv float16": Measures({"total": 1e-3})}
    measures |= {"spcli tf32": Measures({"total": 5e-4}), "spconv tf32": Measures({"network": 1e-3})}
    floors = {dtype: {"total": 1e-4} for dtype in ("float16", "tf32", "float32")}
    result = FrameResult("net on a.bin", (1, 1, 1), 0.0, [], measures, floors)
    assert in_short(result) == "a.bin, ms: float16 0.300 (spconv 1.000, floor 0.100), tf32 0.500 (floor 0.100)"


def test_a_pipe_in_a_summary_does_not_break_the_table(tmp_path: Path) -> None:
    outcome = Outcome(step(passes), tmp_path, PASSED, 1.0, 2.0, "a | b")
    (row,) = (line for line in day_page.page([outcome], 1, False).splitlines() if "It passes]" in line)
    assert row.count("|") == 5


# The rehearsal


def rehearse(tmp_path: Path, words: Sequence[str]) -> tuple[int, str]:
    page = tmp_path / "DAY.md"
    command = [sys.executable, "-m", "benchmarks.cuda.day", "--rehearse", "--output", str(page), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, page.read_text("utf-8") if page.exists() else done.stderr


def test_the_first_step_is_rehearsed_with_a_stand_in_for_the_card(tmp_path: Path) -> None:
    """From the command to the page. What takes longer is rehearsed in the long runs."""
    code, text = rehearse(tmp_path, ["--only", "environment"])
    assert code == 0, text
    assert "**1 of 1 steps rehearsed.**" in text and "**A rehearsal without a card.**" in text
    assert "\n* card: Stand-in card, sm_90, 1 MiB, driver 0.0" in text
    assert f"| numpy | {np.__version__} |" in text
    assert "cuda-day-" not in text.split("## ")[0]


def test_a_step_on_frames_is_rehearsed_in_this_process(
    cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.cuda.day_frames import broken_capture

    monkeypatch.setenv(REHEARSAL, "1")
    monkeypatch.setattr(device, "ask_driver", lambda: CudaDriver(True, 1))
    broken_capture(Task(tmp_path, rehearsal=True))
    assert "`RuntimeError: broken on purpose`" in (tmp_path / "result.md").read_text("utf-8")
    assert (tmp_path / "summary.txt").read_text("utf-8").startswith("the next capture works")


@pytest.mark.soak
def test_the_whole_day_is_rehearsed(cuda: Any, tmp_path: Path) -> None:
    code, text = rehearse(tmp_path, [])
    assert code == 0, text
    assert f"**{len(STEPS)} of {len(STEPS)} steps rehearsed.**" in text


def test_the_command_line_says_what_the_day_is() -> None:
    given = day.arguments([])
    assert (given.rehearse, given.only, given.total, given.output) == (False, None, None, day.DAY)
