"""The steps of the first day on a card, and what each of them is given. Imports nothing that has to be installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

REHEARSAL = "SPCLI_DAY_REHEARSAL"
NOT_HERE = 3  # how the process of a step ends where the machine lacks what the step is about
FACTS, RESULT, SUMMARY = "facts.md", "result.md", "summary.txt"


class NotHere(Exception):
    """The machine lacks what a step is about; the message names it."""


class Wrong(Exception):
    """A step found what must not be; the message says what."""


@dataclass(frozen=True)
class Task:
    """What a step is given.

    Attributes:
        folder: the step's own; what it writes there besides the three files of the page is thrown away.
        rehearsal: no card: few frames of a tiny scan, in Triton's interpreter.
    """

    folder: Path
    rehearsal: bool

    def say(self, *lines: str) -> None:
        """More lines of Markdown for the step's section; they are kept even if the step ends early."""
        self.add("".join(f"{line}\n" for line in lines))

    def add(self, text: str) -> None:
        """More text for the section, as it comes."""
        with (self.folder / RESULT).open("a", encoding="utf-8") as file:
            file.write(text)

    def conclude(self, sentence: str) -> None:
        """What came out, for the table at the top; a later call replaces it."""
        (self.folder / SUMMARY).write_text(" ".join(sentence.split()), encoding="utf-8")


@dataclass(frozen=True)
class Step:
    """One row of the table.

    Attributes:
        name: for the command line and links.
        title: what it is called on the page.
        seconds: the time it is sure to get; what earlier steps leave is added.
        work: module and function, called with a `Task`.
        on_card: whether there is nothing to do for it without a card.
        notice: how many seconds before its limit it is asked to end, so that it can say how far it came.
    """

    name: str
    title: str
    seconds: float
    work: str
    on_card: bool = True
    notice: float = 3.0

    def function(self) -> Callable[..., None]:
        """The function, imported; its module may need packages that are missing."""
        module, _, name = self.work.partition(":")
        found: Callable[..., None] = getattr(import_module(module), name)
        return found


HERE = "benchmarks.cuda"
# In the order of their worth. The seconds add up to less than ten minutes, so that no step can take another's time.
STEPS = (
    Step("environment", "The machine", 20, f"{HERE}.day_environment:environment", on_card=False),
    Step("engine", "The CPU engine, compiled where it is missing", 40, f"{HERE}.day_engine:engine", on_card=False),
    Step("tests", "The CUDA engine's tests on the card", 150, f"{HERE}.day_tests:tests", notice=20),
    Step("first-frame", "First frames of all presets, checked", 85, f"{HERE}.day_tests:first_frames", notice=6),
    Step("ptxas", "Another ptxas, equal bits", 40, f"{HERE}.day_frames:other_assembler"),
    Step("races", "1,000 frames, three different scans in flight", 25, f"{HERE}.day_frames:races"),
    Step("sanitizer", "Every kernel under compute-sanitizer", 50, f"{HERE}.day_tests:sanitizer"),
    Step("batch", "200 scans that force captures, a busy writer", 30, f"{HERE}.day_frames:batch"),
    Step("capture", "A capture that breaks, and the next", 15, f"{HERE}.day_frames:broken_capture"),
    Step("second", "second-kitti beside spconv and floors", 30, f"{HERE}.day_timing:second"),
    Step("centerpoint", "centerpoint-nuscenes at 0.075 m", 25, f"{HERE}.day_timing:centerpoint"),
    Step("minkunet", "minkunet-semantickitti", 30, f"{HERE}.day_timing:minkunet"),
    Step("ncu", "The three dearest kernels under ncu", 25, f"{HERE}.day_timing:kernels"),
)
TOTAL = 570.0


def is_rehearsal() -> bool:
    """Whether this process belongs to a rehearsal."""
    return os.environ.get(REHEARSAL) == "1"
