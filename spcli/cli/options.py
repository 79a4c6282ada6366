"""Options that several commands share, each written once, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spcli.cli.console import console
from spcli.errors import UsageError

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # generic in newer versions only

Function = TypeVar("Function", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Numbers(_Type):
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


class VoxelSizes(_Type):
    """Voxel sizes, each one number (a cube) or three: `0.05,0.1x0.1x0.2`, or `0.05;0.1,0.1,0.2` with other joints."""

    name = "sizes"

    def __init__(self, between: str = ",", sides: str = "x") -> None:
        self._between = between
        self._sides = sides

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What may stand there."""
        return f"X{self._sides}Y{self._sides}Z{self._between}..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[float, ...], ...]:
        """The sizes as x, y, z, in the order given."""
        if isinstance(value, tuple):
            return value
        three = self._sides.join(("0.05", "0.05", "0.1"))
        try:
            sizes = tuple(_sides(part.split(self._sides)) for part in str(value).split(self._between))
        except ValueError:
            self.fail(f"{value!r} is no voxel size above 0; write 0.05{self._between}0.1, or {three}.", param, ctx)
        if len(set(sizes)) < len(sizes):
            self.fail(f"{value!r} names a size twice; one voxel of three sides is written {three}.", param, ctx)
        return sizes


def _sides(texts: Sequence[str]) -> tuple[float, ...]:
    """Three sides from three, or from the one of a cube; ValueError where that is not what there is."""
    sides = tuple(map(float, texts))
    if len(sides) not in (1, 3) or not all(0 < side < float("inf") for side in sides):
        raise ValueError("a voxel has one side or three, above 0")
    return sides if len(sides) == 3 else sides * 3


class Cap(_Type):
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


class ColumnsType(_Type):
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


class Words(_Type):
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


def overwrite_option(function: Function) -> Function:
    """`--overwrite`, for commands that write one file."""
    return click.option("--overwrite", is_flag=True, help="Replace a file that is there.")(function)


def check_absent(target: str | None, overwrite: bool) -> None:
    """Refuse to replace a file unasked; `target` None and - are no file.

    Raises:
        UsageError: it is there, and --overwrite is not given.
    """
    import os

    if target is not None and target != "-" and os.path.isfile(target) and not overwrite:
        raise UsageError(f"{target} exists; pass --overwrite or choose another name")


def subcommand(name: str, examples: str) -> Callable[[Function], click.Command]:
    """A command with `-h`, `-v`, `-q`, and examples below its help."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    epilog = f"\b\nExamples:\n{lines}"

    def decorate(function: Function) -> click.Command:
        made: click.Command = click.command(name, context_settings=CONTEXT, epilog=epilog)(verbosity_options(function))
        return made

    return decorate


def verbosity_options(function: Function) -> Function:
    """`-v` and `-q`, counted, before or after the command's name."""
    for names, step, text in (
        (("-q", "--quiet"), -1, "No warnings and no progress bar."),
        (("-v", "--verbose"), 1, "Say more; twice also shows tracebacks."),
    ):
        option = click.option(*names, count=True, expose_value=False, callback=_counter(step), help=text)
        function = option(function)
    return function


def _counter(step: int) -> Callable[[click.Context, click.Parameter, int], None]:
    def count(ctx: click.Context, param: click.Parameter, value: int) -> None:
        console.verbosity += step * value

    return count


def scan_arguments(function: Function) -> Function:
    """SCAN..., and lists of scans in files."""
    function = click.option("-0", "nul", is_flag=True, help="Paths in LIST end with NUL bytes, as find -print0's.")(
        function
    )
    function = click.option(
        "--from-file",
        "lists",
        multiple=True,
        metavar="LIST",
        help="Also take the paths in LIST, one a line; - is stdin.",
    )(function)
    return click.argument("scans", nargs=-1, metavar="SCAN...")(function)


def batch_options(function: Function) -> Function:
    """What to do about results that are there already, scans that are bad, and folders."""
    for option in (
        click.option("--compress", is_flag=True, help="Deflate npz files: smaller, and much slower to write."),
        click.option("--keep-tree", is_flag=True, help="Keep the folders below a given directory."),
        click.option("--fail-fast", is_flag=True, help="Stop at the first scan that cannot be used."),
        click.option("--skip-existing", is_flag=True, help="Leave out scans whose results are there, by digest."),
        click.option("--overwrite", is_flag=True, help="Replace results that are there."),
    ):
        function = option(function)
    return function


def set_option(function: Function) -> Function:
    """`--set`, repeatable."""
    text = "Override a value of the configuration, such as voxelize.max_points=5."
    return click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=text)(function)


def columns_option(function: Function) -> Function:
    """`--columns`."""
    text = "The file's columns, by number or names; found from the points otherwise."
    return click.option("--columns", type=ColumnsType(), help=text)(function)


def device_options(default: str) -> Callable[[Function], Function]:
    """`--device` and `--threads`."""

    def decorate(function: Function) -> Function:
        """Adds the options to a command."""
        function = click.option(
            "--threads", type=click.IntRange(1, 1024), envvar="SPCLI_THREADS", help="Processor threads; all by default."
        )(function)
        return click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default=default,
            envvar="SPCLI_DEVICE",
            show_default=True,
            help="Where to compute.",
        )(function)

    return decorate


def format_option(*formats: str) -> Callable[[Function], Function]:
    """`--format`; without it a terminal gets a table and everything else the command's own default."""
    text = "How to print; a terminal gets a table by default."
    return click.option("--format", "form", type=click.Choice(formats), help=text)
