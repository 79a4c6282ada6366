"""What every command is made of: its help and verbosity, and options that reach it as values of one struct."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click

from spcli.cli.console import console
from spcli.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def subcommand(name: str, examples: str, cls: type[click.Command] = click.Command) -> Callable[[Function], Any]:
    """A command with `-h`, `-v`, `-q`, and examples below its help."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    epilog = f"\b\nExamples:\n{lines}"

    def decorate(function: Function) -> click.Command:
        return click.command(name, cls, context_settings=CONTEXT, epilog=epilog)(verbosity_options(function))

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


def grouped(name: str, struct: type[Any], *options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Options whose values reach the command as one struct, in its argument `name`.

    Args:
        name: the argument of the command.
        struct: a class whose fields have the names of the options' values; it may refuse what does not go together.
        options: the decorators of click that declare the options.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def command(**values: Any) -> Any:
            made = struct(**{field: values.pop(field) for field in struct.__struct_fields__})
            return function(**values, **{name: made})

        for option in reversed(options):
            option(command)
        return cast(Function, command)

    return decorate


def overwrite_option(function: Function) -> Function:
    """`--overwrite`, for commands that write one file."""
    return click.option("--overwrite", is_flag=True, help="Replace a file that is there.")(function)


def format_option(*formats: str) -> Callable[[Function], Function]:
    """`--format`; without it a terminal gets a table and everything else the command's own default."""
    text = "How to print; a terminal gets a table by default."
    return click.option("--format", "form", type=click.Choice(formats), help=text)


def check_absent(target: str | None, overwrite: bool) -> None:
    """Refuse to replace a file unasked; `target` None and - are no file.

    Raises:
        UsageError: it is there, and --overwrite is not given.
    """
    if target is not None and target != "-" and os.path.isfile(target) and not overwrite:
        raise UsageError(f"{target} exists; pass --overwrite or choose another name")
