"""`--plot` and what belongs to it, shared by the commands that draw."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal

import click
from msgspec import Struct

from spcli.cli.options import Function, check_absent, grouped, overwrite_option
from spcli.cli.views.render import json_line, write_line
from spcli.errors import UsageError
from spcli.inspect import KeyedRulebook, Where
from spcli.plot import PictureOptions, check_target, plot_rulebook

SCHEMA = "spcli.plot/1"


class PlotChoices(Struct, frozen=True):
    """The picture and its file, None for none; and whether files that are there may be replaced."""

    plot: str | None
    picture: str | None
    theme: Literal["light", "dark"] | None
    overwrite: bool

    def __post_init__(self) -> None:
        if self.plot is not None:
            check_target(self.plot)
        check_absent(self.plot, self.overwrite)
        for name, value in (("picture", self.picture), ("theme", self.theme)):
            if value is not None and self.plot is None:
                raise UsageError(f"--{name} belongs to --plot; give --plot FILE too, or leave it out")


def plot_options(*pictures: str) -> Callable[[Function], Function]:
    """`--plot FILE`, `--picture` (one of `pictures`), `--theme` and `--overwrite`, as the argument `plot`."""
    return grouped(
        "plot",
        PlotChoices,
        click.option("--plot", metavar="FILE", help="Draw into this .png, .svg or .pdf (extra [plot])."),
        click.option("--picture", type=click.Choice(pictures), help="What to draw; what fits by default."),
        click.option("--theme", type=click.Choice(["light", "dark"]), help="Of the picture; light by default."),
        overwrite_option,
    )


def draw_rulebook(books: Sequence[KeyedRulebook], plot: PlotChoices, source: str, output: Where | None) -> None:
    """Draw the one rulebook there is into `plot.plot`, and print a record of it; `output` is what to explain.

    Raises:
        UsageError: there are several, or as `plot_rulebook`.
    """
    assert plot.plot is not None
    if len(books) != 1:
        known = ", ".join(keyed.key for keyed in books) or "none"
        raise UsageError(f"--plot draws one rulebook and there are {known}; choose with --key")
    focus = {} if output is None else {"out": output}
    name = plot_rulebook(plot.plot, books[0], plot.picture, picture_options(plot, source), **focus)
    record = {"schema": SCHEMA, "source": source, "key": books[0].key, "picture": name, "output": plot.plot}
    write_line(json_line(record))


def picture_options(plot: PlotChoices, source: str) -> PictureOptions:
    """The theme, and a title that names the source."""
    return PictureOptions(plot.theme or "light", os.path.basename(source.rstrip("/")) or source)
