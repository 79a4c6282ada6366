"""How many rules every output site has, seen from above: of a submanifold layer, its active neighbours and itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from spcli.plot.canvas import Colours, colour_bar, colour_map, counted, headline, new_figure
from spcli.plot.look import Ground, Look
from spcli.plot.offsets import kind_of
from spcli.plot.topdown import frame_around, gathered, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spcli.inspect import KeyedRulebook

PIXELS = 600
LONGEST, SHORTEST, CELL = 6.2, 2.2, 0.5  # inches: of a side, and of a cell at most


def draw(keyed: KeyedRulebook, look: Look, colours: Colours) -> Figure:
    """A heat map of rules an output site, the largest of each column of sites."""
    return _draw(keyed, look, colours, "max")


def draw_mean(keyed: KeyedRulebook, look: Look, colours: Colours) -> Figure:
    """A heat map of rules an output site, the mean of each column of sites."""
    return _draw(keyed, look, colours, "mean")


def _draw(keyed: KeyedRulebook, look: Look, colours: Colours, reduce: Literal["max", "mean"]) -> Figure:
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    book = keyed.rulebook
    counts = np.bincount(book.out_rows, minlength=len(book.out_indices))
    frame = frame_around(book.out_indices, book.out_spatial_shape)
    step = frame.step(PIXELS)
    image = gathered(book.out_indices, counts, frame, step, reduce)
    sides = np.array((frame.x1 - frame.x0, frame.y1 - frame.y0))
    width, height = np.maximum(SHORTEST, np.minimum(LONGEST * sides / sides.max(), CELL * sides))
    title = headline(look.source, f"{keyed.key}: rules of every output site")
    texts = (title, _text(keyed, counts, step, reduce))
    figure = new_figure(max(6.0, width + 1.8), height + 0.6, texts, colours, packed=True)
    axes = figure.subplots()
    norm = Normalize(0, max(1, int(counts.max(initial=0))))
    drawn = show(axes, image, frame, step, (colour_map(colours), norm, ground_of(keyed)))
    if book.geometry.ndim == 2 and ground_of(keyed) is None:
        axes.invert_yaxis()  # images count rows from the top
    label = "rules an output site" + (f" ({reduce})" if step > 1 or book.geometry.ndim == 3 else "")
    colour_bar(figure, drawn, axes, label, ticks=MaxNLocator(8, integer=True))
    return figure


def ground_of(keyed: KeyedRulebook) -> Ground | None:
    """Where the output sites lie, seen from above; None where nothing tells."""
    place = keyed.place
    if place is None:
        return None
    cell = (place.voxel_size[0] * place.out_stride[-1], place.voxel_size[1] * place.out_stride[-2])
    return Ground((place.origin[0], place.origin[1]), cell)


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
