"""`spcli report`."""

from __future__ import annotations

import os
import sys

import click
from msgspec import Struct

from spcli.cli.choices import DeviceChoices, NetworkChoices, device_options, network_options
from spcli.cli.inputs import engine_for, index_phase, read_configuration, read_scan
from spcli.cli.options import grouped, overwrite_option, subcommand
from spcli.cli.views.render import json_line, write_line
from spcli.errors import InputError, UsageError
from spcli.report import MAX_SITES, ReportContents, read_run, report_contents, write_report
from spcli.report.page import SCHEMA

SUFFIX = ".rulebooks.npz"
EXAMPLES = """
spcli report scan.bin --config second-kitti -o scan.html
spcli report out -o report.html
spcli report out/scan.rulebooks.npz -o report.html --layer conv2_down --layer conv3_down
"""


class ReportChoices(Struct, frozen=True):
    """Where the report goes, and the sites it holds."""

    output: str
    layers: tuple[str, ...]
    max_sites: int
    overwrite: bool

    def __post_init__(self) -> None:
        if self.output == "-" and (sys.stdout is None or sys.stdout.isatty()):
            raise UsageError("-o - writes a whole page, which a terminal cannot show; pipe it on, or name a file")
        if self.output != "-" and os.path.isdir(self.output):
            raise UsageError(f"-o {self.output}: is a folder; name a file in it")
        if self.output != "-" and os.path.exists(self.output) and not self.overwrite:
            raise UsageError(f"{self.output} exists; pass --overwrite or choose another -o")


@subcommand("report", EXAMPLES)
@click.argument("source", metavar="DIR|SCAN")
@grouped(
    "choices",
    ReportChoices,
    click.option("-o", "--output", required=True, metavar="FILE", help="The HTML file; - writes it to stdout."),
    click.option("--layer", "layers", multiple=True, metavar="NAME",
                 help="Hold the sites of this layer only; repeatable."),
    click.option("--max-sites", type=click.IntRange(min=0), default=MAX_SITES, metavar="N",
                 help=f"Leave sites of larger levels out; {MAX_SITES:,} by default."),
    overwrite_option,
)  # fmt: skip
@network_options("The network: a file, or a preset's name; DIR has its own.")
@device_options("cpu")
def command(source: str, choices: ReportChoices, network: NetworkChoices, where: DeviceChoices) -> None:
    """Write an HTML report: layers, sites in 3-D, rules.

    SCAN is a scan or tensor that goes through --config (no weights are needed); DIR is a folder that spcli run wrote,
    or one of its .rulebooks.npz where it has several. The report is one file that needs no network; open it in a
    browser.
    """
    contents = _contents(source, network, where)
    to_stdout = choices.output == "-"
    write_report(sys.stdout.buffer if to_stdout else choices.output, contents, choices.layers, choices.max_sites)
    if not to_stdout:
        _print_record(source, choices.output, contents)


def _print_record(source: str, output: str, contents: ReportContents) -> None:
    totals = {name: contents.stats["totals"][name] for name in ("layers", "pairs", "macs")}
    record = {"schema": SCHEMA, "source": source, "output": output, "bytes": os.path.getsize(output)}
    write_line(json_line({**record, "voxels": contents.stats["voxels"]["active"], **totals}))


def _contents(source: str, network: NetworkChoices, where: DeviceChoices) -> ReportContents:
    """A run that is there already, or that of a scan."""
    config = read_configuration(network) if network.given else None
    if os.path.isdir(source) or source.endswith(SUFFIX):
        return read_run(source, config)
    if config is None:
        if source != "-" and not os.path.exists(source):
            raise InputError(f"{source}: no such file or folder; check the path")
        raise UsageError(f"{source}: is no folder of spcli run; give --config FILE to run a scan")
    scan = read_scan(source, network, config)
    return report_contents(index_phase(config, scan, engine_for(where)), scan, config.name)
