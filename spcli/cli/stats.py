"""`spcli stats`."""

from __future__ import annotations

import os
from typing import Any

import click

from spcli.cli.console import console
from spcli.cli.options import columns_option, device_options, format_option, set_option, subcommand
from spcli.cli.render import CsvWriter, default_format, flat, json_line, json_text, write_bytes, write_line
from spcli.cli.stats_view import DAMAGED, checked_text, layer_rows, stats_text
from spcli.errors import InputError, UsageError

EXAMPLES = """
spcli stats out/scan.stats.json
spcli stats out --format csv > layers.csv
spcli stats scan.bin --config second-kitti
"""
SUFFIX = ".stats.json"


@subcommand("stats", EXAMPLES)
@click.argument("path", metavar="DIR|FILE")
@click.option("--config", metavar="FILE", help="The network, for a scan or tensor: a file, or a preset's name.")
@click.option("--preset", metavar="NAME", help="A configuration that comes with spcli.")
@columns_option
@set_option
@device_options("cpu")
@format_option("table", "json", "ndjson", "csv")
def command(path: str, **options: Any) -> None:
    """Show sparsity and cost, layer by layer.

    FILE is a .stats.json that spcli run wrote, or with --config a scan or tensor, whose statistics need no weights.
    For a DIR the statistics below it are summed up: mean, minimum and maximum over scans.
    """
    if options["config"] is not None or options["preset"] is not None:
        stats = _of_scan(path, options)
    elif os.path.isdir(path):
        stats = _of_folder(path)
    else:
        stats = _load(path)
    form = default_format(options["form"])
    if form == "table":
        write_line(stats_text(stats))
    elif form == "csv":
        write_bytes(CsvWriter().text(map(flat, layer_rows(stats))).encode())
    else:
        write_line(json_text(stats) if form == "json" else json_line(stats))


def _of_scan(path: str, options: dict[str, Any]) -> dict[str, Any]:
    from spcli.cli.inputs import read_configuration
    from spcli.engines.base import Want
    from spcli.engines.device import choose_engine
    from spcli.pipeline import run
    from spcli.readers import read

    config = read_configuration(options["config"], options["preset"], options["sets"], options["columns"])
    scan = read(path, options["columns"] or config.columns)
    engine = choose_engine(options["device"], console.warn, options["threads"])
    result = run(config, scan, want=Want(rulebooks=True, values=False), engine=engine)
    for warning in result.warnings:
        console.warn(f"{path}: {warning}")
    return result.stats


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
