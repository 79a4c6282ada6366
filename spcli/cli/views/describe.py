"""What a file holds, for people."""

from __future__ import annotations

from collections.abc import Callable

from spcli.cli.views.render import Record, shown, table
from spcli.cli.views.stats import checked_text


def description_text(found: Record) -> str:
    """What `describe_file` found, for people."""
    body = _BODIES[found["kind"]](found)
    return f"{found['source']}: {found['kind']}, {found['bytes']:,} bytes, sha256 {found['sha256'][:16]}...\n\n{body}"


def _points(found: Record) -> str:
    rows = [(column["name"], column["min"], column["max"], column["nonfinite"]) for column in found["columns"]]
    lines = [f"{found['points']:,} points, {found['no_returns']:,} at the origin", ""]
    lines.append(table(rows, ("column", "min", "max", "nonfinite")))
    suggestion = found["suggestion"]
    if suggestion and suggestion["preset"]:
        lines += ["", f"--preset {suggestion['preset']} keeps {100 * suggestion['in_range']:.1f} % of the points"]
    if suggestion and suggestion["point_cloud_range"]:
        lines.append(f"--range {','.join(f'{limit:g}' for limit in suggestion['point_cloud_range'])} keeps nearly all")
    return "\n".join(lines)


def _tensor(found: Record) -> str:
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


def _rulebooks(found: Record) -> str:
    rows = [(r["key"], ", ".join(r["layers"]), r["in_sites"], r["out_sites"], r["pairs"]) for r in found["rulebooks"]]
    return table(rows, ("key", "layers", "in sites", "out sites", "pairs"))


def _weights(found: Record) -> str:
    rows = [(name, shape) for name, shape in found["shapes"].items()]
    return f"{found['parameters']:,} parameters\n\n{table(rows, ('name', 'shape'))}"


def _arrays(found: Record) -> str:
    rows = [(name, array["dtype"], array["shape"]) for name, array in found["arrays"].items()]
    return table(rows, ("array", "dtype", "shape"))


def _statistics(found: Record) -> str:
    return checked_text(found["content"], found["source"])


def _json(found: Record) -> str:
    return "\n".join(f"{key:24} {_short(value)}" for key, value in found["content"].items())


_BODIES: dict[str, Callable[[Record], str]] = {
    "points": _points,
    "tensor": _tensor,
    "rulebooks": _rulebooks,
    "weights": _weights,
    "arrays": _arrays,
    "statistics": _statistics,
    "json": _json,
}
