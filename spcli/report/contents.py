"""What a report is about: one scan's run through a network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct

from spcli.grid import VoxelGrid
from spcli.network import Network
from spcli.placement import Placement
from spcli.readers import Scan
from spcli.rulebook import Rulebook

if TYPE_CHECKING:
    from spcli.pipeline.session import RunResult

DECIMALS = 6
"""Of the metres that a page says, to the micrometre."""


class ReportContents(Struct, frozen=True):
    """A run to report.

    Attributes:
        source: the scan's name.
        config: the configuration's name.
        network: the network, with every channel and shape known.
        rulebooks: the rules of every key.
        stats: the `spcli.stats/1` object.
        placement: where the input's sites lie, z, y, x; None counts in cells.
        digest: SHA-256 of the scan, in hexadecimal; empty where not known.
    """

    source: str
    config: str
    network: Network
    rulebooks: Mapping[str, Rulebook]
    stats: Mapping[str, Any]
    placement: Placement | None = None
    digest: str = ""


def report_contents(result: RunResult, scan: Scan | str = "scan", config: str = "") -> ReportContents:
    """The contents of a run that wanted rulebooks.

    Args:
        result: what `spcli.run` gave; features are not needed.
        scan: what was run, or its name.
        config: the configuration's name.
    """
    source, digest = (scan.source, scan.digest) if isinstance(scan, Scan) else (scan, "")
    name = "standard input" if source == "-" else os.path.basename(source)
    grid = result.frame.grid
    placement = Placement.from_meta(scan.meta if isinstance(scan, Scan) else {}) if grid is None else _rounded(grid)
    return ReportContents(name, config, result.network, result.rulebooks, result.stats, placement, digest)


def _rounded(grid: VoxelGrid) -> Placement:
    """The placement of a grid in decimal numbers: a configured 0.05 is not 0.05000000074505806, its float32."""
    exact = Placement.from_grid(grid)
    (x, y, z), (width, depth, height) = np.round((exact.origin, exact.voxel_size), DECIMALS).tolist()
    return Placement((width, depth, height), (x, y, z))
