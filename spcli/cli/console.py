"""Everything that goes to standard error: messages by level, the traceback of `-vv`, the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

QUIET, NORMAL, VERBOSE, DEBUG = -1, 0, 1, 2


class Console:
    """Standard error. `verbosity` counts `-v` up and `-q` down; errors are always printed."""

    def __init__(self) -> None:
        self.verbosity = NORMAL
        self._bar: Any = None

    def error(self, text: str) -> None:
        """What made the command, or one scan, fail."""
        self._say(f"spcli: error: {text}")

    def warn(self, text: str) -> None:
        """What the user should know though the command goes on; silent with `-q`."""
        if self.verbosity > QUIET:
            self._say(f"spcli: warning: {text}")

    def note(self, text: str) -> None:
        """What some users want to know: shown with `-v`."""
        if self.verbosity >= VERBOSE:
            self._say(f"spcli: {text}")

    def traceback(self) -> None:
        """Where the exception that is being handled came from: shown with `-vv`."""
        if self.verbosity >= DEBUG:
            import traceback

            self._say(traceback.format_exc().rstrip())

    def _say(self, text: str) -> None:
        # A closed standard error must not change what the command does.
        with suppress(OSError, ValueError, AttributeError), self.above_bar():
            sys.stderr.write(text.encode(errors="backslashreplace").decode() + "\n")
            sys.stderr.flush()

    @contextmanager
    def above_bar(self) -> Iterator[None]:
        """Space on the terminal for lines above the progress bar."""
        if self._bar is not None:
            self._bar.clear()
        try:
            yield
        finally:
            if self._bar is not None:
                self._bar.refresh()

    @contextmanager
    def progress(self, total: int) -> Iterator[Any]:
        """A function that counts one scan; draws a bar where standard error is a terminal and there are many."""
        if total < 2 or self.verbosity <= QUIET or sys.stderr is None or not sys.stderr.isatty():
            yield lambda: None
            return
        from tqdm import tqdm

        with tqdm(total=total, unit="scan", leave=False) as self._bar:
            try:
                yield self._bar.update
            finally:
                self._bar, bar = None, self._bar
                bar.close()


console = Console()
