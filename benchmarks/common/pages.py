"""A page of results: printed while they come, and kept as markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.paths import ROOT


@dataclass(frozen=True)
class Check:
    """One comparison of features: relative L2, infinite where the sites differ."""

    what: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether it is within what is allowed."""
        return self.error <= self.allowed


class Page:
    """Collects lines; each is printed as soon as it is known.

    Attributes:
        failed: whether any check of features did.
    """

    def __init__(self) -> None:
        self.failed = False
        self._lines: list[str] = []

    def checks(self, checks: Sequence[Check]) -> None:
        """One line per comparison."""
        for check in checks:
            verdict = "ok" if check.passed else "FAILED"
            self.failed |= not check.passed
            self._say(f"* {check.what}: relative L2 {check.error:.1e}, allowed {check.allowed:.0e}: {verdict}")

    def absent(self, reasons: Sequence[str]) -> None:
        """Says who took no part."""
        self._say(*(f"* not measured: {reason}" for reason in reasons))

    def markdown(self) -> str:
        """Everything said."""
        return "\n".join(self._lines) + "\n"

    def finish(self, path: Path | None) -> int:
        """Writes the page where `path` says, and gives the exit code: 7 where a check failed."""
        if path is not None:
            path.write_text(self.markdown(), encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}", file=sys.stderr)
        return 7 if self.failed else 0

    def _say(self, *lines: str) -> None:
        for line in lines:
            print(line, flush=True)
            self._lines.append(line)
