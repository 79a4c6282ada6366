"""Options that reach a command as one struct."""

from __future__ import annotations

import click
from click.testing import CliRunner
from msgspec import Struct

from spcli.cli.options import grouped
from spcli.errors import UsageError


class Meal(Struct, frozen=True):
    dishes: tuple[str, ...]
    guests: int

    def __post_init__(self) -> None:
        if not self.dishes:
            raise UsageError("no dish")


def made(*arguments: str) -> tuple[object, list[object]]:
    """What the command returns or raises, and what it was called with."""
    seen: list[object] = []

    @click.command()
    @click.argument("place")
    @grouped(
        "meal",
        Meal,
        click.option("--dish", "dishes", multiple=True),
        click.option("--guests", type=int, default=2, help="How many."),
    )
    @click.option("--loud", is_flag=True)
    def command(place: str, meal: Meal, loud: bool) -> None:
        seen.extend([place, meal, loud])

    result = CliRunner().invoke(command, list(arguments))
    return result.exception or result.output, seen


def test_the_command_gets_the_struct_and_its_other_arguments():
    assert made("here", "--dish", "a", "--dish", "b", "--loud")[1] == ["here", Meal(("a", "b"), 2), True]
    assert made("here", "--dish", "a", "--guests", "5")[1] == ["here", Meal(("a",), 5), False]


def test_the_struct_may_refuse_its_values():
    error, seen = made("here")
    assert isinstance(error, UsageError) and not seen


def test_help_lists_the_options_in_their_order():
    text = str(made("--help")[0])
    assert text.index("--dish") < text.index("--guests") < text.index("--loud")
    assert "How many." in text
