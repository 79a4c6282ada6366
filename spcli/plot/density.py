"""Active sites from above, one panel per set of sites: how they spread, thin out and grow from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spcli.plot.canvas import Colours, PictureOptions, colour_bar, colour_map, counted, headline, new_figure
from spcli.plot.sites import SiteSet
from spcli.plot.topdown import Rectangle, gathered, rectangle_around, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS = 300
PANEL = 2.9  # inches
MOST_NAMES = 2


def draw(sets: Sequence[SiteSet], options: PictureOptions, colours: Colours) -> Figure:
    """The share of active cells under every pixel, all panels on one logarithmic scale and over the same area."""
    from matplotlib.colors import LogNorm

    parts = _parts(sets)
    images = [_density(one, part) for one, part in zip(sets, parts, strict=True)]
    lowest = min((float(np.nanmin(image)) for image in images if np.isfinite(image).any()), default=0.1)
    paint = (colour_map(colours), LogNorm(min(lowest, 0.5), 1.0))
    columns = max(1, min(len(sets), 4 if len(sets) > 6 else 3))
    rows = max(1, -(-len(sets) // columns))
    ratio = (parts[0].y1 - parts[0].y0) / (parts[0].x1 - parts[0].x0) if parts else 1.0
    height = rows * (PANEL * min(1.6, max(0.3, ratio)) + 1.0)
    texts = (headline(options.source, "active sites from above, layer by layer"), _text(sets))
    figure = new_figure(max(6.0, columns * (PANEL + 0.5) + 0.8), height, texts, colours, packed=True)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(sets) :]:
        axes.set_axis_off()
    for axes, one, part, image in zip(panels.flat, sets, parts, images, strict=False):
        drawn = show(axes, image, part, part.step(PIXELS), (*paint, one.placement))
        axes.set_title(_name(one, sets[0]), loc="left", fontsize=8.5)
    if sets:
        _scale(figure, drawn, panels)
    return figure


def _scale(figure: Figure, drawn: Any, panels: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    percent = FuncFormatter(lambda share, _: f"{100 * share:.3g} %")
    label = "active share of the cells under a pixel"
    bar = colour_bar(figure, drawn, panels, label, ticks=LogLocator(10), format=percent, aspect=40)
    bar.minorticks_off()


def _parts(sets: Sequence[SiteSet]) -> list[Rectangle]:
    """For each set the cells of the area that any of them covers, which is a share of the grid."""
    shares = []
    for one in sets:
        own = rectangle_around(one.indices, one.spatial_shape, 0)
        height, width = one.spatial_shape[-2:]
        if len(one.indices):
            shares.append((own.x0 / width, own.x1 / width, own.y0 / height, own.y1 / height))
    if not shares:
        return [rectangle_around(one.indices, one.spatial_shape) for one in sets]
    low, high = np.min(shares, axis=0), np.max(shares, axis=0)
    return [_part(one.spatial_shape, (low[0], high[1], low[2], high[3])) for one in sets]


def _part(shape: tuple[int, ...], share: tuple[float, float, float, float]) -> Rectangle:
    height, width = shape[-2:]
    x0, y0 = int(np.floor(share[0] * width)), int(np.floor(share[2] * height))
    return Rectangle(
        x0,
        max(x0 + 1, min(width, int(np.ceil(share[1] * width)))),
        y0,
        max(y0 + 1, min(height, int(np.ceil(share[3] * height)))),
    )


def _density(one: SiteSet, part: Rectangle) -> NDArray[np.float64]:
    """Active sites over cells, pixel by pixel; cells of all scans of a batch and of all heights are counted."""
    step = part.step(PIXELS)
    counts = gathered(one.indices, np.ones(len(one.indices)), part, step, "sum")
    depth = one.batch_size * (one.spatial_shape[0] if len(one.spatial_shape) == 3 else 1)
    rows = np.minimum(step, part.y1 - part.y0 - step * np.arange(counts.shape[0]))
    columns = np.minimum(step, part.x1 - part.x0 - step * np.arange(counts.shape[1]))
    cells: NDArray[np.float64] = depth * rows[:, None] * columns[None, :]
    return counts / cells


def _name(one: SiteSet, first: SiteSet) -> str:
    names = ", ".join(one.layers[:MOST_NAMES])
    if len(one.layers) > MOST_NAMES:
        names += f" and {len(one.layers) - MOST_NAMES} more"
    cells = one.batch_size * int(np.prod(one.spatial_shape, dtype=object))
    density = 100 * len(one.indices) / cells if cells else 0.0
    grid = "x".join(map(str, one.spatial_shape))
    grown = f", {len(one.indices) / len(first.indices):.2f} of the input" if len(first.indices) else ""
    return f"{names}\n{counted(len(one.indices), 'site')}{grown}\ngrid {grid}, {density:.3g} % active"


def _text(sets: Sequence[SiteSet]) -> str:
    if not sets:
        return "No set of sites: the network has no rulebook."
    scans = f" of {sets[0].batch_size} scans together" if sets[0].batch_size > 1 else ""
    return (
        f"{counted(len(sets), 'set')} of active sites{scans}, in network order; layers that share their "
        "sites share a panel. All panels show the same ground; brighter is fuller, on one logarithmic scale."
    )
