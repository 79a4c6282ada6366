"""`spcli stats`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import inf

import click
from msgspec import Struct

from spcli.cli.choices import DeviceChoices, NetworkChoices, device_options, network_options
from spcli.cli.console import console
from spcli.cli.inputs import BAD_INPUT, engine_for, index_phase, read_configuration, read_scan, warned
from spcli.cli.option_types import VoxelSize
from spcli.cli.options import format_option, grouped, subcommand
from spcli.cli.plotting import PlotChoices, picture_options, plot_options
from spcli.cli.views.render import Record, default_format, json_line, write_line
from spcli.cli.views.stats import DAMAGED, checked_text, print_stats, print_sweep
from spcli.config import Config
from spcli.engines.base import Engine
from spcli.errors import InputError, UsageError
from spcli.pipeline.predict import predict, sweep
from spcli.pipeline.session import RunResult
from spcli.plot import plot_layers, plot_sites, plot_sweep, site_sets
from spcli.readers import Scan, find_scans, load
from spcli.readers.strict_json import parse_json
from spcli.stats import scan_stats, summarize

EXAMPLES = """
spcli stats out/scan.stats.json
spcli stats out --format csv > layers.csv
spcli stats scan.bin --config second-kitti --tile 128
spcli stats scan.bin --config second-kitti --predict
spcli stats scan.bin --config second-kitti --sweep 0.05,0.05,0.1 --sweep 0.1,0.1,0.2 --plot sweep.png
"""
SUFFIX = ".stats.json"


class StatsChoices(Struct, frozen=True):
    """What to compute and how to print it; `sweep` are voxel sizes."""

    predict: bool
    sweep: tuple[tuple[float, float, float], ...]
    tile: str
    form: str | None

    def __post_init__(self) -> None:
        for size in self.sweep:
            if not all(0 < side < inf for side in size):
                sides = ",".join(f"{side:g}" for side in size)
                raise UsageError(f"--sweep {sides}: every side of a voxel is a number of metres above 0")


@subcommand("stats", EXAMPLES)
@click.argument("path", metavar="DIR|FILE")
@grouped(
    "choices",
    StatsChoices,
    click.option("--predict", is_flag=True, help="Count rules, do not list them: sites, rules, MACs and memory."),
    click.option("--sweep", type=VoxelSize(), multiple=True, help="Predict at this voxel size, metres; repeatable."),
    click.option("--tile", type=click.Choice(["16", "32", "64", "128"]), default="64", show_default=True,
                 help="Rows of the tiles that a table shows."),
    format_option("table", "json", "ndjson", "csv"),
)  # fmt: skip
@plot_options("layers", "sites", "sweep")
@network_options()
@device_options("cpu")
def command(path: str, choices: StatsChoices, plot: PlotChoices, network: NetworkChoices, where: DeviceChoices) -> int:
    """Show sparsity and cost, layer by layer.

    FILE is a .stats.json that spcli run wrote, or with --config a scan or tensor, whose statistics need no weights.
    For a DIR the statistics below it, or with --config those of the scans below it, are summed up: mean, minimum,
    median, 95th percentile and maximum over scans.

    A voxel size of --sweep is X,Y,Z as in spcli voxelize, or one number for a cube.
    """
    if plot.picture == "sweep" and not choices.sweep:
        raise UsageError("--picture sweep draws voxel sizes; give them with --sweep")
    if not network.given:
        if choices.predict or choices.sweep:
            raise UsageError(f"{path}: --predict and --sweep need the network; give --config FILE")
        _show(_of_folder(path) if os.path.isdir(path) else _load(path), path, choices, plot)
        return 0
    compute = _sweep if choices.sweep else _of_scans if os.path.isdir(path) else _of_scan
    return compute(path, choices, plot, network, where)


def _show(stats: Record, path: str, choices: StatsChoices, plot: PlotChoices, result: RunResult | None = None) -> None:
    """Print, and draw where that was asked for."""
    if plot.plot is not None:
        _draw(stats, path, plot, result)
    print_stats(stats, default_format(choices.form), int(choices.tile), choices.predict)


def _draw(stats: Record, path: str, plot: PlotChoices, result: RunResult | None) -> None:
    """The sites of a run, or the costs of its layers; sites where both can be drawn."""
    picture = plot.picture or ("layers" if result is None else "sites")
    if picture == "layers":
        plot_layers(str(plot.plot), stats["layers"], picture_options(plot, path))
    elif result is None:
        raise UsageError(f"--picture sites: {path} holds numbers only; give the scan and --config FILE")
    else:
        sets = site_sets(result.network, result.frame)
        plot_sites(str(plot.plot), sets, picture_options(plot, path))


def _index_phase(config: Config, scan: Scan, engine: Engine, counts_only: bool) -> RunResult:
    """With the rules themselves unless they are only to be counted; prints the warnings."""
    if counts_only:
        return warned(predict(config, scan, device=engine), scan)
    return index_phase(config, scan, engine)


def _of_scan(path: str, choices: StatsChoices, plot: PlotChoices, network: NetworkChoices, where: DeviceChoices) -> int:
    """One scan."""
    config, engine = read_configuration(network), engine_for(where)
    result = _index_phase(config, read_scan(path, network, config), engine, choices.predict)
    if choices.predict:
        _show(result.stats, path, choices, plot)
    else:
        stats = scan_stats(result.network, result.frame, result.counts, result.batch_size, executed=True)
        _show(stats, path, choices, plot, result)
    return 0


def _of_scans(
    path: str, choices: StatsChoices, plot: PlotChoices, network: NetworkChoices, where: DeviceChoices
) -> int:
    """A folder of scans; one that cannot be used does not stop the others."""
    config, engine = read_configuration(network), engine_for(where)
    found = find_scans([path])
    stats, failed = [], 0
    with console.progress(len(found)) as advance:
        for scan in found:
            try:
                content = read_scan(scan.source, network, config)
                stats.append(_index_phase(config, content, engine, choices.predict).stats)
            except InputError as error:
                failed = BAD_INPUT
                console.error(str(error))
            advance()
    if not stats:
        raise InputError(f"{path}: none of its scans can be used")
    _show(summarize(stats), path, choices, plot)
    return failed


def _sweep(path: str, choices: StatsChoices, plot: PlotChoices, network: NetworkChoices, where: DeviceChoices) -> int:
    """One row per voxel size, printed as it is known where lines are printed."""
    if os.path.isdir(path):
        raise UsageError(f"{path}: is a folder; --sweep takes one scan")
    if plot.picture not in (None, "sweep"):
        raise UsageError(f"--picture {plot.picture}: a sweep has one picture, sweep")
    form = default_format(choices.form)
    config, engine = read_configuration(network), engine_for(where)
    rows = []
    for row in sweep(config, read_scan(path, network, config), choices.sweep, device=engine):
        rows.append(row)
        if form == "ndjson":
            write_line(json_line(row))
    print_sweep(rows, form)
    if plot.plot is not None:
        _draw_sweep(rows, path, plot)
    return 0


def _draw_sweep(rows: Sequence[Record], path: str, plot: PlotChoices) -> None:
    """The memory that is drawn is the most there is at once."""
    good = [{**row, "bytes": row["memory"]["peak_bytes"]} for row in rows if row["ok"]]
    if not good:
        raise UsageError(f"--plot {plot.plot}: the network works at none of these voxel sizes")
    plot_sweep(str(plot.plot), good, picture_options(plot, path))


def _of_folder(path: str) -> Record:
    """The statistics below a folder, summed up."""
    files = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if name.endswith(SUFFIX)
    )
    if not files:
        raise InputError(f"{path}: holds no *{SUFFIX}; write statistics with spcli run")
    loaded = [dict(_load(file)) for file in files]
    try:
        return summarize(loaded)
    except DAMAGED:
        raise InputError(f"{path}: its *{SUFFIX} do not go together; write them again with spcli run") from None


def _load(path: str) -> Record:
    """A statistics file.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
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
    result: Record = stats
    checked_text(result, path)
    return result
