"""What can go wrong, one class and one exit code per cause.

Every failure a user can cause is raised as a `SpcliError` whose message is one sentence: what, where, what to do next.
The command line prints it and ends with `exit_code`; anything else that escapes is a bug in spcli (exit 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class SpcliError(Exception):
    """Root of all expected failures; `exit_code` is what the command ends with."""

    exit_code: ClassVar[int] = 1


class UsageError(SpcliError):
    """The command line asks for something that cannot be done, such as two inputs with one output (exit 2)."""

    exit_code = 2


class DeviceError(SpcliError):
    """A device, compiled part or optional package that was asked for is missing (exit 3)."""

    exit_code = 3


class EngineError(DeviceError):
    """An engine cannot do its work on a device that is there; another engine may (exit 3)."""


class InputError(SpcliError):
    """A scan, tensor or dump is not what it should be (exit 4)."""

    exit_code = 4


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a configuration file.

    `line` counts from 1 and is None where the value did not come from a file; `key` is the dotted path, such as
    `layers.conv2_down.kernel_size`; `message` says what is wrong and what would be right.
    """

    message: str
    key: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.key) if part)
        return f"{place}: {self.message}" if place else self.message


class ConfigError(SpcliError):
    """A configuration is wrong; carries every problem found, not only the first (exit 5)."""

    exit_code = 5

    def __init__(self, problems: tuple[Problem, ...] | list[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        start = f"{source}: " if source else ""
        super().__init__("\n".join(f"{start}{problem}" for problem in self.problems))


class CheckpointError(SpcliError):
    """Weights do not fit the network; the message names every missing, unknown or misshapen parameter (exit 6)."""

    exit_code = 6


class CheckFailed(SpcliError):
    """A check the user asked for did not pass (exit 7)."""

    exit_code = 7


def suggestion(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one of `choices` is close to `word`, else nothing."""
    from difflib import get_close_matches  # on a mistake only

    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), by_lower, 1, 0.6)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
