"""Rulebooks in numbers, for people."""

from __future__ import annotations

from collections.abc import Sequence

from spcli.cli.views.render import Record, table

HEADER = ("key", "layers", "in_sites", "out_sites", "pairs", "pairs/output", "most", "no_neighbour", "symmetric",
          "out_spatial_shape", "kernel", "stride")  # fmt: skip


def summary_text(rows: Sequence[Record]) -> str:
    """A table of `rulebook_summary` objects, and a histogram of each."""
    cells = [
        (
            row["key"],
            ", ".join(row["layers"]),
            row["in_sites"],
            row["out_sites"],
            row["pairs"],
            row["pairs_per_output"]["mean"],
            row["pairs_per_output"]["max"],
            row["sites_without_neighbour"],
            row["symmetric"],
            row["out_spatial_shape"],
            row["kernel_size"],
            row["stride"],
        )
        for row in rows
    ]
    return "\n\n".join([table(cells, HEADER), *map(_histogram, rows)])


def _histogram(row: Record) -> str:
    """Rules per output and rules per offset, drawn with bars."""
    counts = row["pairs_per_output"]["histogram"]
    most = max(counts, default=0)
    lines = [f"{row['key']}: rules per output"]
    lines += [f"{rules:4} {count:>10,}  {'#' * -(-40 * count // most)}" for rules, count in enumerate(counts) if count]
    texts = [f"{','.join(map(str, at))}: {n:,}" for at, n in zip(row["offsets"], row["pairs_per_offset"], strict=True)]
    width = max(map(len, texts), default=0)
    side = row["kernel_size"][-1]
    grid = ["  ".join(text.rjust(width) for text in texts[at : at + side]) for at in range(0, len(texts), side)]
    return "\n".join([*lines, f"{row['key']}: rules per offset", *grid])
