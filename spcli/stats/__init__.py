"""Sparsity and cost: pure functions of a network, a frame and its rulebooks; time, files and devices are elsewhere.

`layers` makes the `spcli.stats/1` object of one scan, from `masks` (which taps feed which outputs, and what tiles make
of that) and `memory` (what is alive at once); `summary` spreads the objects of many scans.
"""

from __future__ import annotations

from spcli.stats.layers import SCHEMA, layer_pairs, most_per_row, point_counts, scan_stats
from spcli.stats.summary import SUMMARY_SCHEMA, summarize

__all__ = [
    "SCHEMA",
    "SUMMARY_SCHEMA",
    "layer_pairs",
    "most_per_row",
    "point_counts",
    "scan_stats",
    "summarize",
]
