"""Grids seen from above: sites reduced over z into pixels that a picture can show."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.placement import Placement

Reduce = Literal["max", "mean", "sum"]


class Rectangle(Struct, frozen=True):
    """The part of a plane that is shown, in cells: x0, x1, y0, y1, the upper ends being excluded."""

    x0: int
    x1: int
    y0: int
    y1: int

    def step(self, pixels: int) -> int:
        """Cells that a pixel spans along either axis, so that neither takes more than `pixels`."""
        return max(1, -(-max(self.x1 - self.x0, self.y1 - self.y0) // pixels))


def rectangle_around(indices: NDArray[np.int32], shape: tuple[int, ...], margin: int = 1) -> Rectangle:
    """The rectangle of `shape` that holds all of `indices` `[N, 1 + D]`, with a margin; a whole grid without sites."""
    height, width = shape[-2:]
    if not len(indices):
        return Rectangle(0, max(1, width), 0, max(1, height))
    low, high = indices[:, -2:].min(axis=0), indices[:, -2:].max(axis=0) + 1
    return Rectangle(
        max(0, int(low[1]) - margin),
        min(width, int(high[1]) + margin),
        max(0, int(low[0]) - margin),
        min(height, int(high[0]) + margin),
    )


def gathered(
    indices: NDArray[np.int32], values: NDArray[Any], part: Rectangle, step: int, reduce: Reduce
) -> NDArray[np.float64]:
    """`values` `[N]` of `indices` `[N, 1 + D]` reduced into pixels `[rows, columns]` (y, x); NaN where no site is."""
    rows, columns = -(-(part.y1 - part.y0) // step), -(-(part.x1 - part.x0) // step)
    y, x = (indices[:, -2].astype(np.int64) - part.y0) // step, (indices[:, -1].astype(np.int64) - part.x0) // step
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    pixel, values = (y * columns + x)[inside], values[inside].astype(np.float64)
    image = np.full(rows * columns, np.nan)
    number = np.bincount(pixel, minlength=rows * columns)
    hit = number > 0
    if reduce == "max":
        image[hit] = -np.inf
        np.maximum.at(image, pixel, values)
    else:
        total = np.bincount(pixel, values, rows * columns)
        image[hit] = total[hit] / (number[hit] if reduce == "mean" else 1)
    return image.reshape(rows, columns)


def show(
    axes: Any, image: NDArray[np.float64], part: Rectangle, step: int, style: tuple[Any, Any, Placement | None]
) -> Any:
    """Draw pixels where their cells lie; `style` is the colour map, the norm and where sites lie in metres.

    Without the latter cells are counted, and a whole number is the middle of a cell.
    """
    from matplotlib.ticker import MaxNLocator

    cmap, norm, placement = style
    x1, y1 = part.x0 + image.shape[1] * step, part.y0 + image.shape[0] * step
    shown = placement or Placement.in_cells(2)
    (ox, oy), (dx, dy) = shown.origin[:2], shown.cell[:2]
    extent = (ox + part.x0 * dx, ox + x1 * dx, oy + part.y0 * dy, oy + y1 * dy)
    drawn = axes.imshow(image, origin="lower", extent=extent, cmap=cmap, norm=norm, interpolation="nearest")
    axes.set_xlim(extent[0], ox + part.x1 * dx)
    axes.set_ylim(extent[2], oy + part.y1 * dy)
    unit = "m" if placement else "cells"
    for axis in (axes.xaxis, axes.yaxis) if not placement else ():
        axis.set_major_locator(MaxNLocator(7, integer=True))
    axes.set_xlabel(f"x ({unit})")
    axes.set_ylabel(f"y ({unit})")
    return drawn
