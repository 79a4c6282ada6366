"""Rules of every kernel offset: a cube of slices, each a heat map with its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spcli.geometry import ConvGeometry
from spcli.inspect import KeyedRulebook
from spcli.plot.canvas import (
    Colours,
    PictureOptions,
    colour_bar,
    colour_map,
    compact,
    counted,
    headline,
    new_figure,
    readable_on,
    write_inside,
)
from spcli.rulebook import Rulebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IN_A_ROW = 4
LARGE_CELL, SMALL_CELL = 0.72, 0.42  # inches
FULL_NUMBERS = 3
"""The widest kernel whose cells hold whole numbers; those of wider ones are shortened."""


def draw(keyed: KeyedRulebook, options: PictureOptions, colours: Colours) -> Figure:
    """One heat map over y and x for every z of the kernel, on one scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    book = keyed.rulebook
    counts = np.diff(book.pair_splits).astype(np.float64)
    size = (1, *book.geometry.kernel_size)[-3:]
    columns = min(size[0], MOST_IN_A_ROW)
    rows = -(-size[0] // columns)
    cell = LARGE_CELL if size[2] <= FULL_NUMBERS else SMALL_CELL
    width = max(6.0, columns * (size[2] * cell + 0.5) + 1.3)
    texts = (headline(options.source, f"{keyed.key}: rules by kernel offset"), _text(keyed))
    figure = new_figure(width, rows * (size[1] * cell + 0.75), texts, colours, packed=True)
    panels = figure.subplots(rows, columns, squeeze=False)
    scale = ScalarMappable(Normalize(*_limits(counts, book.geometry)), colour_map(colours))
    for index, axes in enumerate(panels.flat):
        if index < size[0]:
            _slice(axes, _coloured(counts, book.geometry).reshape(size)[index], scale, colours)
            _write(axes, counts.reshape(size)[index], scale, (book.geometry.submanifold, colours))
            _name_axes(axes, book.geometry, index)
        else:
            axes.set_axis_off()
    ticks = {"ticks": MaxNLocator(6, integer=True), "format": StrMethodFormatter("{x:,.0f}")}
    colour_bar(figure, scale, panels, "rules", **ticks)
    return figure


def _coloured(counts: Any, geometry: ConvGeometry) -> Any:
    """The counts that the scale is for: without a submanifold kernel's centre, which joins every site to itself."""
    shown = counts.copy()
    if geometry.submanifold and len(counts) > 1:
        shown[len(counts) // 2] = np.nan
    return shown


def _limits(counts: Any, geometry: ConvGeometry) -> tuple[float, float]:
    shown = _coloured(counts, geometry)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    return (low, high) if low < high else (max(0.0, low - 1), max(1.0, high))


def _text(keyed: KeyedRulebook) -> str:
    book = keyed.rulebook
    centre = " The centre joins every site to itself and is left out of the scale." if book.geometry.submanifold else ""
    return f"{kind_of(book.geometry)}; {sizes_of(book)}. A cell holds the rules through that offset.{centre}"


def _slice(axes: Any, shown: Any, scale: Any, colours: Colours) -> None:
    axes.imshow(np.ma.masked_invalid(shown), cmap=scale.cmap, norm=scale.norm)
    axes.set_xticks(np.arange(shown.shape[1] - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(shown.shape[0] - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=colours.paper, linewidth=1.2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _write(axes: Any, counts: Any, scale: Any, style: tuple[bool, Colours]) -> None:
    """The numbers, readable on their cells."""
    submanifold, colours = style
    wide = counts.shape[1] > FULL_NUMBERS
    for y, x in np.ndindex(counts.shape):
        number = int(counts[y, x])
        label = compact(number) if wide else f"{number:,}"
        beyond = number > scale.norm.vmax and submanifold
        colour = colours.blank if beyond else scale.to_rgba(number)
        size = 6.5 if wide else 8.5
        write_inside(axes, x, y, label, fontsize=size, color=readable_on(colour))


def _name_axes(axes: Any, geometry: ConvGeometry, index: int) -> None:
    """Ticks and titles count offsets from the kernel's centre, as rules do."""
    low = [-((side - 1) // 2) for side in geometry.kernel_size]
    sides = geometry.kernel_size
    axes.set_xticks(range(sides[-1]), range(low[-1], low[-1] + sides[-1]))
    axes.set_yticks(range(sides[-2]), range(low[-2], low[-2] + sides[-2]))
    axes.set_xlabel("x offset")
    axes.set_ylabel("y offset")
    if geometry.ndim == 3:
        axes.set_title(f"z offset {low[0] + index}")


def kind_of(geometry: ConvGeometry) -> str:
    """A geometry in words, as titles give it."""
    kind = "Submanifold" if geometry.submanifold else "Transposed" if geometry.transposed else "Regular"
    parts = [f"{kind} convolution, kernel {_times(geometry.kernel_size)}"]
    if not geometry.submanifold:
        parts += [f"stride {_times(geometry.stride)}", f"padding {_times(geometry.padding)}"]
    if set(geometry.dilation) != {1}:
        parts.append(f"dilation {_times(geometry.dilation)}")
    return ", ".join(parts)


def sizes_of(book: Rulebook) -> str:
    """A rulebook's sizes in words."""
    ends = f"{counted(len(book.in_indices), 'input site')} to {counted(len(book.out_indices), 'output site')}"
    return f"{counted(len(book.in_rows), 'rule')} from {ends}"


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
