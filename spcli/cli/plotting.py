"""`--plot` and what belongs to it, shared by the commands that draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spcli.cli.options import check_absent, overwrite_option
from spcli.errors import UsageError

if TYPE_CHECKING:
    from spcli.inspect import KeyedRulebook
    from spcli.pipeline.session import RunResult
    from spcli.plot import PictureOptions

Function = TypeVar("Function", bound=Callable[..., Any])

SCHEMA = "spcli.plot/1"


def plot_options(*pictures: str) -> Callable[[Function], Function]:
    """`--plot FILE`, `--picture` (one of `pictures`) and `--theme`."""

    def decorate(function: Function) -> Function:
        """Adds the options to a command."""
        for option in (
            overwrite_option,
            click.option("--theme", type=click.Choice(["light", "dark"]), help="Of the picture; light by default."),
            click.option("--picture", type=click.Choice(pictures), help="What to draw; what fits by default."),
            click.option(
                "--plot", metavar="FILE", callback=_checked, help="Draw into this .png, .svg or .pdf (extra [plot])."
            ),
        ):
            function = option(function)
        return function

    return decorate


def _checked(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse a file that cannot become a picture before anything is computed."""
    if value is not None:
        from spcli.plot import check_target

        check_target(value)
    return value


def check_plot(options: Mapping[str, Any]) -> None:
    """Refuse `--picture` and `--theme` where nothing is drawn, and a picture that is there.

    Raises:
        UsageError: one of them is given without `--plot`; the file exists and `--overwrite` is not given.
    """
    check_absent(options["plot"], options["overwrite"])
    for name in ("picture", "theme"):
        if options[name] is not None and options["plot"] is None:
            raise UsageError(f"--{name} belongs to --plot; give --plot FILE too, or leave it out")


def draw_rulebook(rulebooks: Sequence[KeyedRulebook], options: Mapping[str, Any], source: str) -> None:
    """Draw the one rulebook of `--key` into `options["plot"]`, and print a record of it.

    Raises:
        UsageError: there are several, or as `plot_rulebook`.
    """
    from spcli.inspect import choose
    from spcli.plot import plot_rulebook

    rulebooks = choose(rulebooks, options["keys"])
    if len(rulebooks) != 1:
        known = ", ".join(keyed.key for keyed in rulebooks) or "none"
        raise UsageError(f"--plot draws one rulebook and there are {known}; choose with --key")
    focus = {"out": options["outputs"]} if options.get("outputs") else {}
    keyed = rulebooks[0]
    name = plot_rulebook(options["plot"], keyed, options["picture"], _picture_options(options, source), **focus)
    _print_record(options["plot"], name, source, keyed.key)


def draw_layers(
    stats: Mapping[str, Any], options: Mapping[str, Any], source: str, result: RunResult | None = None
) -> None:
    """Draw `--picture sites` (needs `result`) or `layers` into `options["plot"]`; sites where both can be drawn.

    Raises:
        UsageError: sites are asked for and there is no run, or as `plot_sites`.
    """
    from spcli.plot import plot_layers, plot_sites, site_sets

    picture = options["picture"] or ("layers" if result is None else "sites")
    if picture == "sites":
        if result is None:
            raise UsageError(f"--picture sites: {source} holds numbers only; give the scan and --config FILE")
        plot_sites(options["plot"], site_sets(result.network, result.frame), _picture_options(options, source))
    else:
        plot_layers(options["plot"], stats["layers"], _picture_options(options, source))


def draw_sweep(rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any], source: str) -> None:
    """Draw a sweep over voxel sizes into `options["plot"]`; `rows` as `spcli.plot.plot_sweep` takes them."""
    from spcli.plot import plot_sweep

    plot_sweep(options["plot"], rows, _picture_options(options, source))


def _picture_options(options: Mapping[str, Any], source: str) -> PictureOptions:
    import os

    from spcli.plot import PictureOptions

    return PictureOptions(options["theme"] or "light", os.path.basename(source.rstrip("/")) or source)


def _print_record(path: str, picture: str, source: str, key: str) -> None:
    from spcli.cli.views.render import json_line, write_line

    write_line(json_line({"schema": SCHEMA, "source": source, "key": key, "picture": picture, "output": path}))
