"""`spcli doctor`."""

from __future__ import annotations

import click

from spcli.cli.options import format_option, subcommand
from spcli.cli.render import default_format, flat, json_line, json_text, write_bytes, write_line

EXAMPLES = """
spcli doctor
spcli doctor --full --format json
"""
BROKEN = 3
MARKS = {True: "OK  ", False: "FAIL", None: "--  "}


@subcommand("doctor", EXAMPLES)
@click.option("--full", is_flag=True, help="Also import open3d, which takes seconds.")
@format_option("table", "json", "ndjson", "csv")
def command(full: bool, form: str | None) -> int:
    """Check the installation.

    Versions, instruction set, threads, CUDA, Triton and open3d, then a self-test: a small cloud is voxelized and
    convolved and compared with plain Python. Ends with 3 when something that is needed fails.
    """
    from spcli.doctor import checkup, report

    form = default_format(form)
    checks = []
    for check in checkup(full):
        checks.append(check)
        if form == "table":
            write_line(f"{MARKS[check.ok]}  {check.name}: {check.detail}")
    found = report(checks)
    if form == "csv":
        from spcli.cli.render import CsvWriter

        write_bytes(CsvWriter().text(map(flat, found["checks"])).encode())
    elif form != "table":
        write_line(json_text(found) if form == "json" else json_line(found))
    return 0 if found["ok"] else BROKEN
