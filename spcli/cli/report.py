"""`spcli report`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from spcli.cli.console import console
from spcli.cli.options import columns_option, device_options, set_option, subcommand
from spcli.errors import InputError, UsageError

if TYPE_CHECKING:
    from spcli.config import Config
    from spcli.report import ReportContents

SUFFIX = ".rulebooks.npz"
EXAMPLES = """
spcli report scan.bin --config second-kitti -o scan.html
spcli report out -o report.html
spcli report out/scan.rulebooks.npz -o report.html --layer conv2_down --layer conv3_down
"""


@subcommand("report", EXAMPLES)
@click.argument("source", metavar="DIR|SCAN")
@click.option("-o", "--output", required=True, metavar="FILE", help="The HTML file; - writes it to stdout.")
@click.option("--config", metavar="FILE", help="The network: a file, or a preset's name; DIR has its own.")
@click.option("--preset", metavar="NAME", help="A configuration that comes with spcli.")
@click.option("--layer", "layers", multiple=True, metavar="NAME", help="Hold the sites of this layer only; repeatable.")
@click.option(
    "--max-sites", type=click.IntRange(min=0), metavar="N", help="Leave sites of larger levels out; 400,000 by default."
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@columns_option
@set_option
@device_options("cpu")
def command(source: str, output: str, **options: Any) -> None:
    """Write an HTML report: layers, sites in 3-D, rules.

    SCAN is a scan or tensor that goes through --config (no weights are needed); DIR is a folder that spcli run wrote,
    or one of its .rulebooks.npz where it has several. The report is one file that needs no network; open it in a
    browser.
    """
    if output == "-" and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("-o - writes a whole page, which a terminal cannot show; pipe it on, or name a file")
    if output != "-" and os.path.isdir(output):
        raise UsageError(f"-o {output}: is a folder; name a file in it")
    if output != "-" and os.path.exists(output) and not options["overwrite"]:
        raise UsageError(f"{output} exists; pass --overwrite or choose another -o")
    from spcli.report import MAX_SITES, write_report

    contents = _contents(source, options)
    most = MAX_SITES if options["max_sites"] is None else options["max_sites"]
    write_report(sys.stdout.buffer if output == "-" else output, contents, options["layers"], most)
    if output != "-":
        _print_record(source, output, contents)


def _print_record(source: str, output: str, contents: ReportContents) -> None:
    from spcli.cli.views.render import json_line, write_line
    from spcli.report.page import SCHEMA

    totals = {name: contents.stats["totals"][name] for name in ("layers", "pairs", "macs")}
    record = {"schema": SCHEMA, "source": source, "output": output, "bytes": os.path.getsize(output)}
    write_line(json_line({**record, "voxels": contents.stats["voxels"]["active"], **totals}))


def _contents(source: str, options: dict[str, Any]) -> ReportContents:
    """A run that is there already, or that of a scan."""
    from spcli.report import read_run

    given = options["config"] is not None or options["preset"] is not None
    config = _configuration(options) if given else None
    if os.path.isdir(source) or source.endswith(SUFFIX):
        return read_run(source, config)
    if config is None:
        if source != "-" and not os.path.exists(source):
            raise InputError(f"{source}: no such file or folder; check the path")
        raise UsageError(f"{source}: is no folder of spcli run; give --config FILE to run a scan")
    return _ran(source, config, options)


def _configuration(options: dict[str, Any]) -> Config:
    from spcli.cli.inputs import read_configuration

    return read_configuration(options["config"], options["preset"], options["sets"], options["columns"])


def _ran(source: str, config: Config, options: dict[str, Any]) -> ReportContents:
    from spcli.engines.base import Want
    from spcli.engines.device import choose_engine
    from spcli.pipeline.run import run
    from spcli.readers import read
    from spcli.report import report_contents

    scan = read(source, options["columns"] or config.columns)
    engine = choose_engine(options["device"], console.warn, options["threads"])
    result = run(config, scan, want=Want(rulebooks=True, values=False), engine=engine)
    for warning in result.warnings:
        console.warn(f"{source}: {warning}")
    return report_contents(result, scan, config.name)
