"""From dotted keys to what a user can go to: a line of the file, or the override that set the value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from spcli.config.yaml_text import Path
from spcli.errors import Problem


class Locations(Struct):
    """Where the values of a configuration came from.

    Attributes:
        lines: path in the file to line.
        layers: a layer's key, `layers.NAME` or `layers[N]`, to its path.
        labels: key to the override that set it.
    """

    lines: dict[Path, int] = {}
    layers: dict[str, Path] = {}
    labels: dict[str, str] = {}

    def locate_all(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems with their locations, in file order; those of a repeat's iterations are given once."""
        located = [self.locate(problem) for problem in problems]
        first = {(p.line, p.message) if p.line else (p.key, p.message): p for p in reversed(located)}
        return sorted(first.values(), key=lambda p: (p.line is None, p.line or 0, p.key))

    def locate(self, problem: Problem) -> Problem:
        """One problem with its line, or with the override to blame."""
        if problem.line is not None:
            return problem
        for key, label in self.labels.items():
            if problem.key == key or problem.key.startswith((key + ".", key + "[")):
                return Problem(f"{problem.message} ({label})", problem.key)
        return Problem(problem.message, problem.key, self.line(self._path(problem.key)))

    def line(self, path: Path) -> int | None:
        """The line of the longest part of `path` that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path) if path else None

    def _path(self, key: str) -> Path:
        owners = [layer for layer in self.layers if key == layer or key.startswith(layer + ".")]
        if not owners:
            return tuple(_steps(key))
        owner = max(owners, key=len)
        return (*self.layers[owner], *_steps(key[len(owner) + 1 :]))


def _steps(key: str) -> Iterator[str | int]:
    """`features[1].scale` as `features`, 1, `scale`."""
    for part in key.split("."):
        name, bracket, position = part.rstrip("]").partition("[")
        if bracket and position.isdecimal():
            yield from (name, int(position))
        else:
            yield part
