"""How many output sites have how many rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spcli.inspect import KeyedRulebook
from spcli.plot.canvas import Colours, PictureOptions, counted, headline, new_figure
from spcli.plot.offsets import kind_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 30


def draw(keyed: KeyedRulebook, options: PictureOptions, colours: Colours) -> Figure:
    """A bar for every number of rules, with its share of the output sites."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    book = keyed.rulebook
    counts = np.bincount(book.out_rows, minlength=len(book.out_indices))
    bars = np.bincount(counts, minlength=2)
    mean = f"{counts.mean():.2f} rules each on average" if len(counts) else "no active output site"
    text = (
        f"{kind_of(book.geometry)}; {counted(len(book.in_rows), 'rule')} into "
        f"{counted(len(counts), 'output site')}, {mean}. "
        "Percentages are shares of the output sites."
    )
    title = headline(options.source, f"{keyed.key}: rules per output site")
    figure = new_figure(max(6.4, 1.2 + 0.34 * min(len(bars), MOST_LABELS)), 3.4, (title, text), colours)
    axes = figure.subplots()
    axes.bar(np.arange(len(bars)), bars, width=0.82, color=colours.first)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(min(len(bars), MOST_LABELS), integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("rules per output site")
    axes.set_ylabel("output sites")
    axes.set_xlim(-0.6, len(bars) - 0.4)
    axes.set_ylim(0, max(1, bars.max()) * 1.18)
    if len(counts):
        _mark(axes, bars, float(counts.mean()), colours)
    return figure


def _mark(axes: Any, bars: NDArray[Any], mean: float, colours: Colours) -> None:
    """The mean as a line, and the share of each bar over it where they fit."""
    axes.axvline(mean, color=colours.second, linewidth=1.4, linestyle=(0, (4, 2)))
    top = axes.get_ylim()[1]
    side = 1 if mean < 0.75 * len(bars) else -1
    axes.annotate(
        f"mean {mean:.2f}", (mean, top), (4 * side, -2), textcoords="offset points", color=colours.second,
        va="top", ha="left" if side > 0 else "right",
    )  # fmt: skip
    if len(bars) > MOST_LABELS:
        return
    for number, sites in enumerate(bars.tolist()):
        share = 100 * sites / bars.sum()
        if share >= 0.05:
            text = f"{share:.0f}" if share >= 9.95 else f"{share:.1f}"
            axes.annotate(
                f"{text}%", (number, sites), (0, 2), textcoords="offset points", ha="center", fontsize=6.5,
                color=colours.faint,
            )  # fmt: skip
