"""The page of the first day: verdict, machine, one row a step, then a section for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cuda.day_run import ABSENT, FAILED, INTERRUPTED, NOT_RUN, PASSED, RUNNING, STOPPED, Outcome, last_lines
from benchmarks.cuda.day_steps import FACTS, RESULT

LINES = 40
BAD = (FAILED, STOPPED, INTERRUPTED)
REHEARSED = (
    "**A rehearsal without a card.** Triton's interpreter and stand-ins for the driver and NVIDIA's tools went through "
    "every step with tiny scans: no number here says anything about a card."
)


def page(outcomes: Sequence[Outcome], seconds: float, rehearsal: bool) -> str:
    """All of it as Markdown; it can be made at any moment of the day."""
    passed, came_out = ("rehearsed", "what came out of stand-ins") if rehearsal else (PASSED, "what came out")
    lines = ["# The first day on a card", "", f"**{verdict(outcomes, passed)}** {seconds:.0f} s in all.", ""]
    if rehearsal:
        lines += [REHEARSED, ""]
    lines += [_facts(outcomes), "", f"| step | state | s | {came_out} |", "|---|---|--:|---|"]
    lines += [_row(outcome, passed) for outcome in outcomes]
    for outcome in outcomes:
        if outcome.seconds is not None:
            lines += ["", *_section(outcome)]
    return "\n".join(lines) + "\n"


def verdict(outcomes: Sequence[Outcome], word: str = PASSED) -> str:
    """One line: what failed, or that nothing did, and what was not tried."""
    named = {state: [each.step.name for each in outcomes if each.state == state] for state in (*BAD, RUNNING)}
    no_card = outcomes[0].step.name == "environment" and outcomes[0].state == ABSENT
    parts = ["No card: most of the day was not run."] if no_card else []
    parts += [f"{state}: {', '.join(names)}." for state, names in named.items() if names]
    passed = sum(outcome.state == PASSED for outcome in outcomes)
    parts.append(f"{passed} of {len(outcomes)} steps {word}.")
    for state in (ABSENT, NOT_RUN):
        names = [outcome.step.name for outcome in outcomes if outcome.state == state]
        parts += [f"{state.capitalize()}: {', '.join(names)}."] if names else []
    return " ".join(parts)


def _facts(outcomes: Sequence[Outcome]) -> str:
    for outcome in outcomes:
        path = outcome.folder / FACTS
        if path.exists():
            return path.read_text(encoding="utf-8").rstrip()
    return "* machine: not known (yet)"


def _row(outcome: Outcome, passed: str) -> str:
    state = passed if outcome.state == PASSED else outcome.state
    state = f"**{state}**" if outcome.state in BAD else state
    seconds = "" if outcome.seconds is None else f"{outcome.seconds:.0f}"
    title = f"[{outcome.step.title}](#{outcome.step.name})" if seconds else outcome.step.title
    return f"| {title} | {state} | {seconds} | {outcome.summary.replace('|', '/')} |"


def _section(outcome: Outcome) -> list[str]:
    head = f"{outcome.state}, {outcome.seconds:.1f} s of at most {outcome.allowed:.0f}"
    lines = [f'<a id="{outcome.step.name}"></a>', "", f"## {outcome.step.title}", "", f"{head}. {outcome.summary}", ""]
    result = outcome.folder / RESULT
    if result.exists():
        # Headings of a step's own page stand below the step's.
        text = result.read_text(encoding="utf-8").rstrip()
        lines += [f"##{line}" if line.startswith("#") else line for line in text.splitlines()]
    if outcome.state in BAD or not result.exists():
        told = last_lines(outcome.log, LINES).replace("```", "'''")
        lines += ["", "The end of its output:", "", "```text", told, "```"] if told else []
    return lines


def write(path: Path, text: str) -> None:
    """Writes the file whole or leaves it as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def write_log(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Everything that the steps printed, one after another."""
    parts = []
    for outcome in outcomes:
        if outcome.log.exists():
            text = outcome.log.read_text(encoding="utf-8", errors="replace")
            parts.append(f"===== {outcome.step.name}: {outcome.state}\n{text}\n")
    write(path, "".join(parts))
