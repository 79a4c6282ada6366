"""Statistics for people and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spcli.cli.views.render import CsvWriter, Record, amount, flat, json_line, json_text, table, write_bytes, write_line
from spcli.errors import InputError

HEADER = ("layer", "type", "sites in", "sites out", "out/in", "density", "pairs", "pairs/out", "MACs", "saved", "MB")

ORDERS = ("natural", "mask sort", "Gray sort")
MEMORY_HEADER = ("layer", "sites in", "sites out", "density", "pairs", "pairs/out", "MACs", "moved MB", "FLOP/B",
                 "features MB", "rules MB", "weights MB")  # fmt: skip

# What showing a file ends in whose values are not of the types that spcli writes.
DAMAGED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


def print_stats(stats: Record, form: str, tile: int = 64, memory: bool = False) -> None:
    """Statistics in the format `form`; `tile` and `memory` as `stats_text` takes them."""
    if form == "table":
        write_line(stats_text(stats, tile, memory))
    elif form == "csv":
        write_bytes(CsvWriter().text(map(flat, _layer_rows(stats))).encode())
    else:
        write_line(json_text(stats) if form == "json" else json_line(stats))


def print_sweep(rows: Sequence[Record], form: str) -> None:
    """The rows of a sweep in the format `form`; of NDJSON nothing, whose lines are printed as they come."""
    if form == "table":
        write_line(_sweep_text(rows))
    elif form == "json":
        write_line(json_text(rows))
    elif form == "csv":
        write_bytes(CsvWriter().text(_sweep_rows(rows)).encode())


def checked_text(stats: Record, source: str) -> str:
    """`stats_text` of a file that anything may have written.

    Raises:
        InputError: a value is missing or of another type.
    """
    try:
        return stats_text(stats)
    except DAMAGED:
        raise InputError(f"{source}: its statistics are damaged; write them again with spcli run") from None


def stats_text(stats: Record, tile: int = 64, memory: bool = False) -> str:
    """One scan's statistics, or the means of a summary over scans.

    Args:
        stats: an object of `spcli.stats` or `spcli.stats_summary`.
        tile: the tile size that is shown, in rows.
        memory: show each layer's memory in place of its type and savings.
    """
    if "layers" not in stats or "totals" not in stats:
        return "no statistics"
    mean = _mean if stats.get("scans") is not None else _itself
    lines = ["1 scan" if stats["scans"] == 1 else f"{stats['scans']} scans, means"] if mean is _mean else []
    lines.append(_points_line(stats, mean))
    totals = {name: mean(value) for name, value in stats["totals"].items()}
    header, row = (MEMORY_HEADER, _memory_row) if memory else (HEADER, _row)
    rows = [row(layer, mean) for layer in stats["layers"]]
    saved = _percent(totals.get("mac_saving"))
    total = f"total: {amount(totals['macs'])}MACs of {amount(totals['dense_macs'])} dense ({saved} saved)"
    lines += ["", table(rows, header), "", f"{total}, {amount(totals['parameters'])} parameters"]
    lines += _memory_lines(stats.get("memory"), mean)
    if memory:
        lines.append("every site and rule was built and counted, so all of this is exact; no feature was computed")
    if "tiles" in stats:
        lines += ["", _tiles_text(stats, tile)]
    return "\n".join(lines)


def _memory_lines(memory: Record | None, mean: Any) -> list[str]:
    """What is in memory at once."""
    if not memory:
        return []
    mega = {name: f"{mean(value) / 1e6:.1f} MB" for name, value in memory.items() if name.endswith("_bytes") and value}
    where = f" ({memory['peak_layer']})" if "peak_layer" in memory else ""
    parts = [
        f"{what} {mega[name]}{place}"
        for what, name, place in (
            ("sites", "site_bytes", ""),
            ("rules", "rule_bytes", ""),
            ("weights", "weight_bytes", ""),
            ("features", "peak_feature_bytes", where),
        )
        if name in mega
    ]
    return [f"memory at the peak: {mega.get('peak_bytes', '0 MB')}; {', '.join(parts)}"]


def _tiles_text(stats: Record, tile: int) -> str:
    """Executed over useful multiply-adds, layer by layer, for tiles of `tile` rows."""
    column = stats["tiles"]["rows"].index(tile)
    splits = stats["tiles"]["splits"]
    header = ("layer", "taps", "masks", "every tap", *ORDERS, *(f"in {groups}" for groups in splits[1:]))
    rows = [
        (layer["name"], layer["kernel_volume"], layer["masks"]["distinct"], *_tile_cells(layer, column))
        for layer in stats["layers"]
        if layer["macs"] and "executed_macs" in layer
    ]
    total = stats["totals"]
    rows.append(("all", None, None, None, *_executed_cells(total["executed_macs"], column, total["macs"])))
    title = f"what a GPU executes for a useful multiply-add, in tiles of {tile} rows (Gray sort also with splits):"
    return f"{title}\n\n{table(rows, header)}"


def _tile_cells(layer: Record, column: int) -> tuple[float | None, ...]:
    macs = layer["macs"]
    every = layer["out_sites"] * layer["kernel_volume"] * layer["in_channels"] * layer["out_channels"]
    return (_times(every, macs), *_executed_cells(layer["executed_macs"], column, macs))


def _executed_cells(executed: Record, column: int, macs: int) -> tuple[float | None, ...]:
    gray = [of_splits[column] for of_splits in executed["gray_sorted"]]
    values = (executed["natural"][column], executed["mask_sorted"][0][column], *gray)
    return tuple(_times(value, macs) for value in values)


def _times(executed: int, macs: int) -> float | None:
    return round(executed / macs, 2) if macs else None


def _itself(value: Any) -> Any:
    return value


def _mean(value: Any) -> Any:
    return value["mean"] if isinstance(value, dict) else value


def _points_line(stats: Record, mean: Any) -> str:
    points = {name: mean(value) for name, value in (stats.get("points") or {}).items()}
    voxels = {name: mean(value) for name, value in stats["voxels"].items()}
    parts = [f"{points['read']:,.0f} points, {points['in_range']:,.0f} in range"] if points else []
    return "; ".join([*parts, f"{voxels['active']:,.0f} voxels, density {voxels['density'] or 0:.2e}"])


def _row(layer: Record, mean: Any) -> tuple[Any, ...]:
    pairs, outputs = mean(layer["pairs"]), mean(layer["out_sites"])
    moved = mean(layer["bytes"]) if "bytes" in layer else None
    density = mean(layer["out_density"])
    return (
        layer["name"],
        layer["type"],
        round(mean(layer["in_sites"])),
        round(outputs),
        mean(layer["dilation_ratio"]),
        None if density is None else f"{density:.1e}",
        round(pairs),
        pairs / outputs if outputs else None,
        amount(mean(layer["macs"])),
        _percent(mean(layer["mac_saving"])),
        None if moved is None else round(moved / 1e6, 1),
    )


def _memory_row(layer: Record, mean: Any) -> tuple[Any, ...]:
    """`features` are all that are alive while the layer runs; rules count where they are first used."""
    name, _, sites_in, sites_out, _, density, pairs, per_output, macs, _, moved = _row(layer, mean)
    memory = layer.get("memory", {})
    kept = [memory.get(what) for what in ("feature_bytes", "rule_bytes", "weight_bytes")]
    alive = [None if value is None else round(mean(value) / 1e6, 2) for value in kept]
    intensity = mean(layer["flop_per_byte"])
    intensity = None if intensity is None else round(intensity, 1)
    return (name, sites_in, sites_out, density, pairs, per_output, macs, moved, intensity, *alive)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _layer_rows(stats: Record) -> list[Record]:
    """One row per layer for CSV; what tiles execute has a column for each order, number of splits and tile size."""
    return [{**layer, **_executed_columns(layer, stats)} for layer in map(dict, stats["layers"])]


def _executed_columns(layer: Record, stats: Record) -> Record:
    if "executed_macs" not in layer:
        return {}
    rows, splits = stats["tiles"]["rows"], stats["tiles"]["splits"]
    executed = layer["executed_macs"]
    columns = {f"natural_{tile}": macs for tile, macs in zip(rows, executed["natural"], strict=True)}
    for order in ("mask_sorted", "gray_sorted"):
        for groups, of_splits in zip(splits, executed[order], strict=True):
            columns |= {f"{order}_{groups}_{tile}": macs for tile, macs in zip(rows, of_splits, strict=True)}
    return {"executed_macs": columns}


SWEEP_HEADER = ("voxel m (x, y, z)", "shape (z, y, x)", "sites", "density", "pairs", "MACs", "moved MB", "features MB",
                "rules MB", "peak MB")  # fmt: skip


def _sweep_text(rows: Sequence[Record]) -> str:
    """One row per voxel size, and below them why a size does not work."""
    lines = [table([_sweep_row(row) for row in rows], SWEEP_HEADER)]
    reasons = [f"{_size(row)}: {row['error']}" for row in rows if not row["ok"]]
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


def _sweep_row(row: Record) -> tuple[Any, ...]:
    if not row["ok"]:
        return (_size(row), "does not work", *[None] * (len(SWEEP_HEADER) - 2))
    memory = row["memory"]
    density = "-" if row["density"] is None else f"{row['density']:.1e}"
    sizes = (row["bytes"], memory["peak_feature_bytes"], memory["rule_bytes"], memory["peak_bytes"])
    mega = [round(number / 1e6, 1) for number in sizes]
    return (_size(row), row["spatial_shape"], row["sites"], density, row["pairs"], amount(row["macs"]), *mega)


def _size(row: Record) -> str:
    return " x ".join(f"{side:g}" for side in row["voxel_size"])


def _sweep_rows(rows: Sequence[Record]) -> list[Record]:
    """One row per voxel size for CSV, each with every column."""
    found = []
    for row in rows:
        sides = dict(zip(("voxel_x", "voxel_y", "voxel_z"), row["voxel_size"], strict=True))
        found.append(flat({"schema": row["schema"], "source": row["source"], **sides, **row, "voxel_size": _size(row)}))
    columns = dict.fromkeys(name for row in found for name in row)
    return [{**columns, **row} for row in found]
