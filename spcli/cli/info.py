"""`spcli info`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from spcli.cli.console import console
from spcli.cli.options import columns_option, format_option, subcommand
from spcli.cli.views.render import default_format, print_one, shown, table

EXAMPLES = """
spcli info scan.bin
spcli info out/scan.features.npz --format json
cat scan.bin | spcli info - --columns 4
"""


@subcommand("info", EXAMPLES)
@click.argument("file", metavar="FILE")
@columns_option
@format_option("table", "json", "ndjson", "csv")
def command(file: str, columns: int | tuple[str, ...] | None, form: str | None) -> None:
    """Tell what a file holds.

    FILE is a scan, voxels, features, a rulebook dump, weights or statistics; - is standard input. For a scan: its
    columns with their extremes, its bounds in metres, and the shipped configuration that fits it best.
    """
    from spcli.describe import describe_file

    found = describe_file(file, columns)
    for warning in found.get("warnings", ()):
        console.warn(warning if warning.startswith(file) else f"{file}: {warning}")
    print_one(found, default_format(form), _text(found))


def _text(found: dict[str, Any]) -> str:
    body = _BODIES[found["kind"]](found)
    return f"{found['source']}: {found['kind']}, {found['bytes']:,} bytes, sha256 {found['sha256'][:16]}...\n\n{body}"


def _points(found: dict[str, Any]) -> str:
    rows = [(column["name"], column["min"], column["max"], column["nonfinite"]) for column in found["columns"]]
    lines = [f"{found['points']:,} points, {found['no_returns']:,} at the origin", ""]
    lines.append(table(rows, ("column", "min", "max", "nonfinite")))
    suggestion = found["suggestion"]
    if suggestion and suggestion["preset"]:
        lines += ["", f"--preset {suggestion['preset']} keeps {100 * suggestion['in_range']:.1f} % of the points"]
    if suggestion and suggestion["point_cloud_range"]:
        lines.append(f"--range {','.join(f'{limit:g}' for limit in suggestion['point_cloud_range'])} keeps nearly all")
    return "\n".join(lines)


def _tensor(found: dict[str, Any]) -> str:
    rows = [
        ("sites", f"{found['sites']:,}"),
        ("channels", found["channels"]),
        ("spatial shape (z, y, x)", shown(found["spatial_shape"])),
        ("batch size", found["batch_size"]),
        ("density", shown(found["density"])),
        ("features", f"{shown(found['features']['min'])} to {shown(found['features']['max'])}"),
        ("most points in a voxel", shown(found["points_per_voxel_max"])),
        *((f"meta.{key}", _short(value)) for key, value in found["meta"].items()),
    ]
    return "\n".join(f"{name:24} {value}" for name, value in rows)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _rulebooks(found: dict[str, Any]) -> str:
    rows = [(r["key"], ", ".join(r["layers"]), r["in_sites"], r["out_sites"], r["pairs"]) for r in found["rulebooks"]]
    return table(rows, ("key", "layers", "in sites", "out sites", "pairs"))


def _weights(found: dict[str, Any]) -> str:
    rows = [(name, shape) for name, shape in found["shapes"].items()]
    return f"{found['parameters']:,} parameters\n\n{table(rows, ('name', 'shape'))}"


def _arrays(found: dict[str, Any]) -> str:
    rows = [(name, array["dtype"], array["shape"]) for name, array in found["arrays"].items()]
    return table(rows, ("array", "dtype", "shape"))


def _statistics(found: dict[str, Any]) -> str:
    from spcli.cli.views.stats import checked_text

    return checked_text(found["content"], found["source"])


def _json(found: dict[str, Any]) -> str:
    return "\n".join(f"{key:24} {_short(value)}" for key, value in found["content"].items())


_BODIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "points": _points,
    "tensor": _tensor,
    "rulebooks": _rulebooks,
    "weights": _weights,
    "arrays": _arrays,
    "statistics": _statistics,
    "json": _json,
}
