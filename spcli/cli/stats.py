"""`spcli stats`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from spcli.cli.console import console
from spcli.cli.options import (
    VoxelSizes,
    columns_option,
    device_options,
    format_option,
    set_option,
    subcommand,
)
from spcli.cli.plotting import check_plot, plot_options
from spcli.cli.views.render import CsvWriter, default_format, flat, json_line, json_text, write_bytes, write_line
from spcli.cli.views.stats import DAMAGED, checked_text, layer_rows, stats_text, sweep_rows, sweep_text
from spcli.errors import InputError, UsageError

if TYPE_CHECKING:
    from spcli.config import Config
    from spcli.engines.base import Engine
    from spcli.pipeline.session import RunResult
    from spcli.readers import Scan

EXAMPLES = """
spcli stats out/scan.stats.json
spcli stats out --format csv > layers.csv
spcli stats scan.bin --config second-kitti --tile 128
spcli stats scan.bin --config second-kitti --predict
spcli stats scan.bin --config second-kitti --sweep 0.05x0.05x0.1,0.1x0.1x0.2 --plot sweep.png
"""
SUFFIX = ".stats.json"
BAD_INPUT = 4

Stats = dict[str, Any]


@subcommand("stats", EXAMPLES)
@click.argument("path", metavar="DIR|FILE")
@click.option("--config", metavar="FILE", help="The network, for a scan or tensor: a file, or a preset's name.")
@click.option("--preset", metavar="NAME", help="A configuration that comes with spcli.")
@click.option("--predict", is_flag=True, help="Count rules, do not list them: sites, rules, MACs and memory, quickly.")
@click.option("--sweep", type=VoxelSizes(), help="Predict at each of these voxel sizes, metres.")
@click.option("--voxel-size", "sizes", type=VoxelSizes(";", ","), multiple=True,
              help="The same, written as spcli voxelize takes it; may be repeated.")  # fmt: skip
@click.option("--tile", type=click.Choice(["16", "32", "64", "128"]), default="64", show_default=True,
              help="Rows of the tiles that a table tells of.")  # fmt: skip
@plot_options("layers", "sites", "sweep")
@columns_option
@set_option
@device_options("cpu")
@format_option("table", "json", "ndjson", "csv")
def command(path: str, **options: Any) -> int:
    """Show sparsity and cost, layer by layer.

    FILE is a .stats.json that spcli run wrote, or with --config a scan or tensor, whose statistics need no weights.
    For a DIR the statistics below it, or with --config those of the scans below it, are summed up: mean, minimum,
    median, 95th percentile and maximum over scans.

    A voxel size of --sweep is a number, which makes a cube, or XxYxZ: 0.05,0.1x0.1x0.2.
    """
    options["sizes"] = [*(options["sweep"] or ()), *(size for sizes in options["sizes"] for size in sizes)]
    form = default_format(options["form"])
    check_plot(options)
    if options["picture"] == "sweep" and not options["sizes"]:
        raise UsageError("--picture sweep draws voxel sizes; give them with --sweep")
    if options["config"] is None and options["preset"] is None:
        if options["predict"] or options["sizes"]:
            raise UsageError(f"{path}: --predict and --sweep need the network; give --config FILE")
        return _show(_of_folder(path) if os.path.isdir(path) else _load(path), form, path, options)
    if options["sizes"]:
        return _sweep(path, form, options)
    return _of_scans(path, form, options) if os.path.isdir(path) else _of_scan(path, form, options)


def _show(stats: Stats, form: str, path: str, options: dict[str, Any], result: RunResult | None = None) -> int:
    """Print, and draw where that was asked for."""
    if options["plot"]:
        from spcli.cli.plotting import draw_layers

        draw_layers(stats, options, path, result)
    if form == "table":
        write_line(stats_text(stats, int(options["tile"]), options["predict"]))
    elif form == "csv":
        write_bytes(CsvWriter().text(map(flat, layer_rows(stats))).encode())
    else:
        write_line(json_text(stats) if form == "json" else json_line(stats))
    return 0


def _prepared(options: dict[str, Any]) -> tuple[Config, Engine]:
    from spcli.cli.inputs import read_configuration
    from spcli.engines.device import choose_engine

    config = read_configuration(options["config"], options["preset"], options["sets"], options["columns"])
    return config, choose_engine(options["device"], console.warn, options["threads"])


def _read(path: str, config: Config, options: dict[str, Any]) -> Scan:
    from spcli.readers import read

    return read(path, options["columns"] or config.columns)


def _result(config: Config, scan: Scan, engine: Engine, predict: bool) -> RunResult:
    """The index phase, with the rules themselves unless they are only to be counted; says what was odd."""
    from spcli.engines.base import Want
    from spcli.pipeline.predict import predict as predicted
    from spcli.pipeline.run import run

    if predict:
        result = predicted(config, scan, engine=engine)
    else:
        result = run(config, scan, want=Want(rulebooks=True, values=False), engine=engine)
    for warning in result.warnings:
        console.warn(f"{scan.source}: {warning}")
    return result


def _of_scan(path: str, form: str, options: dict[str, Any]) -> int:
    from spcli.stats import scan_stats

    config, engine = _prepared(options)
    predict = options["predict"]
    result = _result(config, _read(path, config, options), engine, predict)
    if predict:
        return _show(result.stats, form, path, options)
    stats = scan_stats(result.network, result.frame, result.counts, result.batch_size, executed=True)
    return _show(stats, form, path, options, result)


def _of_scans(path: str, form: str, options: dict[str, Any]) -> int:
    """A folder of scans; one that cannot be used does not stop the others."""
    from spcli.readers import find_scans
    from spcli.stats import summarize

    config, engine = _prepared(options)
    found = find_scans([path])
    stats, failed = [], 0
    with console.progress(len(found)) as advance:
        for scan in found:
            try:
                content = _read(scan.source, config, options)
                stats.append(_result(config, content, engine, options["predict"]).stats)
            except InputError as error:
                failed = BAD_INPUT
                console.error(str(error))
            advance()
    if not stats:
        raise InputError(f"{path}: none of its scans can be used")
    return _show(summarize(stats), form, path, options) or failed


def _sweep(path: str, form: str, options: dict[str, Any]) -> int:
    """A line a voxel size, as it comes where lines are printed."""
    from spcli.pipeline.predict import sweep

    if os.path.isdir(path):
        raise UsageError(f"{path}: is a folder; --sweep takes one scan")
    if options["picture"] not in (None, "sweep"):
        raise UsageError(f"--picture {options['picture']}: a sweep has one picture, sweep")
    config, engine = _prepared(options)
    rows = []
    for row in sweep(config, _read(path, config, options), options["sizes"], engine=engine):
        rows.append(row)
        if form == "ndjson":
            write_line(json_line(row))
    _print_sweep(rows, form)
    if options["plot"]:
        _draw_sweep(rows, path, options)
    return 0


def _print_sweep(rows: list[Stats], form: str) -> None:
    """What cannot be printed before the last voxel size is known."""
    if form == "table":
        write_line(sweep_text(rows))
    elif form == "json":
        write_line(json_text(rows))
    elif form == "csv":
        write_bytes(CsvWriter().text(sweep_rows(rows)).encode())


def _draw_sweep(rows: list[Stats], path: str, options: dict[str, Any]) -> None:
    """The memory that is drawn is the most there is at once."""
    from spcli.cli.plotting import draw_sweep

    good = [{**row, "bytes": row["memory"]["peak_bytes"]} for row in rows if row["ok"]]
    if not good:
        raise UsageError(f"--plot {options['plot']}: the network works at none of these voxel sizes")
    draw_sweep(good, options, path)


def _of_folder(path: str) -> dict[str, Any]:
    from spcli.stats import summarize

    files = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if name.endswith(SUFFIX)
    )
    if not files:
        raise InputError(f"{path}: holds no *{SUFFIX}; write statistics with spcli run")
    loaded = [_load(file) for file in files]
    try:
        return summarize(loaded)
    except DAMAGED:
        raise InputError(f"{path}: its *{SUFFIX} do not go together; write them again with spcli run") from None


def _load(path: str) -> dict[str, Any]:
    """A statistics file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    from spcli.readers import load
    from spcli.readers.strict_json import parse_json

    data = load(path).data
    try:
        stats = parse_json(data)
        known = str(stats["schema"]).startswith("spcli.stats") and isinstance(stats["layers"], list)
    except (ValueError, TypeError, KeyError):
        known = False
    if not known:
        if data[:1] != b"{":
            raise UsageError(f"{path}: holds no statistics; give --config FILE to compute those of a scan")
        raise InputError(f"{path}: holds no statistics of spcli; write them with spcli run")
    result: dict[str, Any] = stats
    checked_text(result, path)
    return result
