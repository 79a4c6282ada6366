"""The page's tables: titles, how each column is written, and rows of plain values.

Kinds of column: `text` as it is, `whole` with separators, `short` with a unit of a thousand, `decimal` and
`percent` rounded, `list` numbers joined by commas, `sizes` numbers joined by times signs. None is shown as a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spcli.network import Network

Table = dict[str, Any]

LAYERS = (
    ("layer", "text"), ("type", "text"), ("rulebook", "text"), ("in", "whole"), ("out", "whole"),
    ("sites in", "whole"), ("sites out", "whole"), ("out/in", "decimal"), ("shape out", "sizes"),
    ("density", "percent"), ("rules", "whole"), ("rules/out", "decimal"), ("most", "whole"), ("MACs", "short"),
    ("dense MACs", "short"), ("saved", "percent"), ("parameters", "whole"), ("MB", "decimal"),
)  # fmt: skip
RULEBOOKS = (
    ("rulebook", "text"), ("layers", "text"), ("kind", "text"), ("kernel", "list"), ("stride", "list"),
    ("padding", "list"), ("dilation", "list"), ("sites in", "whole"), ("sites out", "whole"), ("rules", "whole"),
    ("rules/out", "decimal"),
)  # fmt: skip
AXES = {2: "y, x", 3: "z, y, x"}
FROM_STATS = ("in_channels", "out_channels", "in_sites", "out_sites", "dilation_ratio", "out_spatial_shape")
MEGABYTE = 10**6


def layer_table(network: Network, stats: Sequence[Mapping[str, Any]]) -> Table:
    """One row per layer, from its statistics."""
    rows = [
        [
            *(layer.name, layer.type, layer.key or ""),
            *(row[name] for name in FROM_STATS),
            *(row["out_density"], row["pairs"], row["pairs_per_output"]["mean"], row["pairs_per_output"]["max"]),
            *(row["macs"], row["dense_macs"], row["mac_saving"], row["parameters"], row["bytes"] / MEGABYTE),
        ]
        for layer, row in zip(network.layers, stats, strict=True)
    ]
    return {"columns": LAYERS, "rows": rows}


def rulebook_table(maps: Sequence[Mapping[str, Any]], sites: Sequence[int]) -> Table:
    """One row per rulebook; `sites` are the active sites by sites slot."""
    rows = []
    for one in maps:
        kind = "submanifold" if one["submanifold"] else "transposed" if one["transposed"] else "regular"
        pairs, inputs, outputs = sum(one["pairs_per_offset"]), sites[one["in"]], sites[one["out"]]
        sizes = (one[name] for name in ("kernel_size", "stride", "padding", "dilation"))
        names = ", ".join(one["layers"])
        rows.append([one["key"], names, kind, *sizes, inputs, outputs, pairs, pairs / outputs if outputs else None])
    return {"columns": RULEBOOKS, "rows": rows}


def offset_table(one: Mapping[str, Any], offsets: Sequence[tuple[int, ...]], outputs: int) -> Table:
    """One row per tap of a rulebook with `outputs` output sites."""
    counts = one["pairs_per_offset"]
    total = sum(counts)
    titles = (("tap", "text"), (f"offset {AXES[len(one['kernel_size'])]}", "list"), ("rules", "whole"))
    rows = [
        [tap, offset, count, count / total if total else None, count / outputs if outputs else None]
        for tap, (offset, count) in enumerate(zip(offsets, counts, strict=True))
    ]
    return {"columns": (*titles, ("of all rules", "percent"), ("of output sites", "percent")), "rows": rows}
