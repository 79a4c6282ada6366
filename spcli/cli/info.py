"""`spcli info`."""

from __future__ import annotations

import click

from spcli.cli.choices import Columns, columns_option
from spcli.cli.console import console
from spcli.cli.options import format_option, subcommand
from spcli.cli.views.describe import description_text
from spcli.cli.views.render import default_format, print_one
from spcli.describe import describe_file

EXAMPLES = """
spcli info scan.bin
spcli info out/scan.features.npz --format json
cat scan.bin | spcli info - --columns 4
"""


@subcommand("info", EXAMPLES)
@click.argument("file", metavar="FILE")
@columns_option
@format_option("table", "json", "ndjson", "csv")
def command(file: str, columns: Columns, form: str | None) -> None:
    """Say what a file holds.

    FILE is a scan, voxels, features, a rulebook dump, weights or statistics; - is standard input. For a scan: its
    columns with their extremes, its bounds in metres, and the shipped configuration that fits it best.
    """
    found = describe_file(file, columns)
    for warning in found.get("warnings", ()):
        console.warn(warning if warning.startswith(file) else f"{file}: {warning}")
    print_one(found, default_format(form), description_text(found))
