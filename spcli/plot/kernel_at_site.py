"""What the drawing of a kernel over a grid shows: which site, which cells under the kernel, which slices and rules.

A regular or submanifold convolution gathers: one output site looks through the kernel at the input grid. A transposed
one scatters: one input site is spread through the kernel over the output grid. The one site is called *centre* here,
the grid under the kernel *field*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.errors import UsageError
from spcli.inspect import KeyedRulebook, Where
from spcli.inspect.sites import absent, resolve, rows_of
from spcli.rulebook import Rulebook

WHOLE_PLANE, WHOLE_SLICE = 10, 6
"""The longest sides of a 2-D grid, and of a slice, that are shown whole; of larger ones what is around the kernel."""


class End(Struct, frozen=True):
    """One end of a rulebook: `input` or `output`, its sites and shape, and the row of every rule."""

    name: str
    indices: NDArray[np.int32]
    shape: tuple[int, ...]
    rows: NDArray[np.int32]


class KernelAtSite(Struct, frozen=True):
    """What is drawn.

    Attributes:
        book: the rulebook.
        centre, field: its two ends.
        row: the centre's site; None where it has none, and nothing but grids is drawn.
        cells: the kernel's cells in the field `[V, D]`, by tap; none without a row.
        rules: positions of the rules at `row`.
        taps: the kernel index of every rule of the rulebook.
    """

    book: Rulebook
    centre: End
    field: End
    row: int | None
    cells: NDArray[np.int64]
    rules: NDArray[np.int64]
    taps: NDArray[np.int64]


class Panel(Struct, frozen=True):
    """A rectangle of one end: batch, z (None in 2-D), and the cells y0, y1, x0, x1, upper ends excluded."""

    end: End
    batch: int
    z: int | None
    box: tuple[int, int, int, int]

    def shows(self, site: Sequence[int]) -> bool:
        """Whether a site (batch, z, y, x) is in the picture."""
        y0, y1, x0, x1 = self.box
        here = site[0] == self.batch and (self.z is None or site[1] == self.z)
        return bool(here and y0 <= site[-2] < y1 and x0 <= site[-1] < x1)


def kernel_at_site(keyed: KeyedRulebook, out: Where | None, z: int | None) -> KernelAtSite:
    """What is drawn at output site `out`: a row, `[batch,]z,y,x` or metres.

    None takes the site with most rules, of those in slice `z` if one is given.

    Raises:
        UsageError: `out` is not active, or no site has this `z`.
    """
    book = keyed.rulebook
    inputs = End("input", book.in_indices, book.in_spatial_shape, book.in_rows)
    outputs = End("output", book.out_indices, book.out_spatial_shape, book.out_rows)
    geometry = book.geometry
    centre, field = (inputs, outputs) if geometry.transposed else (outputs, inputs)
    taps = np.repeat(np.arange(geometry.volume), np.diff(book.pair_splits))
    row = _chosen(keyed, centre, out, z)
    if row is None:
        return KernelAtSite(book, centre, field, None, np.zeros((0, geometry.ndim), np.int64), np.arange(0), taps)
    steps = np.stack(np.unravel_index(np.arange(geometry.volume), geometry.kernel_size), axis=1)
    start = np.array(geometry.stride) * centre.indices[row, 1:] - np.array(geometry.padding)
    cells = (start + np.array(geometry.dilation) * steps).astype(np.int64)
    return KernelAtSite(book, centre, field, row, cells, np.flatnonzero(centre.rows == row), taps)


def _chosen(keyed: KeyedRulebook, centre: End, out: Where | None, z: int | None) -> int | None:
    """The row of the site to draw the kernel at."""
    book = keyed.rulebook
    allowed = np.ones(len(centre.indices), bool)
    if out is not None:
        site = resolve(out, keyed.out_placement, "--out")
        rows = rows_of(site, book.out_indices, "--out")
        if not len(rows):
            reason = absent(out, site, book.out_indices, f"output of {keyed.key}")
            raise UsageError(f"--out: {reason}")
        mine = rows[:1] if centre.name == "output" else book.in_rows[book.out_rows == rows[0]]
        allowed = np.isin(np.arange(len(centre.indices)), mine)
    elif z is not None and book.geometry.ndim == 3:
        allowed = centre.indices[:, 1] == z
        if not allowed.any():
            raise UsageError(f"z {z}: no {centre.name} site lies in this slice; choose another")
    if not allowed.any():
        return None
    counts = np.bincount(centre.rows, minlength=len(centre.indices))
    return int(np.argmax(np.where(allowed, counts, -1)))


def panels_of(kernel: KernelAtSite) -> tuple[list[Panel], Panel]:
    """A panel for each slice of the field that the kernel reaches, and the one of the centre."""
    flat = kernel.book.geometry.ndim == 2
    if kernel.row is None:
        ends = (kernel.field, kernel.centre)
        field, centre = (Panel(end, 0, None if flat else 0, _around(end.shape, (0, 0), (0, 0))) for end in ends)
        return [field], centre
    site = kernel.centre.indices[kernel.row].tolist()
    low, high = kernel.cells[:, -2:].min(axis=0).tolist(), (kernel.cells[:, -2:].max(axis=0) + 1).tolist()
    box = _around(kernel.field.shape, [side - 1 for side in low], [side + 1 for side in high])
    box = (min(box[0], low[0]), max(box[1], high[0]), min(box[2], low[1]), max(box[3], high[1]))
    slices = [None] if flat else sorted(set(kernel.cells[:, 0].tolist()))
    own = _around(kernel.centre.shape, [side - 2 for side in site[-2:]], [side + 3 for side in site[-2:]])
    fields = [Panel(kernel.field, site[0], z, box) for z in slices]
    return fields, Panel(kernel.centre, site[0], None if flat else site[1], own)


def _around(shape: tuple[int, ...], low: Sequence[int], high: Sequence[int]) -> tuple[int, int, int, int]:
    """y0, y1, x0, x1: the sides of a small grid whole, those of a large one from `low` to `high` inside the grid."""
    sides: list[int] = []
    for length, start, stop in zip(shape[-2:], low, high, strict=True):
        sides += (
            [0, max(1, length)]
            if length <= (WHOLE_PLANE if len(shape) == 2 else WHOLE_SLICE)
            else [max(0, start), min(length, max(stop, start + 1))]
        )
    return sides[0], sides[1], sides[2], sides[3]


def rows_in(panel: Panel) -> list[int]:
    """The rows of the sites in a panel."""
    indices: NDArray[Any] = panel.end.indices
    y0, y1, x0, x1 = panel.box
    here = (indices[:, 0] == panel.batch) & (indices[:, -2] >= y0) & (indices[:, -2] < y1)
    here &= (indices[:, -1] >= x0) & (indices[:, -1] < x1)
    if panel.z is not None:
        here &= indices[:, 1] == panel.z
    return [int(row) for row in np.flatnonzero(here)]
