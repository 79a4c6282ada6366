"""The drawing of the literature: the kernel laid over the grid at one site, and the rules that follow from it.

Rules point from left to right: the inputs are left. For most convolutions they are the field under the kernel and one
output looks at them; for a transposed one a single input is spread over the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spcli.inspect import KeyedRulebook, Where
from spcli.plot.canvas import Colours, PictureOptions, counted, headline, new_figure, readable_on, write_inside
from spcli.plot.kernel_at_site import KernelAtSite, Panel, kernel_at_site, panels_of, rows_in
from spcli.plot.offsets import kind_of, sizes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELLS = (0.6, 0.5, 0.34)
"""Inches of a cell where one slice is drawn, a few, many."""
MOST_LISTED = 40
"""The most rules that are all listed; of more, those of the one site only."""
LONGEST = 8.0  # inches of a grid
MOST_ARROWS, MOST_TICKS = 16, 24
MOST_IN_A_COLUMN = 3
MOST_TERMS, MOST_SOURCES = 4, 3
LINE, TABLE_WIDTH, GAP = 0.19, 2.3, 0.7  # inches


def draw(
    keyed: KeyedRulebook, options: PictureOptions, colours: Colours, out: Where | None = None, z: int | None = None
) -> Figure:
    """The kernel over the grid at one site.

    Args:
        keyed: the rulebook.
        options: theme and title.
        colours: of the theme.
        out: the output site, a row, `[batch,]z,y,x` or metres; the one with most rules otherwise.
        z: of the sites of this slice only, of a 3-D rulebook.

    Raises:
        UsageError: `out` is not active, or no site has this `z`.
    """
    kernel = kernel_at_site(keyed, out, z)
    fields, centre = panels_of(kernel)
    cell = min(CELLS[(len(fields) > 1) + (len(fields) > MOST_IN_A_COLUMN)], LONGEST / max(_cells(fields[0])))
    listed = _listed(kernel, fields)
    width, height = _size(fields, centre, len(listed), cell)
    texts = (headline(options.source, f"{keyed.key}: the kernel over the grid"), _text(kernel))
    figure = new_figure(width, height, texts, colours)
    *grids, table = _axes(figure, fields, centre, cell)
    panels = list(zip((*fields, centre), grids, strict=True))
    for panel, axes in panels:
        _draw_grid(axes, panel, colours)
        _draw_sites(axes, panel, kernel, colours)
    for panel, axes in panels[:-1]:
        _draw_kernel(axes, panel, kernel, colours)
    for rule in kernel.rules.tolist() if len(kernel.rules) <= MOST_ARROWS else ():
        _draw_arrow(rule, panels, cell, colours)
    _draw_table(table, kernel, listed, colours)
    table.set_ylim(height / LINE - 2.5, -0.2)
    return figure


def _listed(kernel: KernelAtSite, fields: Sequence[Panel]) -> NDArray[np.int64]:
    """The rules in the table: all of a small rulebook, those of the centre of any other."""
    every = np.arange(len(kernel.taps))
    return every if len(every) <= MOST_LISTED and len(fields) == 1 else kernel.rules[:MOST_LISTED]


def _size(fields: Sequence[Panel], centre: Panel, lines: int, cell: float) -> tuple[float, float]:
    """Inches of everything below the title."""
    rows, columns = _arranged(len(fields))
    (wide, high), (own_wide, own_high) = _cells(fields[0]), _cells(centre)
    height = max(rows * (cell * high + GAP), cell * own_high + GAP, LINE * (lines + 3))
    return columns * (cell * wide + GAP) + cell * own_wide + 2 * GAP + TABLE_WIDTH, height


def _arranged(panels: int) -> tuple[int, int]:
    """Rows and columns of the slices; a few are put in one column, so that arrows do not cross them."""
    rows = min(panels, MOST_IN_A_COLUMN)
    return rows, -(-panels // rows)


def _cells(panel: Panel) -> tuple[int, int]:
    """Columns and rows of cells."""
    y0, y1, x0, x1 = panel.box
    return x1 - x0, y1 - y0


def _axes(figure: Figure, fields: Sequence[Panel], centre: Panel, cell: float) -> list[Any]:
    """Axes of the fields, of the centre, and of the table."""
    rows, columns = _arranged(len(fields))
    wide, own = columns * _cells(fields[0])[0], _cells(centre)[0]
    spread = centre.end.name == "input"
    table = TABLE_WIDTH / cell
    outer = figure.add_gridspec(1, 3, width_ratios=[own, wide, table] if spread else [wide, own, table], wspace=0.12)
    inner = outer[0, int(spread)].subgridspec(rows, columns)
    axes = [figure.add_subplot(inner[index // columns, index % columns]) for index in range(len(fields))]
    axes.append(figure.add_subplot(outer[0, int(not spread)]))
    for grid, panel in zip(axes, (*fields, centre), strict=True):
        grid.set_anchor("N" if rows == 1 else "C")
        grid.patch.set_visible(False)
        grid.set_zorder(2 if panel.end.name == "output" else 1)  # arrows belong to the outputs and cross the inputs
    return [*axes, figure.add_subplot(outer[0, 2])]


def _draw_grid(axes: Any, panel: Panel, colours: Colours) -> None:
    """Cells of the grid; what the kernel reaches beyond it stays empty."""
    y0, y1, x0, x1 = panel.box
    height, width = panel.end.shape[-2:]
    axes.set(xlim=(x0 - 0.5, x1 - 0.5), ylim=(y1 - 0.5, y0 - 0.5), aspect="equal", xlabel="x", ylabel="y")
    step = -(-max(x1 - x0, y1 - y0) // MOST_TICKS)
    axes.set(xticks=range(x0, x1, step), yticks=range(y0, y1, step))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    name = f"{panel.end.name} sites" + ("" if panel.z is None else f", z = {panel.z}")
    inside = panel.z is None or 0 <= panel.z < panel.end.shape[0]
    axes.set_title(name if inside else f"{name}, beyond the grid", loc="left")
    if inside:
        rows, columns = range(max(0, y0), min(height, y1)), range(max(0, x0), min(width, x1))
        _squares(axes, [(x, y) for y in rows for x in columns], 0.5, (colours.blank, colours.line, 0.8), 1)


def _draw_sites(axes: Any, panel: Panel, kernel: KernelAtSite, colours: Colours) -> None:
    """Active sites with their rows; an output's also with the inputs that feed it, where they are few."""
    colour = _end_colour(panel.end.name, colours)
    ink = readable_on(colour)
    rows = rows_in(panel)
    cells = [(int(panel.end.indices[row, -1]), int(panel.end.indices[row, -2])) for row in rows]
    _squares(axes, cells, 0.5, (colour, colours.line, 0.8), 2)
    for row, (x, y) in zip(rows, cells, strict=True):
        if panel.end is kernel.centre and row == kernel.row:
            _squares(axes, [(x, y)], 0.45, ("none", colours.third, 2.4), 4)
        size = min(10.0, 30.0 / max(2, len(str(row))))
        write_inside(axes, x, y, row, size=size, weight="bold", color=ink, zorder=8)
        if panel.end.name == "output" and panel.end is kernel.centre:
            sources = kernel.book.in_rows[kernel.book.out_rows == row].tolist()
            few = len(sources) <= MOST_SOURCES and max(sources, default=0) < 100
            label = f"in {','.join(map(str, sources))}" if few else f"{len(sources)} in"
            write_inside(axes, x, y + 0.4, label, va="bottom", size=6.0, color=ink, zorder=8)


def _squares(
    axes: Any, cells: Sequence[tuple[int, int]], half: float, style: tuple[str, str, float], order: int
) -> None:
    """Squares around cells x, y; `style` is fill, edge and its width. One artist, since kernels can have many cells."""
    from matplotlib.collections import PolyCollection

    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    squares = [corners + cell for cell in cells]
    axes.add_collection(
        PolyCollection(squares, facecolors=style[0], edgecolors=style[1], linewidths=style[2], zorder=order)
    )


def _end_colour(name: str, colours: Colours) -> str:
    return colours.first if name == "input" else colours.second


def _draw_kernel(axes: Any, panel: Panel, kernel: KernelAtSite, colours: Colours) -> None:
    """The kernel's cells in this slice, those with a rule in bold, each with its centred offset where they fit."""
    offsets = kernel.book.geometry.offsets()
    used = set(kernel.taps[kernel.rules].tolist())
    ink = readable_on(_end_colour(panel.end.name, colours))
    wide = max(kernel.book.geometry.kernel_size) > 3
    strong: list[tuple[int, int]] = []
    weak: list[tuple[int, int]] = []
    for tap, cell in enumerate(kernel.cells.tolist()):
        if panel.z is not None and cell[0] != panel.z:
            continue
        x, y = cell[-1], cell[-2]
        (strong if tap in used else weak).append((x, y))
        if not wide:
            label, colour = ",".join(map(str, offsets[tap])), ink if tap in used else colours.third
            write_inside(axes, x, y + 0.4, label, va="bottom", size=6.0, color=colour, zorder=8)
    _squares(axes, weak, 0.45, ("none", colours.third, 1.0), 4)
    _squares(axes, strong, 0.45, ("none", colours.third, 2.0), 4)


def _draw_arrow(rule: int, panels: Sequence[tuple[Panel, Any]], cell: float, colours: Colours) -> None:
    """One rule, from the edge of its input's cell to that of its output's; nothing where either is not shown."""
    from matplotlib.patches import ConnectionPatch

    ends = {}
    for panel, axes in panels:
        site = panel.end.indices[panel.end.rows[rule]].tolist()
        if panel.shows(site):
            ends[panel.end.name] = ((site[-1], site[-2]), axes)
    if len(ends) < 2:
        return
    (start, source), (stop, target) = ends["input"], ends["output"]
    reach = cell * 72 * 0.44
    arrow = ConnectionPatch(
        start, stop, source.transData, target.transData, arrowstyle="-|>", shrinkA=reach, shrinkB=reach,
        mutation_scale=11, linewidth=1.5, color=colours.third, alpha=0.9, zorder=6, clip_on=False,
    )  # fmt: skip
    arrow.set_in_layout(False)
    target.add_artist(arrow)


def _draw_table(axes: Any, kernel: KernelAtSite, listed: NDArray[np.int64], colours: Colours) -> None:
    """The rulebook's rows as the papers print them; those of the centre in its colour."""
    axes.set_axis_off()
    if not len(listed):
        return
    every, mine = len(kernel.taps), set(kernel.rules.tolist())
    several = (
        f"{len(listed)} of its {len(mine)} rules" if len(listed) < len(mine) else f"its {counted(len(mine), 'rule')}"
    )
    axes.set_title("all rules" if len(listed) == every else several, loc="left")
    geometry = kernel.book.geometry
    axes.set_xlim(0, 1)
    stops = (0.28, 0.54, 0.74, 0.96)
    for stop, name in zip(stops, ("offset", "count", "in", "out"), strict=True):
        write_inside(axes, stop, 0.4, name, ha="right", size=8, color=colours.faint)
    offsets = geometry.offsets()
    for line, rule in enumerate(listed.tolist(), start=1):
        tap = int(kernel.taps[rule])
        texts = (",".join(map(str, offsets[tap])), rule - int(kernel.book.pair_splits[tap]),
                 int(kernel.book.in_rows[rule]), int(kernel.book.out_rows[rule]))  # fmt: skip
        strong = rule in mine
        for stop, text in zip(stops, texts, strict=True):
            write_inside(
                axes, stop, line + 0.4, text, ha="right", size=8,
                color=colours.third if strong else colours.ink, weight="bold" if strong else "normal",
            )  # fmt: skip


def _text(kernel: KernelAtSite) -> str:
    """What the kernel is, and the sum at the centre in words."""
    book = kernel.book
    axes = "z,y,x"[-2 * book.geometry.ndim + 1 :]
    labels = f"Large numbers are rows; under the kernel its offsets ({axes}) from the centre."
    head = f"{kind_of(book.geometry)}; {sizes_of(book)}. {labels}"
    if kernel.row is None:
        return f"{head} There is no {kernel.centre.name} site to lay the kernel over."
    offsets = book.geometry.offsets()
    rules = kernel.rules.tolist()
    weights = [f"W[{','.join(map(str, offsets[kernel.taps[rule]]))}]" for rule in rules]
    if kernel.centre.name == "input":
        terms = [f"out[{book.out_rows[r]}] += {w}·in[{kernel.row}]" for w, r in zip(weights, rules, strict=True)]
        said = ", ".join(terms[:MOST_TERMS])
    else:
        terms = [f"{w}·in[{book.in_rows[r]}]" for w, r in zip(weights, rules, strict=True)]
        said = f"out[{kernel.row}] = {' + '.join(terms[:MOST_TERMS]) or '0'}"
    more = f" and {len(terms) - MOST_TERMS} more" if len(terms) > MOST_TERMS else ""
    return f"{head} Framed: {said}{more}."
