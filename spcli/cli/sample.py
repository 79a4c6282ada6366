"""`spcli sample`."""

from __future__ import annotations

import os
import sys

import click

from spcli.cli.choices import SEED
from spcli.cli.options import subcommand
from spcli.cli.views.render import json_line, write_line
from spcli.errors import UsageError
from spcli.sample import street_scan
from spcli.writers import write_points

MOST_POINTS = 10_000_000
EXAMPLES = """
spcli sample -o scan.bin
spcli sample -o scan.npy --seed 7 --points 20000
spcli sample -o - | spcli info -
"""


@subcommand("sample", EXAMPLES)
@click.option("-o", "--output", required=True, metavar="FILE", help="A .bin or .npy; - writes a .bin to stdout.")
@click.option("--seed", type=SEED, default=0, show_default=True, metavar="N", help="Another seed gives another street.")
@click.option("--points", type=click.IntRange(1, MOST_POINTS), metavar="N", help="About how many; 115,000 by default.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def command(output: str, seed: int, points: int | None, overwrite: bool) -> None:
    """Write a synthetic street scan.

    A 64-beam turn in KITTI's layout: float32 x, y, z in metres and intensity from 0 to 1, the same for the same seed.
    """
    suffix = os.path.splitext(output)[1].lower()
    if output != "-" and suffix not in (".bin", ".npy"):
        raise UsageError(f"-o {output}: a sample is written as .bin or .npy; choose one of these suffixes")
    if output == "-" and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("-o - writes binary points, which a terminal cannot show; pipe them on, or name a file")
    if output != "-" and os.path.exists(output) and not overwrite:
        raise UsageError(f"{output} exists; pass --overwrite or choose another -o")
    cloud = street_scan(seed) if points is None else street_scan(seed, points)
    write_points(sys.stdout.buffer if output == "-" else output, cloud)
    if output != "-":
        record = {"schema": "spcli.sample/1", "output": output, "seed": seed, "points": len(cloud.values)}
        write_line(json_line({**record, "columns": list(cloud.columns)}))
