"""The report's HTML: a page, its script, three.js, and the data, in one text.

The page forbids itself every address: its content security policy allows the three texts below by their hashes and
nothing else, so a name that got past the escaping could still not run. The data are a JSON block whose `<`, `>` and
`&` are escaped, and the script puts them into the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from spcli import __version__
from spcli.errors import UsageError
from spcli.inspect.levels import Sites, level_sites
from spcli.program import site_axes
from spcli.report.contents import ReportContents
from spcli.report.levels import drawn, map_records, operation_records, packed
from spcli.report.tables import layer_table, offset_table, rulebook_table

SCHEMA = "spcli.report/1"
GAP = 1.05
"""How far the scans of a batch are drawn apart, in widths of the grid."""
SCRIPTS = ("rules.js", "view.js", "page.js")
STATS = ("name", "type", "in_channels", "out_channels", "out_sites", "out_density", "pairs", "macs")


def report_page(contents: ReportContents, layers: Sequence[str] = (), max_sites: int = 2**31) -> str:
    """The page; arguments and errors as `write_report`."""
    style, library, script = _asset("assets/style.css"), _asset("vendor/three.min.js"), _script()
    parts = {
        "policy": (
            f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; style-src {_hash(style)}; "
            "base-uri 'none'; form-action 'none'"
        ),
        "version": __version__,
        "title": html.escape(f"{contents.source} through {contents.config}" if contents.config else contents.source),
        "style": style,
        "three": _asset("vendor/VERSION").strip(),
        "licence": html.escape(_asset("vendor/LICENSE-three.txt")),
        "data": _json(report_data(contents, layers, max_sites)),
        "library": library,
        "script": script,
    }
    # One pass: what is filled in is never searched for names in braces again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("assets/page.html"))


def report_data(contents: ReportContents, layers: Sequence[str] = (), max_sites: int = 2**31) -> dict[str, Any]:
    """What the page knows, as JSON values."""
    network, stats = contents.network, contents.stats
    program = network.program
    names = [layer.name for layer in network.layers]
    maps = map_records(program, contents.rulebooks)
    numbers = {key: number for number, key in enumerate(maps)}
    levels = _levels(contents, _wanted(contents, layers), max_sites)
    return {
        "schema": SCHEMA,
        "version": __version__,
        "source": contents.source,
        "sha256": contents.digest,
        "config": contents.config,
        "points": stats["points"],
        "density": stats["voxels"]["density"],
        "totals": stats["totals"],
        "in_channels": network.in_channels,
        "metres": contents.placement is not None,
        "levels": levels,
        "beside": GAP * stats["spatial_shape"][-2] * levels[0]["step"][1],
        "values": [value.sites for value in program.values],
        "maps": list(maps.values()),
        "operations": operation_records(network),
        "layers": [
            {
                **{name: row[name] for name in STATS},
                "key": layer.key,
                "map": None if layer.key is None else numbers[layer.key],
                "inverse": layer.inverse,
                "value": program.layers[layer.name],
            }
            for layer, row in zip(network.layers, stats["layers"], strict=True)
        ],
        "tables": _tables(contents, list(maps.values()), [level["rows"] for level in levels]),
        "show": names.index(layers[0]) if layers else 0,
    }


def _tables(contents: ReportContents, maps: Sequence[dict[str, Any]], sites: Sequence[int]) -> dict[str, Any]:
    return {
        "layers": layer_table(contents.network, contents.stats["layers"]),
        "rulebooks": rulebook_table(maps, sites),
        "offsets": [
            offset_table(one, contents.rulebooks[one["key"]].geometry.offsets(), sites[one["out"]]) for one in maps
        ],
    }


def _wanted(contents: ReportContents, layers: Sequence[str]) -> set[int]:
    """The sites slots at both ends of `layers`, all slots where there are none."""
    infos = {layer.name: layer for layer in contents.network.layers}
    for name in layers:
        if name not in infos:
            raise UsageError(f"--layer {name}: there is no such layer; there are {', '.join(infos)}")
    if not layers:
        return set(range(contents.network.program.sites))
    return {slot for name in layers for slot in (infos[name].in_sites, infos[name].out_sites)}


def _levels(contents: ReportContents, wanted: set[int], max_sites: int) -> list[dict[str, Any]]:
    program = contents.network.program
    sites = level_sites(program, contents.rulebooks, contents.stats["batch_size"])
    shapes, rows = contents.network.shapes, _rows(contents)
    y_up = contents.placement is not None or len(contents.stats["spatial_shape"]) == 3
    return [
        {
            "rows": rows.get(slot, 0),
            "shape": shapes[slot],
            **drawn(axes, contents.placement, y_up),
            "sites": _embedded(sites[slot], slot in wanted, max_sites),
        }
        for slot, axes in enumerate(site_axes(program))
    ]


def _embedded(sites: Sites | None, wanted: bool, max_sites: int) -> str | None:
    return packed(sites) if sites is not None and wanted and len(sites) <= max_sites else None


def _rows(contents: ReportContents) -> dict[int, int]:
    """Number of active sites by sites slot."""
    rows = {0: contents.stats["voxels"]["active"]}
    for layer, row in zip(contents.network.layers, contents.stats["layers"], strict=True):
        rows[layer.out_sites] = row["out_sites"]
    return rows


def _script() -> str:
    """The page's modules as one: a page without addresses has nowhere to import from."""
    text = "\n".join(_asset(f"assets/{name}") for name in SCRIPTS)
    return re.sub(r"^export ", "", re.sub(r"^import .*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)


def _asset(name: str) -> str:
    return files("spcli.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: object) -> str:
    """JSON that no HTML parser takes for anything else."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
