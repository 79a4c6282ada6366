"""What a report is about: one scan's run through a network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct

from spcli.engines.base import Frame
from spcli.network import Network
from spcli.readers import Scan, StoredTensor
from spcli.rulebook import Rulebook

if TYPE_CHECKING:
    from spcli.pipeline.session import RunResult


class InputGrid(Struct, frozen=True):
    """Where the input's sites lie: the lower corner of site 0 and the size of a cell, metres, x, y, z."""

    origin: tuple[float, float, float]
    cell: tuple[float, float, float]


class Subject(Struct, frozen=True):
    """A run to report.

    Attributes:
        source: the scan's name.
        config: the configuration's name.
        network: the network, with every channel and shape known.
        rulebooks: the rules of every key.
        stats: the `spcli.stats/1` object.
        grid: metres of the input's sites; None counts in cells.
        digest: SHA-256 of the scan, in hexadecimal; empty where not known.
    """

    source: str
    config: str
    network: Network
    rulebooks: Mapping[str, Rulebook]
    stats: Mapping[str, Any]
    grid: InputGrid | None = None
    digest: str = ""


def report_subject(result: RunResult, scan: Scan | str = "scan", config: str = "") -> Subject:
    """The subject of a run that wanted rulebooks.

    Args:
        result: what `spcli.run` gave; features are not needed.
        scan: what was run, or its name.
        config: the configuration's name.
    """
    source, digest = (scan.source, scan.digest) if isinstance(scan, Scan) else (scan, "")
    name = "standard input" if source == "-" else os.path.basename(source)
    meta = scan.content.meta if isinstance(scan, Scan) and isinstance(scan.content, StoredTensor) else {}
    grid = _grid_of_frame(result.frame) or grid_of_meta(meta)
    return Subject(name, config, result.network, result.rulebooks, result.stats, grid, digest)


def _grid_of_frame(frame: Frame) -> InputGrid | None:
    if frame.grid is None:
        return None
    corner = np.stack([frame.grid.origin, frame.grid.voxel_size]).astype(np.float64).round(6)
    (x, y, z), (width, depth, height) = corner.tolist()
    return InputGrid((x, y, z), (width, depth, height))


def grid_of_meta(meta: Mapping[str, Any]) -> InputGrid | None:
    """The grid that a file's `meta` tells by voxel size, range and stride; None where it does not."""
    try:
        x, y, z = (float(low) for low in meta["point_cloud_range"][:3])
        strides = [float(stride) for stride in meta.get("stride", (1, 1, 1))]
        sizes = [float(size) for size in meta["voxel_size"]]
        width, depth, height = (size * stride for size, stride in zip(sizes, reversed(strides), strict=True))
        return InputGrid((x, y, z), (width, depth, height))
    except (LookupError, TypeError, ValueError):
        return None
