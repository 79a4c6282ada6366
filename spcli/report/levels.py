"""A network's levels, its sets of active sites, packed for the page: their sites and where their cells are drawn.

Everything the page computes with comes from here as plain values: levels, maps by the pair equation's sizes, and the
value operations by what they read.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from spcli.geometry import CellAxes
from spcli.inspect.levels import Sites
from spcli.network import Network
from spcli.placement import Placement
from spcli.program import Program, Read, builds, inverted, reads
from spcli.rulebook import Rulebook

GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "submanifold", "transposed")
IN_CELLS = Placement((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
"""Without metres the grid begins at 0, and a cell is 1 wide."""


def drawn(axes: CellAxes, placement: Placement | None, y_up: bool) -> dict[str, Any]:
    """Where a level's cells are drawn, x, y, z: site s has its centre at `start + step * s`, and `cell` is its size.

    In metres where the input's placement is known, otherwise in its cells. `y_up` False turns y over, since images
    have their first row on top.
    """
    placement = placement or IN_CELLS
    signs = (1, 1 if y_up else -1, 1)
    columns = list(zip(placement.origin, placement.cell, axes.scale[::-1], axes.shift[::-1], signs, strict=True))
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
    by_map = builds(program)
    return {
        keyed.key: {
            "key": keyed.key,
            "layers": list(keyed.layers),
            "in": by_map[keyed.map].sites,
            "out": by_map[keyed.map].outputs,
            **{name: getattr(by_map[keyed.map].geometry, name) for name in GEOMETRY},
            "pairs_per_offset": np.diff(rulebooks[keyed.key].pair_splits).tolist(),
        }
        for keyed in program.keys
    }


def operation_records(network: Network) -> list[dict[str, Any]]:
    """Every value operation: the layer it belongs to, by number, the value it makes, and how it reads others."""
    program = network.program
    ends = [program.layers[layer.name] for layer in network.layers]
    numbers = {keyed.map: number for number, keyed in enumerate(program.keys)}
    maps = {slot: (number, False) for slot, number in numbers.items()}
    maps |= {slot: (numbers[source], True) for slot, source in inverted(program).items()}
    return [
        {
            "layer": next(number for number, end in enumerate(ends) if end >= op.output),
            "output": op.output,
            "reads": [_read_record(read, maps) for read in reads(op)],
        }
        for op in program.value_ops
    ]


def _read_record(read: Read, maps: Mapping[int, tuple[int, bool]]) -> dict[str, Any]:
    """A value that is read, and by which rulebook where it is read by rules."""
    record: dict[str, Any] = {"value": read.value, "kind": read.kind}
    if read.map is not None:
        record["map"], record["inverse"] = maps[read.map]
    return record
