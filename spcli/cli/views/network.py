"""A network before it has seen a scan: its layers, shapes and parameters, and what a run would write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod

from spcli.cli.views.render import (
    CsvWriter,
    Record,
    amount,
    flat,
    json_line,
    json_text,
    shown,
    table,
    write_bytes,
    write_line,
)
from spcli.config import Config
from spcli.network import Network
from spcli.pipeline.outputs import Job

NETWORK_SCHEMA = "spcli.network/1"
PLAN_SCHEMA = "spcli.pipeline.plan/1"


def network_object(config: Config, network: Network) -> Record:
    """The shape chain as an object; channels, shapes and sizes that only a scan decides are None."""
    shapes = network.shapes
    parameters = [_parameters(layer.parameters) for layer in network.layers]
    return {
        "schema": NETWORK_SCHEMA,
        "name": config.name,
        "in_channels": network.in_channels or None,
        "spatial_shape": _list(shapes[0]),
        "parameters": _total(parameters),
        "layers": [
            {
                "name": layer.name,
                "type": layer.type,
                "indice_key": layer.indice_key,
                "in_channels": layer.in_channels or None,
                "out_channels": layer.out_channels or None,
                "kernel_volume": layer.kernel_volume,
                "in_spatial_shape": _list(shapes[layer.in_sites]),
                "out_spatial_shape": _list(shapes[layer.out_sites]),
                "parameters": count,
            }
            for layer, count in zip(network.layers, parameters, strict=True)
        ],
    }


def _list(shape: tuple[int, ...] | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _parameters(shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Trainable parameters; None where a scan must complete a shape."""
    return _total([prod(shape) or None for name, shape in shapes.items() if ".running_" not in name])


def _total(counts: Sequence[int | None]) -> int | None:
    """The sum, None where a part of it is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def network_text(description: Record) -> str:
    """The shape chain for people."""
    rows = [
        (
            layer["name"],
            layer["type"],
            layer["indice_key"],
            layer["in_channels"],
            layer["out_channels"],
            _shape(layer["out_spatial_shape"]),
            layer["parameters"],
        )
        for layer in description["layers"]
    ]
    channels = description["in_channels"] or "as many as the scan's"
    head = f"{description['name']}: {channels} channels over {_shape(description['spatial_shape'])} (z, y, x)"
    count = "an unknown number of" if description["parameters"] is None else shown(description["parameters"])
    header = ("layer", "type", "indice_key", "in", "out", "shape", "parameters")
    return f"{head}, {count} parameters\n\n{table(rows, header)}"


def _shape(shape: list[int] | None) -> str:
    return "the scan's own" if shape is None else shown(shape) or "one row per scan"


def print_plan(config: Config, network: Network, jobs: Sequence[tuple[Job, int]], form: str) -> None:
    """The shape chain, then one line per scan: what would be written, and about how many bytes."""
    description = network_object(config, network)
    plans = [_plan(job, size) for job, size in jobs]
    if form == "json":
        write_line(json_text([description, *plans]))
    elif form == "ndjson":
        write_line("\n".join(map(json_line, [description, *plans])))
    elif form == "csv":
        write_bytes(CsvWriter().text(map(flat, plans)).encode())
    else:
        rows = [
            (plan["source"], amount(plan["bytes"]) + "B", path) for plan in plans for path in plan["outputs"].values()
        ]
        write_line(f"{network_text(description)}\n\n{table(rows, ('scan', 'in all', 'would write'))}")


def _plan(job: Job, size: int) -> Record:
    outputs = {kind: str(target) for kind, target in job.outputs.items()}
    existing = [path for path in outputs.values() if os.path.exists(path)]
    return {
        "schema": PLAN_SCHEMA,
        "source": job.scan.source,
        "outputs": outputs,
        "bytes": size,
        "existing": existing,
    }
