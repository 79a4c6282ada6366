"""Active sites as coloured points in space, for programs that show point clouds.

A site becomes the centre of its cell, in metres where its placement is known and in cells of its own grid otherwise:
there a whole number is the middle of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli import __version__
from spcli.errors import UsageError
from spcli.inspect.sites import SiteTable
from spcli.placement import Placement
from spcli.sparse_tensor import SparseTensor
from spcli.writers.npz import Target
from spcli.writers.ply import write_ply

# Viridis (CC0) at equal steps; colours between are interpolated. Monotonic in lightness, for every kind of sight.
VIRIDIS = (
    (68, 1, 84), (72, 23, 105), (71, 42, 122), (67, 61, 132), (61, 78, 138), (53, 94, 141),
    (46, 109, 142), (41, 123, 142), (35, 137, 142), (31, 151, 139), (33, 165, 133), (46, 179, 124),
    (70, 192, 111), (101, 203, 94), (137, 213, 72), (176, 221, 47), (216, 226, 25), (253, 231, 37),
)  # fmt: skip
CHANNEL = "channel:"
COLORS = ("density", "points", "z", CHANNEL + "K")


class SiteCloud(Struct, frozen=True):
    """Sites as points.

    Attributes:
        xyz: float32 `[N, 3]`, the centres of the cells.
        name: what `scalar` is, such as `density` or `channel_3`.
        scalar: float32 `[N]`, what the colours show.
        rows: int32 `[N]`, each site's row in its tensor.
        unit: of `xyz`, "metres" or "cells".
        legend: further lines for the file's header.
    """

    xyz: NDArray[np.float32]
    name: str
    scalar: NDArray[np.float32]
    rows: NDArray[np.int32]
    unit: str
    legend: tuple[str, ...] = ()


def site_cloud(
    tensor: SparseTensor,
    placement: Placement | None = None,
    color: str = "density",
    num_points: NDArray[np.int32] | None = None,
    channels: Sequence[str] = (),
) -> SiteCloud:
    """The sites of a tensor with the scalar that colours them.

    Args:
        tensor: 2-D or 3-D sites; 2-D ones lie at height 0.
        placement: where its sites lie in metres; None counts cells.
        color: `density`, the active share of the 3 x 3 x 3 cells around a site; `points`, of a voxel; `z`, its height;
            `channel:K`, a feature channel by number or name.
        num_points: points in each voxel, for `points`.
        channels: names of the channels, as far as they are known.

    Raises:
        UsageError: there is no such colour or channel, or the tensor has no sites in space.
    """
    if tensor.indices.shape[1] not in (3, 4) or tensor.features.ndim != 2:
        raise UsageError("this tensor is dense or global and has no active sites in space; choose another layer")
    xyz, unit = _centres(tensor.indices, placement)
    scalar: NDArray[Any]
    if color == "density":
        name, scalar = "density", local_density(tensor.indices)
    elif color == "z":
        name, scalar = "height", xyz[:, 2]
    elif color == "points":
        if num_points is None:
            raise UsageError("--color points: only voxels know their points; give a .voxels.npz, or a scan")
        name, scalar = "points", num_points
    elif color.startswith(CHANNEL):
        channel = _channel(color.removeprefix(CHANNEL), tensor.features.shape[1], channels)
        name, scalar = f"channel_{channel}", tensor.features[:, channel]
    else:
        raise UsageError(f"--color {color}: there are {', '.join(COLORS)} and layer")
    return SiteCloud(xyz, name, scalar.astype(np.float32), np.arange(len(xyz), dtype=np.int32), unit)


def layer_cloud(sets: Sequence[tuple[str, NDArray[np.int32], Placement | None]]) -> SiteCloud:
    """Several sets of sites together, coloured by their number from 0; each is a name, indices and where they lie."""
    clouds = [_centres(indices, placement) for _, indices, placement in sets]
    lengths = [len(xyz) for xyz, _ in clouds]
    legend = tuple(f"layer {number}: {name}, {size} sites" for number, ((name, _, _), size) in
                   enumerate(zip(sets, lengths, strict=True)))  # fmt: skip
    empty = np.zeros((0, 3), np.float32)
    return SiteCloud(
        np.concatenate([empty, *(xyz for xyz, _ in clouds)]),
        "layer",
        np.repeat(np.arange(len(sets), dtype=np.float32), lengths),
        np.concatenate([np.zeros(0, np.int32), *(np.arange(size, dtype=np.int32) for size in lengths)]),
        clouds[0][1] if clouds else "cells",
        legend,
    )


def _centres(indices: NDArray[np.int32], placement: Placement | None) -> tuple[NDArray[np.float32], str]:
    """x, y, z `[N, 3]` of the centres of sites `[N, 1 + D]`, and their unit."""
    unit = "cells" if placement is None else "metres"
    placement = placement or Placement.in_cells(indices.shape[1] - 1)
    return placement.centres(indices).astype(np.float32), unit


def _channel(wanted: str, count: int, names: Sequence[str]) -> int:
    """The number of a channel given by number or name."""
    if wanted in names and names.index(wanted) < count:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < count:
        return int(wanted)
    known = f" ({', '.join(names)})" if 0 < len(names) <= 8 else ""
    raise UsageError(f"--color {CHANNEL}{wanted}: there are channels 0 to {count - 1}{known}")


def local_density(indices: NDArray[np.int32]) -> NDArray[np.float64]:
    """The active share of the cells around each site `[N, 1 + D]`, itself included: 3 along each axis."""
    table = SiteTable(indices)
    found = np.zeros(len(indices))
    steps = list(product((-1, 0, 1), repeat=indices.shape[1] - 1))
    for step in steps:
        found += table.rows(indices.astype(np.int64) + np.array((0, *step))) >= 0
    return found / len(steps)


def viridis(scalar: NDArray[np.float32]) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Colours `[N, 3]` of numbers `[N]`, and the two numbers at the ends of the scale; grey where not finite."""
    finite = np.isfinite(scalar)
    values = scalar[finite].astype(np.float64)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    share = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    stops = np.linspace(0, 1, len(VIRIDIS))
    colours = np.full((len(scalar), 3), 128, np.uint8)
    table = np.array(VIRIDIS, np.float64)
    colours[finite] = np.stack([np.rint(np.interp(share, stops, table[:, band])) for band in range(3)], axis=1)
    return colours, (low, high)


def write_cloud(target: Target, cloud: SiteCloud, source: str = "") -> tuple[float, float]:
    """Write a cloud as `.ply`: x, y, z, red, green, blue, the scalar by its name, and `row`.

    Gives the scalar's values at the ends of the colour scale.

    Raises:
        UsageError: the file cannot be written.
    """
    colours, ends = viridis(cloud.scalar)
    comments = (
        f"spcli {__version__}",
        *((f"source {source}",) if source else ()),
        f"x y z in {cloud.unit}, centres of cells",
        f"colour: {cloud.name} from {ends[0]:.6g} to {ends[1]:.6g}, viridis",
        *cloud.legend,
    )
    write_ply(target, cloud.xyz, colours, {cloud.name: cloud.scalar, "row": cloud.rows}, comments)
    return ends
