"""A network's levels, its sets of active sites: which sites they hold, and where their cells lie.

Everything the page computes with comes from here as plain values: levels, maps by the pair equation's sizes, and the
value operations by what they read.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.geometry import ConvGeometry
from spcli.network import Network
from spcli.program import (
    Add,
    BuildMap,
    Concat,
    Convolve,
    FlattenSites,
    GlobalPool,
    GlobalSites,
    HeightCompression,
    InvertMap,
    LayerNorm,
    Pool,
    Program,
    ValueOp,
)
from spcli.report.contents import InputGrid
from spcli.rulebook import Rulebook

Sites = NDArray[np.int32]
GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "submanifold", "transposed")


class Axes(Struct, frozen=True):
    """Where a level's cells lie among the input's: the centre of site s is at `scale * s + shift`, x, y, z.

    Both are in input cells, counted from the centre of input site 0; an axis that was flattened has scale 0.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)


def level_sites(program: Program, rulebooks: Mapping[str, Rulebook], batch_size: int) -> list[Sites | None]:
    """The sites of every sites slot; None for an input that no rulebook begins at."""
    by_map = {keyed.map: rulebooks[keyed.key] for keyed in program.keys}
    found: list[Sites | None] = [None] * program.sites
    for op in program.index_ops:
        if isinstance(op, BuildMap):
            found[op.sites] = by_map[op.map].in_indices
            found[op.outputs] = by_map[op.map].out_indices
        elif isinstance(op, GlobalSites):
            found[op.outputs] = np.arange(batch_size, dtype=np.int32)[:, None]
    for op in program.index_ops:
        if isinstance(op, FlattenSites):
            sites = found[op.sites]
            found[op.outputs] = None if sites is None else np.unique(sites[:, [0, 2, 3]], axis=0)
    return found


def level_axes(program: Program) -> list[Axes]:
    """Where the cells of every sites slot lie."""
    axes = [Axes()] * program.sites
    for op in program.index_ops:
        if isinstance(op, BuildMap):
            axes[op.outputs] = _after(axes[op.sites], op.geometry)
        elif isinstance(op, FlattenSites):
            before = axes[op.sites]
            axes[op.outputs] = Axes((*before.scale[:2], 0.0), (*before.shift[:2], -0.5))
    return axes


def _after(before: Axes, geometry: ConvGeometry) -> Axes:
    """The cells of a window's outputs: each lies at the middle of its window."""
    scale, shift = list(before.scale), list(before.shift)
    sizes = zip(geometry.stride, geometry.padding, geometry.dilation, geometry.kernel_size, strict=True)
    for axis, (stride, padding, dilation, kernel) in enumerate(reversed(list(sizes))):
        middle = dilation * (kernel - 1) / 2 - padding
        if geometry.transposed:
            scale[axis] /= stride
            shift[axis] -= scale[axis] * middle
        else:
            shift[axis] += scale[axis] * middle
            scale[axis] *= stride
    return Axes((scale[0], scale[1], scale[2]), (shift[0], shift[1], shift[2]))


def drawn(axes: Axes, grid: InputGrid | None, upright: bool) -> dict[str, Any]:
    """Where a level's cells are drawn, x, y, z: site s has its centre at `start + step * s`, and `cell` is its size.

    In metres, or input cells without a grid; `upright` False turns y over, since images have their first row on top.
    """
    grid = grid or InputGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    signs = (1, 1 if upright else -1, 1)
    columns = list(zip(grid.origin, grid.cell, axes.scale, axes.shift, signs, strict=True))
    return {
        "start": [sign * (low + size * (shift + 0.5)) for low, size, _, shift, sign in columns],
        "step": [sign * size * scale for _, size, scale, _, sign in columns],
        "cell": [size * (scale or 1) for _, size, scale, _, _ in columns],
    }


def packed(sites: Sites) -> str:
    """Sites as text: each column's differences from row to row in four planes of bytes, deflated, in base64.

    Sorted sites differ by little, so most planes are zeros.
    """
    steps = np.diff(sites.astype(np.int32, copy=False), axis=0, prepend=np.int32(0))
    planes = np.ascontiguousarray(steps.T).astype("<i4").view(np.uint8).reshape(sites.shape[1], len(sites), 4)
    return base64.b64encode(zlib.compress(planes.transpose(0, 2, 1).tobytes(), 9)).decode()


def map_records(program: Program, rulebooks: Mapping[str, Rulebook]) -> dict[str, dict[str, Any]]:
    """What the pair equation needs, by key, in network order."""
    builds = {op.map: op for op in program.index_ops if isinstance(op, BuildMap)}
    return {
        keyed.key: {
            "key": keyed.key,
            "layers": list(keyed.layers),
            "in": builds[keyed.map].sites,
            "out": builds[keyed.map].outputs,
            **{name: getattr(builds[keyed.map].geometry, name) for name in GEOMETRY},
            "pairs_per_offset": np.diff(rulebooks[keyed.key].pair_splits).tolist(),
        }
        for keyed in program.keys
    }


def operation_records(network: Network) -> list[dict[str, Any]]:
    """Every value operation: the layer it belongs to, by number, the value it makes, and how it reads others."""
    program = network.program
    ends = [program.layers[layer.name] for layer in network.layers]
    forward = {keyed.map: number for number, keyed in enumerate(program.keys)}
    maps = {slot: (number, False) for slot, number in forward.items()}
    maps |= {op.map: (forward[op.source], True) for op in program.index_ops if isinstance(op, InvertMap)}
    return [
        {
            "layer": next(number for number, end in enumerate(ends) if end >= op.output),
            "output": op.output,
            "reads": _reads(op, maps),
        }
        for op in program.value_ops
    ]


def _reads(op: ValueOp, maps: Mapping[int, tuple[int, bool]]) -> list[dict[str, Any]]:
    """The values an operation reads, each by rules, row by row, through a column of cells, or whole."""
    if isinstance(op, Concat | Add):
        return [{"value": slot, "kind": "same"} for slot in op.inputs]
    reads: list[dict[str, Any]] = []
    if isinstance(op, Convolve | Pool) and op.map is not None:
        number, inverse = maps[op.map]
        reads.append({"value": op.input, "kind": "map", "map": number, "inverse": inverse})
    else:
        kinds: dict[type[ValueOp], str] = {GlobalPool: "global", HeightCompression: "flatten"}
        reads.append({"value": op.input, "kind": kinds.get(type(op), "same")})
    if isinstance(op, Convolve | LayerNorm) and op.add is not None:
        reads.append({"value": op.add, "kind": "same"})
    return reads
