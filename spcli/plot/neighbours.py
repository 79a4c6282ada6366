"""How many rules every output site has, seen from above: of a submanifold layer, its active neighbours and itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from spcli.inspect import KeyedRulebook
from spcli.plot.canvas import Colours, PictureOptions, colour_bar, colour_map, counted, headline, new_figure
from spcli.plot.offsets import kind_of
from spcli.plot.topdown import gathered, rectangle_around, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS = 600
LONGEST, SHORTEST, CELL = 6.2, 2.2, 0.5  # inches: of a side, and of a cell at most


def draw(keyed: KeyedRulebook, options: PictureOptions, colours: Colours) -> Figure:
    """A heat map of rules per output site, the largest of each column of sites."""
    return _draw(keyed, options, colours, "max")


def draw_mean(keyed: KeyedRulebook, options: PictureOptions, colours: Colours) -> Figure:
    """A heat map of rules per output site, the mean of each column of sites."""
    return _draw(keyed, options, colours, "mean")


def _draw(keyed: KeyedRulebook, options: PictureOptions, colours: Colours, reduce: Literal["max", "mean"]) -> Figure:
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    book = keyed.rulebook
    counts = np.bincount(book.out_rows, minlength=len(book.out_indices))
    part = rectangle_around(book.out_indices, book.out_spatial_shape)
    step = part.step(PIXELS)
    image = gathered(book.out_indices, counts, part, step, reduce)
    sides = np.array((part.x1 - part.x0, part.y1 - part.y0))
    width, height = np.maximum(SHORTEST, np.minimum(LONGEST * sides / sides.max(), CELL * sides))
    title = headline(options.source, f"{keyed.key}: rules of every output site")
    texts = (title, _text(keyed, counts, step, reduce))
    figure = new_figure(max(6.0, width + 1.8), height + 0.6, texts, colours, packed=True)
    axes = figure.subplots()
    norm = Normalize(0, max(1, int(counts.max(initial=0))))
    drawn = show(axes, image, part, step, (colour_map(colours), norm, keyed.out_placement))
    if book.geometry.ndim == 2 and keyed.out_placement is None:
        axes.invert_yaxis()  # images count rows from the top
    label = "rules per output site" + (f" ({reduce})" if step > 1 or book.geometry.ndim == 3 else "")
    colour_bar(figure, drawn, axes, label, ticks=MaxNLocator(8, integer=True))
    return figure


def _text(keyed: KeyedRulebook, counts: np.ndarray, step: int, reduce: str) -> str:
    book = keyed.rulebook
    if not len(counts):
        return f"{kind_of(book.geometry)}; no active output site."
    alone = int((counts <= 1).sum())
    numbers = (
        f"{counted(len(counts), 'output site')}, {counts.mean():.2f} rules each on average, {counts.max()} at most; "
        f"{alone:,} with a single one"
    )
    pixels = f"; a pixel is {step} x {step} cells" if step > 1 else ""
    over = f"The {reduce} over z is shown" if book.geometry.ndim == 3 else "Every cell is shown"
    return f"{kind_of(book.geometry)}; {numbers}. {over}{pixels}."
