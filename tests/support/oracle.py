"""The definition: what voxelizers, rulebooks and layers must give, written slowly and plainly.

Nothing here is imported from spcli, so nothing here can share its mistakes. Sites are plain tuples (batch, z, y, x),
rules are pairs of row numbers, and all arithmetic on features is in float64. Two computations of every convolution
stand side by side: by rules (`rules_of` and `convolve`), which solve the pair equation for one end, and dense
(`dense_convolve`), which knows only slices of a full grid and never divides by a stride.

A `window` is any object with the fields `kernel_size`, `stride`, `padding`, `dilation`, `output_padding` (one integer
an axis), `submanifold` and `transposed`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

Site = tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """The rules of one convolution; `by_tap[k]` lists (in_row, out_row) in order of out_row."""

    in_sites: list[Site]
    out_sites: list[Site]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    by_tap: list[list[tuple[int, int]]]


def effective_padding(window: Any) -> tuple[int, ...]:
    """A submanifold convolution is centred at its site, whatever padding it was given."""
    if not window.submanifold:
        return tuple(window.padding)
    return tuple(d * (k - 1) // 2 for k, d in zip(window.kernel_size, window.dilation, strict=True))


def out_shape_of(shape: tuple[int, ...], window: Any) -> tuple[int, ...]:
    """Sizes of the output grid, axis by axis; transposed ones are those of torch."""
    if window.submanifold:
        return tuple(shape)
    sizes = []
    for axis, n in enumerate(shape):
        k, s, p, d = (getattr(window, name)[axis] for name in ("kernel_size", "stride", "padding", "dilation"))
        if window.transposed:
            sizes.append((n - 1) * s - 2 * p + d * (k - 1) + window.output_padding[axis] + 1)
        else:
            sizes.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
    return tuple(sizes)


def taps_of(window: Any) -> list[tuple[int, ...]]:
    """Kernel indices in raster order, the last axis fastest."""
    return list(product(*(range(k) for k in window.kernel_size)))


def output_of(site: Site, tap: tuple[int, ...], window: Any) -> Site | None:
    """The output site that the pair equation gives to an input site and a kernel index, None where it has none.

    Regular: `in = stride * out - padding + dilation * k`; transposed: the same with in and out exchanged.
    """
    padding, out = effective_padding(window), [site[0]]
    for axis, n in enumerate(site[1:]):
        s = 1 if window.submanifold else window.stride[axis]
        shift = window.dilation[axis] * tap[axis] - padding[axis]
        if window.transposed:
            out.append(s * n + shift)
        elif (n - shift) % s == 0:
            out.append((n - shift) // s)
        else:
            return None
    return tuple(out)


def is_inside(site: Site, shape: tuple[int, ...]) -> bool:
    """Whether a site's spatial part lies in the grid."""
    return all(0 <= n < size for n, size in zip(site[1:], shape, strict=True))


def rules_of(sites: list[Site], shape: tuple[int, ...], window: Any) -> Rules:
    """All rules of a convolution over `sites`, which are in canonical order."""
    out_shape = out_shape_of(shape, window)
    found: list[list[tuple[int, Site]]] = []
    for tap in taps_of(window):
        ends = [(row, output_of(site, tap, window)) for row, site in enumerate(sites)]
        found.append([(row, out) for row, out in ends if out is not None and is_inside(out, out_shape)])
    reached = {out for rules in found for _, out in rules}
    out_sites = list(sites) if window.submanifold else sorted(reached)
    row_of = {site: row for row, site in enumerate(out_sites)}
    by_tap = [[(row, row_of[out]) for row, out in rules if out in row_of] for rules in found]
    return Rules(list(sites), out_sites, tuple(shape), out_shape, [sorted(r, key=lambda r: r[1]) for r in by_tap])


def inverse_of(rules: Rules) -> Rules:
    """The rules of the inverse convolution: both ends exchanged, each rule keeps its tap."""
    by_tap = [sorted(((o, i) for i, o in tap), key=lambda rule: rule[1]) for tap in rules.by_tap]
    return Rules(rules.out_sites, rules.in_sites, rules.out_shape, rules.in_shape, by_tap)


def convolve(features: np.ndarray, rules: Rules, weight: np.ndarray) -> np.ndarray:
    """Float64 `[M, Cout]`: sum over rules of `weight[:, k] @ features[in_row]`; weight `[Cout, *kernel_size, Cin]`."""
    features, weight = np.asarray(features, np.float64), np.asarray(weight, np.float64)
    by_tap = weight.reshape(weight.shape[0], -1, weight.shape[-1])
    out = np.zeros((len(rules.out_sites), weight.shape[0]))
    for tap, pairs in enumerate(rules.by_tap):
        if pairs:
            in_rows, out_rows = np.array(pairs).T
            out[out_rows] += features[in_rows] @ by_tap[:, tap].T
    return out


def dense_of(sites: list[Site], features: np.ndarray, shape: tuple[int, ...], batch_size: int) -> np.ndarray:
    """Float64 `[B, *shape, C]`, zero where no site is active."""
    dense = np.zeros((batch_size, *shape, np.shape(features)[1]))
    for site, row in zip(sites, features, strict=True):
        dense[site] = row
    return dense


def dense_convolve(dense: np.ndarray, window: Any, weight: np.ndarray) -> np.ndarray:
    """Float64 `[B, *out_shape, Cout]` of a dense grid `[B, *shape, Cin]`: textbook convolution by slices.

    A submanifold window gives the values of the dense convolution with the same padding, at every cell.
    """
    shape, out_shape = dense.shape[1:-1], out_shape_of(dense.shape[1:-1], window)
    padding = effective_padding(window)
    stride = (1,) * len(shape) if window.submanifold else window.stride
    small, large = (shape, out_shape) if window.transposed else (out_shape, shape)
    reach = [max(p + n, s * (m - 1) + d * (k - 1) + 1) for p, n, s, m, d, k in zip(
        padding, large, stride, small, window.dilation, window.kernel_size, strict=True)]  # fmt: skip
    weight = np.asarray(weight, np.float64)
    interior = tuple(slice(p, p + n) for p, n in zip(padding, large, strict=True))
    channels = weight.shape[0] if window.transposed else weight.shape[-1]
    padded = np.zeros((len(dense), *reach, channels))
    out = np.zeros((len(dense), *out_shape, weight.shape[0]))
    if not window.transposed:
        padded[(slice(None), *interior)] = dense
    for tap in taps_of(window):
        axes = zip(window.dilation, tap, stride, small, strict=True)
        cells = (slice(None), *(slice(d * k, d * k + s * (m - 1) + 1, s) for d, k, s, m in axes))
        matrix = weight[(slice(None), *tap)].T
        if window.transposed:
            padded[cells] += dense @ matrix
        else:
            out += padded[cells] @ matrix
    return padded[(slice(None), *interior)] if window.transposed else out


def max_pool(features: np.ndarray, rules: Rules) -> np.ndarray:
    """`[M, C]`: the largest of the active sites in each output's window."""
    out = np.full((len(rules.out_sites), np.shape(features)[1]), -np.inf)
    for pairs in filter(None, rules.by_tap):
        in_rows, out_rows = np.array(pairs).T
        out[out_rows] = np.maximum(out[out_rows], features[in_rows])
    return out


def mean_pool(features: np.ndarray, rules: Rules) -> np.ndarray:
    """`[M, C]`: the mean over the active sites in each output's window, not over the window's volume."""
    out = np.zeros((len(rules.out_sites), np.shape(features)[1]))
    count = np.zeros((len(rules.out_sites), 1))
    for pairs in filter(None, rules.by_tap):
        in_rows, out_rows = np.array(pairs).T
        out[out_rows] += np.asarray(features, np.float64)[in_rows]
        count[out_rows] += 1
    return out / count


def global_pool(features: np.ndarray, sites: list[Site], batch_size: int, reduce: str) -> np.ndarray:
    """`[B, C]`: maximum or mean over each scan's sites, zeros for a scan without any."""
    out = np.zeros((batch_size, np.shape(features)[1]))
    for batch in range(batch_size):
        rows = np.asarray(features, np.float64)[[site[0] == batch for site in sites]]
        if len(rows):
            out[batch] = rows.max(axis=0) if reduce == "max" else rows.mean(axis=0)
    return out


def activate(values: np.ndarray, kind: str, slope: float = 0.01) -> np.ndarray:
    """ReLU, LeakyReLU with its slope, exact GELU `x * (1 + erf(x / sqrt 2)) / 2`, or nothing."""
    if kind == "relu":
        return np.maximum(values, 0.0)
    if kind == "leaky_relu":
        return np.where(values < 0, slope * values, values)
    if kind == "gelu":
        erf = np.vectorize(math.erf, otypes=[np.float64])
        return values * 0.5 * (1.0 + erf(values / math.sqrt(2.0)))
    return values


def layer_norm(values: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """Each row to mean 0 and (biased) variance 1, then scaled and shifted per channel."""
    values = np.asarray(values, np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps)
    return centred / deviation * np.asarray(weight, np.float64) + np.asarray(bias, np.float64)


def batch_norm(
    values: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float
) -> np.ndarray:
    """Inference with running statistics, per channel, in float64."""
    parts = (np.asarray(part, np.float64) for part in (weight, bias, mean, var))
    weight, bias, mean, var = parts
    return (np.asarray(values, np.float64) - mean) / np.sqrt(var + eps) * weight + bias


def channel_reduction(values: np.ndarray, out_channels: int) -> np.ndarray:
    """`[N, C]` to `[N, out_channels]`: neighbouring channels summed, C / out_channels at a time."""
    group = values.shape[1] // out_channels
    return sum((values[:, start::group] for start in range(group)), np.zeros((len(values), out_channels)))


def height_compression(
    features: np.ndarray, sites: list[Site], shape: tuple[int, ...]
) -> tuple[list[Site], np.ndarray]:
    """The 2-D sites (batch, y, x) with an active z, and their rows `[M, C * Z]` with channel `c * Z + z`."""
    flat = sorted({(b, y, x) for b, _, y, x in sites})
    row_of = {site: row for row, site in enumerate(flat)}
    channels = np.shape(features)[1]
    out = np.zeros((len(flat), channels * shape[0]))
    for (b, z, y, x), row in zip(sites, features, strict=True):
        for channel in range(channels):
            out[row_of[b, y, x], channel * shape[0] + z] = row[channel]
    return flat, out


def to_dense(features: np.ndarray, sites: list[Site], shape: tuple[int, ...], batch_size: int) -> np.ndarray:
    """`[B, C, *shape]`, zero where no site is active."""
    return np.moveaxis(dense_of(sites, features, shape, batch_size), -1, 1)


@dataclass(frozen=True)
class Voxels:
    """What the voxelizer must give: rows in canonical order, and where every point went."""

    sites: list[Site]
    features: np.ndarray
    num_points: list[int]
    point_rows: list[int]
    hard: np.ndarray | None
    cells: tuple[int, ...]
    spatial_shape: tuple[int, ...]
    counts: dict[str, int]


def grid_of(spec: Any, finite: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int] | None]:
    """Origin (float32, x, y, z) and cells (Z, Y, X); None for cells that the points themselves decide, those
    left out by a cap included.

    With a range: `round((max - min) / voxel_size)` in float64. Without: the origin is the multiple of the voxel size
    at or below the lowest finite point (`finite` `[P, 3]`), and one further down where rounding left it above.
    """
    size = np.array(spec.voxel_size, np.float32)
    if spec.point_cloud_range is None:
        if not len(finite):
            return np.zeros(3, np.float32), None
        low = finite.min(axis=0)
        steps = np.floor(low / size)
        origin = steps * size
        return np.where(origin > low, (steps - np.float32(1)) * size, origin).astype(np.float32), None
    low, high = np.array(spec.point_cloud_range[:3]), np.array(spec.point_cloud_range[3:])
    x, y, z = (round(float(n)) for n in (high - low) / np.array(spec.voxel_size))
    return low.astype(np.float32), (z, y, x)


def site_of(point: np.ndarray, origin: np.ndarray, spec: Any, cells: tuple[int, int, int] | None) -> Site | None:
    """The cell (z, y, x) of a finite point, None where it is out of range; float32 with a true division."""
    size = np.array(spec.voxel_size, np.float32)
    with np.errstate(over="ignore"):
        steps = [float(np.floor((np.float32(p) - lo) / s)) for p, lo, s in zip(point, origin, size, strict=True)][::-1]
    if cells is not None and not all(0 <= n < size for n, size in zip(steps, cells, strict=True)):
        return None
    return tuple(int(n) for n in steps)


@dataclass
class _Voxel:
    kept: list[int]
    seen: int = 0


def voxelize(values: np.ndarray, xyz: tuple[int, ...], columns: tuple[int, ...], spec: Any) -> Voxels:
    """Points `[P, C]` (float32) to voxels in one pass over the file, as section 3 of the contract has it.

    `xyz` and `columns` are the column numbers of the coordinates and of the features.
    """
    used = np.isfinite(values[:, sorted({*xyz, *columns})]).all(axis=1)
    origin, cells = grid_of(spec, values[used][:, list(xyz)])
    counts = dict.fromkeys(("in_range", "nonfinite", "out_of_range", "over_max_points", "over_max_voxels"), 0)
    voxels: dict[Site, _Voxel] = {}
    refused: dict[Site, int] = {}
    home: dict[int, Site] = {}
    reach = [0, 0, 0]
    for point, row in enumerate(values):
        site = site_of(row[list(xyz)], origin, spec, cells) if used[point] else None
        if site is None:
            counts["out_of_range" if used[point] else "nonfinite"] += 1
            continue
        counts["in_range"] += 1
        reach = [max(most, n + 1) for most, n in zip(reach, site, strict=True)]
        if site not in voxels and spec.max_voxels is not None and len(voxels) >= spec.max_voxels:
            refused[site] = refused.get(site, 0) + 1
            counts["over_max_voxels"] += 1
            continue
        voxel = voxels.setdefault(site, _Voxel([]))
        voxel.seen += 1
        if spec.max_points is not None and len(voxel.kept) >= spec.max_points:
            counts["over_max_points"] += 1
            continue
        voxel.kept.append(point)
        home[point] = site
    counts |= {"read": len(values), "active": len(voxels), "dropped": len(refused)}
    counts["max_points_in_a_voxel"] = max([0, *(v.seen for v in voxels.values()), *refused.values()])
    return _in_order(values[:, list(columns)], spec, (voxels, home, counts), cells or tuple(reach))


def _in_order(
    features: np.ndarray,
    spec: Any,
    found: tuple[dict[Site, _Voxel], dict[int, Site], dict[str, int]],
    cells: tuple[int, ...],
) -> Voxels:
    voxels, home, counts = found
    sites = sorted(voxels)
    row_of = {site: row for row, site in enumerate(sites)}
    kept = [features[voxels[site].kept] for site in sites]
    reduced = np.array([reduce_points(points, spec.reduce) for points in kept], np.float32)
    hard = None
    if spec.max_points is not None:
        hard = np.zeros((len(sites), spec.max_points, features.shape[1]), np.float32)
        for row, points in enumerate(kept):
            hard[row, : len(points)] = points
    return Voxels(
        sites=[(0, *site) for site in sites],
        features=reduced.reshape(len(sites), features.shape[1]),
        num_points=[len(voxels[site].kept) for site in sites],
        point_rows=[row_of[home[point]] if point in home else -1 for point in range(len(features))],
        hard=hard,
        cells=cells,
        spatial_shape=tuple(n + extra for n, extra in zip(cells, spec.spatial_shape_extra, strict=True)),
        counts=counts,
    )


def reduce_points(points: np.ndarray, reduce: str) -> np.ndarray:
    """One voxel's points `[n, C]` (float32, file order) to `[C]`; sums are in float64 and rounded once."""
    if reduce == "first":
        return points[0]
    if reduce == "max":
        return points.max(axis=0)
    total = np.zeros(points.shape[1])
    for point in points:
        total += point.astype(np.float64)
    return (total / len(points) if reduce == "mean" else total).astype(np.float32)
