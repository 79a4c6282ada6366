"""How active sites, multiply-adds and memory depend on the voxel size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from spcli.plot.canvas import Colours, PictureOptions, compact, counted, headline, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
CURVES = (("sites", "active sites", "first", "o"), ("macs", "multiply-adds (MACs)", "second", "s"),
          ("bytes", "memory (bytes)", "third", "^"))  # fmt: skip


def draw(rows: Sequence[Row], options: PictureOptions, colours: Colours) -> Figure:
    """Three curves over the voxel size, both axes logarithmic, each point with its number."""
    rows = sorted(rows, key=_edge)
    alike = len({_edge(row) for row in rows}) < len(rows)
    sizes = [_mean_edge(row) if alike else _edge(row) for row in rows]
    cubes = all(_mean_edge(row) == _edge(row) for row in rows)
    name = "edge of a cube as large (m)" if alike else "voxel size (m)" if cubes else "voxel size in x (m)"
    ends = dict.fromkeys(_label(row) for row in (*rows[:1], *rows[-1:]))
    spread = f", {' to '.join(ends)} m (x, y, z)" if rows else ""
    texts = (
        headline(options.source, "cost against voxel size"),
        f"{counted(len(rows), 'voxel size')}{spread}; logarithmic axes.",
    )
    figure = new_figure(10.2, 3.2, texts, colours)
    for axes, (key, title, colour, marker) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(name)
        points = [(size, float(row[key])) for size, row in zip(sizes, rows, strict=True) if row.get(key)]
        if points:
            _curve(axes, points, (getattr(colours, colour), marker), colours)
            axes.set_xticks(sizes, [f"{size:.3g}" for size in sizes])
    return figure


def _curve(axes: Any, points: Sequence[tuple[float, float]], style: tuple[str, str], colours: Colours) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.plot(*zip(*points, strict=True), color=style[0], marker=style[1], linewidth=1.6, markersize=5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(axis="y", linewidth=0.6, alpha=0.7)
    axes.margins(x=0.14, y=0.16)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value).replace(".0", "")))
    for size, value in points:
        axes.annotate(
            compact(value), (size, value), (5, 4), textcoords="offset points", fontsize=7.5, color=colours.ink
        )


def _sides(row: Row) -> tuple[float, ...]:
    size = row["voxel_size"]
    return (float(size),) * 3 if isinstance(size, int | float) else tuple(map(float, size))


def _edge(row: Row) -> float:
    return _sides(row)[0]


def _mean_edge(row: Row) -> float:
    """The edge of the cube that is as large as the voxel."""
    sides = _sides(row)
    return sides[0] if len(set(sides)) == 1 else float(prod(sides) ** (1 / len(sides)))


def _label(row: Row) -> str:
    return " x ".join(f"{side:g}" for side in _sides(row))
