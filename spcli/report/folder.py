"""What `spcli run` left in a folder, put together again: rulebooks, statistics and configuration of one scan."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from spcli.config import Config, load_config
from spcli.errors import InputError, UsageError
from spcli.inspect import load_rulebooks
from spcli.network import Network
from spcli.placement import Placement
from spcli.program import builds
from spcli.readers import load
from spcli.readers.strict_json import parse_json
from spcli.report.contents import ReportContents
from spcli.rulebook import Rulebook
from spcli.stats import SCHEMA as STATS_SCHEMA
from spcli.writers import SUFFIXES

REMEDY = "write the folder again with spcli run, or report the scan with --config"


def read_run(path: str, config: Config | None = None) -> ReportContents:
    """The run of one scan.

    Args:
        path: a folder that `spcli run` wrote for one scan, or one of its `STEM.rulebooks.npz`.
        config: the configuration that made it; None takes the folder's.

    Raises:
        UsageError: the folder holds the rulebooks of several scans.
        InputError: rulebooks, statistics or configuration are missing, damaged, or do not go together.
    """
    dump = _only_dump(path) if os.path.isdir(path) else path
    folder, name = os.path.split(dump)
    stem = os.path.join(folder, name.removesuffix(SUFFIXES["rulebooks"]))
    rulebooks = load_rulebooks(dump)
    stats = _statistics(stem + SUFFIXES["stats"])
    config = config or _configuration(folder, name)
    try:
        network = config.network(stats["layers"][0]["in_channels"], tuple(stats["spatial_shape"]))
        _check(network, rulebooks, stats)
    except (LookupError, TypeError, ValueError):
        raise InputError(f"{dump}: its rulebooks, statistics and configuration do not go together; {REMEDY}") from None
    meta = _meta(dump)
    source = str(meta.get("source", os.path.basename(stem)))
    placement = Placement.from_meta({**meta, "stride": _input_stride(network, meta)})
    digest = str(meta.get("input_sha256", ""))
    return ReportContents(source, config.name, network, rulebooks, stats, placement, digest)


def _only_dump(folder: str) -> str:
    suffix = SUFFIXES["rulebooks"]
    dumps = sorted(name for name in os.listdir(folder) if name.endswith(suffix))
    if not dumps:
        raise InputError(f"{folder}: holds no *{suffix}; {REMEDY}")
    if len(dumps) > 1:
        raise UsageError(f"{folder}: holds {len(dumps)} scans; name one, such as {os.path.join(folder, dumps[0])}")
    return os.path.join(folder, dumps[0])


def _statistics(path: str) -> dict[str, Any]:
    stats: dict[str, Any]
    try:
        stats = parse_json(load(path).data)
    except ValueError:
        stats = {}
    if stats.get("schema") != STATS_SCHEMA:
        raise InputError(f"{path}: holds no statistics of one scan; {REMEDY}")
    return stats


def _configuration(folder: str, dump: str) -> Config:
    """The configuration that made a dump: `config.yaml`, or an earlier one that the manifest gives by digest."""
    path = os.path.join(folder, "config.yaml")
    digest = _digest(os.path.join(folder, "manifest.jsonl"), dump)
    earlier = os.path.join(folder, f"config.{digest[:12]}.yaml")
    chosen = earlier if digest and os.path.exists(earlier) else path
    if not os.path.isfile(chosen):
        raise InputError(f"{chosen}: no such file; {REMEDY}")
    return load_config(chosen, environ={})


def _digest(manifest: str, dump: str) -> str:
    """The digest of the configuration that last wrote `dump`, empty where the manifest does not say."""
    found = ""
    try:
        with open(manifest, encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["outputs"].get("rulebooks") == dump:
                    found = str(entry["config_sha256"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return found
    return found


def _check(network: Network, rulebooks: dict[str, Rulebook], stats: dict[str, Any]) -> None:
    """Raises ValueError where the parts are not of one run."""
    by_map = builds(network.program)
    geometries = {keyed.key: by_map[keyed.map].geometry for keyed in network.program.keys}
    names = [layer.name for layer in network.layers]
    pairs = {layer["indice_key"]: layer["pairs"] for layer in stats["layers"] if layer["indice_key"]}
    if geometries != {key: rulebook.geometry for key, rulebook in rulebooks.items()}:
        raise ValueError("geometry")
    if names != [row["name"] for row in stats["layers"]]:
        raise ValueError("layers")
    if any(len(rulebooks[key].in_rows) != pairs[key] for key in pairs.keys() & rulebooks.keys()):
        raise ValueError("rules")


def _input_stride(network: Network, meta: dict[str, Any]) -> Any:
    """Voxels that a site of the input spans, z, y, x, as a dump's `meta` says of the key that begins there."""
    starts = {slot for slot, op in builds(network.program).items() if op.sites == 0}
    try:
        return next(meta["strides"][keyed.key]["in"] for keyed in network.program.keys if keyed.map in starts)
    except (LookupError, TypeError, StopIteration):
        return (1, 1, 1)


def _meta(dump: str) -> dict[str, Any]:
    with np.load(dump, allow_pickle=False) as data:
        try:
            return dict(json.loads(str(data["meta"])))
        except (LookupError, TypeError, ValueError):
            return {}
