"""Pictures of rulebooks, active sites and costs: `.png`, `.svg` or `.pdf`, drawn by matplotlib (extra `[plot]`).

    spcli.plot.plot_rulebook("k.png", keyed)                       # the picture that fits its size
    spcli.plot.plot_rulebook("o.svg", keyed, picture="offsets", options=PictureOptions("dark", "scan.bin"))
    spcli.plot.plot_sites("s.png", spcli.plot.site_sets(result.network, result.frame))
    spcli.plot.plot_layers("l.png", result.stats["layers"])
    spcli.plot.plot_sweep("w.pdf", [{"voxel_size": [0.1, 0.1, 0.1], "sites": 9, "macs": 99, "bytes": 999}, ...])

A picture is one module with `draw(what, options, colours)` that gives a figure, and one line in `PICTURES`. Nothing
is left behind in matplotlib's global state, and equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from spcli.errors import UsageError
from spcli.inspect import KeyedRulebook
from spcli.plot.canvas import PictureOptions, check_target, styled, write_figure
from spcli.plot.sites import SiteSet, site_sets

__all__ = [
    "LAYER_PICTURES", "PICTURES", "RULEBOOK_PICTURES", "PictureOptions", "SiteSet", "check_target", "plot_layers",
    "plot_rulebook", "plot_sites", "plot_sweep", "site_sets",
]  # fmt: skip

PICTURES = {
    "kernel": ("spcli.plot.kernel", "the kernel over the grid, and which inputs feed which outputs"),
    "offsets": ("spcli.plot.offsets", "rules of every kernel offset, slice by slice"),
    "neighbours": ("spcli.plot.neighbours", "rules of every output site from above, the largest over z"),
    "neighbours-mean": ("spcli.plot.neighbours:draw_mean", "the same, the mean over z"),
    "histogram": ("spcli.plot.histogram", "how many output sites have how many rules"),
    "sites": ("spcli.plot.density", "active sites from above, layer by layer"),
    "layers": ("spcli.plot.layers", "sites, density, rules per output and multiply-adds of every layer"),
    "sweep": ("spcli.plot.sweep", "sites, multiply-adds and memory against voxel size"),
}
"""Name to module (and function, where it is not `draw`) and what is seen."""

RULEBOOK_PICTURES = ("kernel", "offsets", "neighbours", "neighbours-mean", "histogram")
LAYER_PICTURES = ("sites", "layers")

SMALL_GRID, FEW_RULES = 12, 40


def plot_rulebook(
    path: str, keyed: KeyedRulebook, picture: str | None = None, options: PictureOptions | None = None, **focus: Any
) -> str:
    """Draw one rulebook and write it to `path`; gives the picture's name.

    Args:
        path: ends in .png, .svg or .pdf.
        keyed: the rulebook and its key.
        picture: one of `RULEBOOK_PICTURES`; None draws the kernel over a grid that is small enough to be read, and
            the offsets of any other.
        options: theme and name of the scan.
        focus: for `kernel`: `out`, the output site to explain (a row, `[batch,]z,y,x` or metres), or `z`, the slice.

    Raises:
        UsageError: the suffix or picture is unknown, the site is not active, or the file cannot be written.
        DeviceError: matplotlib is not installed.
    """
    name = picture or _fitting(keyed)
    if name not in RULEBOOK_PICTURES:
        raise UsageError(f"--picture {name}: rulebooks have {', '.join(RULEBOOK_PICTURES)}")
    _plot(path, name, keyed, options, **focus)
    return name


def plot_sites(path: str, sets: Sequence[SiteSet], options: PictureOptions | None = None) -> None:
    """Draw where sites are active, layer by layer, from above, and write it to `path`; errors as `plot_rulebook`.

    `site_sets` makes the sets of a run.
    """
    _plot(path, "sites", sets, options)


def plot_layers(path: str, layers: Sequence[Mapping[str, Any]], options: PictureOptions | None = None) -> None:
    """Draw the `layers` of a `spcli.stats/1` object as bars and write them to `path`; errors as `plot_rulebook`."""
    _plot(path, "layers", layers, options)


def plot_sweep(path: str, rows: Sequence[Mapping[str, Any]], options: PictureOptions | None = None) -> None:
    """Draw sites, multiply-adds and memory against voxel size and write it to `path`; errors as `plot_rulebook`.

    Args:
        path: ends in .png, .svg or .pdf.
        rows: one per voxel size, with `voxel_size` (metres x, y, z, or one number), `sites`, `macs` and `bytes`.
        options: theme and name of the scan.
    """
    _plot(path, "sweep", rows, options)


def _plot(path: str, name: str, shown: Any, options: PictureOptions | None, **focus: Any) -> None:
    """Have the picture's module draw in its theme, and write what it gives."""
    check_target(path)
    options = options or PictureOptions()
    with styled(options.theme) as colours:
        module, _, function = PICTURES[name][0].partition(":")
        draw = getattr(import_module(module), function or "draw")
        write_figure(path, draw(shown, options, colours, **focus))


def _fitting(keyed: KeyedRulebook) -> str:
    book = keyed.rulebook
    small = max((*book.in_spatial_shape[-2:], *book.out_spatial_shape[-2:])) <= SMALL_GRID
    return "kernel" if small and book.geometry.ndim == 2 and len(book.in_rows) <= FEW_RULES else "offsets"
