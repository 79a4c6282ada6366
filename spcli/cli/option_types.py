"""The types of options' values: numbers of axes, sizes, caps, columns, words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic in newer versions only


class Numbers(ParamType):
    """Comma-separated numbers: `0.05,0.05,0.1`."""

    name = "numbers"

    def __init__(self, kind: type[float] | type[int], counts: tuple[int, ...], axes: str) -> None:
        self._kind = kind
        self._counts = counts
        self._axes = axes

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The axes, in their order."""
        return self._axes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers as a tuple."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self._kind(part) for part in str(value).strip("[]()").split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts:
            self.fail(f"{value!r} is not {self._axes}, numbers joined by commas.", param, ctx)
        return numbers


class VoxelSize(ParamType):
    """The sides of a voxel in metres: `0.05,0.05,0.1`, or one number for a cube."""

    name = "voxel size"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The axes, in their order."""
        return "X,Y,Z"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Three sides."""
        if isinstance(value, tuple):
            return value
        try:
            sides = tuple(map(float, str(value).split(",")))
        except ValueError:
            sides = ()
        if len(sides) not in (1, 3):
            self.fail(f"{value!r} is no voxel size: give X,Y,Z in metres, or one number for a cube.", param, ctx)
        return sides if len(sides) == 3 else sides * 3


class Cap(ParamType):
    """A whole number from 1, or `none`."""

    name = "cap"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What may stand there."""
        return "N|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value as YAML text."""
        if str(value) in ("none", "null"):
            return "null"
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a whole number from 1 nor 'none'.", param, ctx)
        return str(int(value))


class ColumnsType(ParamType):
    """A number of columns, or their names joined by commas."""

    name = "columns"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What may stand there."""
        return "N|NAMES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[str, ...]:
        """A number, or names."""
        if isinstance(value, tuple):
            return value
        if str(value).isdecimal():
            if not 3 <= int(value) <= 7:
                self.fail(f"{value} columns: a scan has 3 to 7.", param, ctx)
            return int(value)
        names = tuple(name.strip() for name in str(value).split(","))
        if len(names) < 3 or not all(names):
            self.fail(f"{value!r} is neither a number nor names such as x,y,z,intensity.", param, ctx)
        return names


class Words(ParamType):
    """Words joined by commas, each one of a few."""

    name = "words"

    def __init__(self, *choices: str) -> None:
        self._choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """All the words."""
        return ",".join(self._choices)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The words that were given, in the table's order."""
        words = value if isinstance(value, tuple) else tuple(str(value).split(","))
        for word in words:
            if word not in self._choices:
                self.fail(f"{word!r} is not one of {', '.join(self._choices)}.", param, ctx)
        return tuple(choice for choice in self._choices if choice in words)
