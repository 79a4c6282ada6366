"""Active sites as coloured points in space, for programs that show point clouds.

A site becomes the centre of its cell, in metres where the voxel size is known and in cells of its own grid otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli import __version__
from spcli.errors import UsageError
from spcli.inspect.sites import SiteTable
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
    meta: Mapping[str, Any],
    color: str = "density",
    num_points: NDArray[np.int32] | None = None,
) -> SiteCloud:
    """The sites of a tensor with the scalar that colours them.

    Args:
        tensor: 2-D or 3-D sites; 2-D ones lie at height 0.
        meta: of the tensor's file: `voxel_size`, `point_cloud_range` (metres) and `stride` place it, `channels` names
            its channels.
        color: `density`, the active share of the 3 x 3 x 3 cells around a site; `points`, of a voxel; `z`, its height;
            `channel:K`, a feature channel by number or name.
        num_points: points in each voxel, for `points`.

    Raises:
        UsageError: there is no such colour or channel, or the tensor has no sites in space.
    """
    if tensor.indices.shape[1] not in (3, 4) or tensor.features.ndim != 2:
        raise UsageError("this tensor is dense or global and has no active sites in space; choose another layer")
    xyz, unit = cell_centres(tensor.indices, meta)
    name, scalar = _scalar(tensor, meta, color, (xyz, num_points))
    return SiteCloud(xyz, name, scalar.astype(np.float32), np.arange(len(xyz), dtype=np.int32), unit)


def layer_cloud(sets: Sequence[tuple[str, NDArray[np.int32], Mapping[str, Any]]]) -> SiteCloud:
    """Several sets of sites together, coloured by their number from 0; each is a name, indices and what places them."""
    clouds = [cell_centres(indices, meta) for _, indices, meta in sets]
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


def cell_centres(indices: NDArray[np.int32], meta: Mapping[str, Any]) -> tuple[NDArray[np.float32], str]:
    """x, y, z `[N, 3]` of the centres of cells `[N, 1 + D]`, and their unit.

    Site o of a layer of stride s stands for the voxels s * o to s * o + s - 1. Metres where `meta` tells voxel size
    and range; else cells, a whole number being the middle of a cell.
    """
    ndim = indices.shape[1] - 1
    xyz = np.zeros((len(indices), 3))
    xyz[:, :ndim] = indices[:, :0:-1]
    size, limits = _numbers(meta.get("voxel_size"), 3), _numbers(meta.get("point_cloud_range"), 6)
    if size is None or limits is None:
        return xyz.astype(np.float32), "cells"
    stride = _numbers(meta.get("stride"), ndim)
    cell = size[:ndim] * (1.0 if stride is None else stride[::-1])
    xyz[:, :ndim] = limits[:ndim] + (xyz[:, :ndim] + 0.5) * cell
    return xyz.astype(np.float32), "metres"


def _numbers(values: Any, count: int) -> NDArray[np.float64] | None:
    """A list of numbers that a foreign file may hold, None where it does not."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and bool(np.isfinite(found).all()) else None


def _scalar(
    tensor: SparseTensor, meta: Mapping[str, Any], color: str, known: tuple[NDArray[np.float32], Any]
) -> tuple[str, NDArray[Any]]:
    """The scalar's name and its value at every site."""
    xyz, num_points = known
    if color == "density":
        return "density", local_density(tensor.indices)
    if color == "z":
        return "height", xyz[:, 2]
    if color == "points":
        if num_points is None:
            raise UsageError("--color points: only voxels know their points; give a .voxels.npz, or a scan")
        return "points", num_points
    if color.startswith(CHANNEL):
        channel = _channel(tensor, meta, color.removeprefix(CHANNEL))
        return f"channel_{channel}", tensor.features[:, channel]
    raise UsageError(f"--color {color}: there are {', '.join(COLORS)} and layer")


def _channel(tensor: SparseTensor, meta: Mapping[str, Any], wanted: str) -> int:
    """The number of a channel given by number or name."""
    count, names = tensor.features.shape[1], meta.get("channels")
    if isinstance(names, list) and wanted in names and names.index(wanted) < count:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < count:
        return int(wanted)
    known = f" ({', '.join(map(str, names))})" if isinstance(names, list) and 0 < len(names) <= 8 else ""
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
        UsageError: the place cannot be written to.
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
