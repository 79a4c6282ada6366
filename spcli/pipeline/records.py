"""What spcli says about a scan: the record it prints, the manifest line it keeps, and the `meta` inside its files.

A record may hold times; what goes into a file of results may not, so that equal work gives equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from spcli.engines.base import Engine, Frame
from spcli.errors import SpcliError
from spcli.grid import PointCounts, ScanCounts, VoxelCounts, VoxelSpec
from spcli.network import Network
from spcli.pipeline.outputs import Job
from spcli.pipeline.verdicts import Verdict
from spcli.readers import StoredTensor
from spcli.stats import layer_pairs, point_counts

Record = dict[str, Any]

VOXELIZE_SCHEMA = "spcli.voxelize/1"
RUN_SCHEMA = "spcli.run/1"
MANIFEST_SCHEMA = "spcli.manifest/1"
MOST_NAMES = 5


def scan_record(schema: str, job: Job, engine: Engine, counts: ScanCounts | None, voxels: int) -> Record:
    """The start of a record of `voxelize` or `run`; `counts` None is a tensor whose file does not say."""
    identity = engine.identity()
    return {
        "schema": schema,
        "source": job.scan.source,
        "ok": True,
        "device": engine.device,
        "voxels": voxels,
        "max_points_in_a_voxel": counts.voxels.max_points_in_a_voxel if counts else None,
        "points": point_counts(counts) if counts else None,
        "outputs": {kind: target if isinstance(target, str) else "-" for kind, target in job.outputs.items()},
        "engine": engine.label,
        "card": identity.get("card"),
        "versions": {name: version for name, version in identity.items() if name != "card"},
    }


def failure_record(schema: str, job: Job, error: SpcliError) -> Record:
    """The record of a scan that went wrong."""
    return {
        "schema": schema,
        "source": job.scan.source,
        "ok": False,
        "error": {"code": error.exit_code, "message": str(error)},
    }


def skipped_record(schema: str, job: Job) -> Record:
    """The record of a scan whose results are there already."""
    outputs = {kind: str(target) for kind, target in job.outputs.items()}
    unknown = dict.fromkeys(("device", "engine", "card", "versions", "voxels", "points"))
    record = {"schema": schema, "source": job.scan.source, "ok": True, "skipped": True, **unknown}
    return {**record, "outputs": outputs, "time_s": {}, "warnings": []}


def check_record(verdict: Verdict | None, compared: bool) -> Record | None:
    """How a frame, or one before it, compares with the CPU engine's; None where nothing was compared.

    `frame` is "this" or "earlier"; `layer` is the one with the largest error.
    """
    if verdict is None:
        return None
    compared_with = {"ok": verdict.ok, "frame": "this" if compared else "earlier"}
    return {**compared_with, "layer": verdict.layer or None, "error": verdict.error, "allowed": verdict.allowed}


def layer_records(network: Network, frame: Frame) -> list[Record]:
    """Name, active output sites and rules of every layer."""
    return [
        {"name": layer.name, "sites": frame.sites[layer.out_sites], "pairs": sum(layer_pairs(layer, frame))}
        for layer in network.layers
    ]


def manifest_entry(record: Record, digest: str, settings: Mapping[str, Any], folder: str) -> Record:
    """The manifest's line for a record: what went in, by digest, and what came out, relative to `folder`."""
    outputs = {kind: os.path.relpath(path, folder) for kind, path in record["outputs"].items()}
    return {
        "schema": MANIFEST_SCHEMA,
        "source": record["source"],
        "input_sha256": digest,
        **settings,
        "outputs": outputs,
        "time_s": record["time_s"],
    }


def rounded(time_s: Mapping[str, float]) -> dict[str, float]:
    """Seconds by phase, to the microsecond."""
    return {phase: round(seconds, 6) for phase, seconds in time_s.items()}


# Warnings: one sentence each, naming numbers.


def loss_warnings(counts: ScanCounts, spec: VoxelSpec) -> list[str]:
    """What happened to the points that are in no voxel."""
    points, voxels = counts.points, counts.voxels
    if not points.read:
        return ["the scan has no points"]
    found = []
    if points.nonfinite:
        found.append(f"{points.nonfinite} of {points.read} points have a non-finite value and are left out")
    if points.out_of_range:
        found.append(f"{points.out_of_range} of {points.read} points lie outside the range and are left out")
    if not points.in_range:
        found.append("no point is in range; compare spcli info's bounds with point_cloud_range")
    if points.over_max_points:
        found.append(
            f"{points.over_max_points} points are beyond the first {spec.max_points} of their voxel (max_points) and "
            f"are left out; the fullest voxel holds {voxels.max_points_in_a_voxel}"
        )
    if voxels.dropped:
        found.append(
            f"{voxels.dropped} voxels with {points.over_max_voxels} points come after the first {spec.max_voxels} "
            "(max_voxels) and are left out"
        )
    return found


def empty_layers_warning(network: Network, frame: Frame) -> list[str]:
    """A warning that names the layers without an output site, where there are any; of many the first."""
    empty = [layer.name for layer in network.layers if not frame.sites[layer.out_sites]]
    if not empty:
        return []
    if len(empty) > MOST_NAMES:
        return [f"no active output site in layers {empty[0]} and {len(empty) - 1} more"]
    return [f"no active output site in layer{'s' if len(empty) > 1 else ''} {', '.join(empty)}"]


def not_finite_warnings(frame: Frame) -> list[str]:
    """A warning for each output with values that are not finite; a finite sum shows at less cost that none are."""
    found = []
    for name, output in frame.outputs.items():
        with np.errstate(all="ignore"):
            suspect = not np.isfinite(output.features.sum())
        count = int(np.count_nonzero(~np.isfinite(output.features))) if suspect else 0
        if count:
            found.append(
                f"{count} values of {name} are not finite: the input or the weights hold such, or numbers pass what "
                "the dtype can hold (float16 ends at 65504; bfloat16 and tf32 reach as far as float32)"
            )
    return found


def result_warnings(spec: VoxelSpec | None, network: Network, frame: Frame) -> list[str]:
    """What is to be said about one scan's run, besides what its reader said."""
    lost = loss_warnings(frame.scan, spec) if frame.scan and spec else []
    return [*lost, *empty_layers_warning(network, frame), *not_finite_warnings(frame)]


def stored_counts(stored: StoredTensor) -> ScanCounts | None:
    """The counts of the voxelization that made a tensor, as far as its file says."""
    points: Any = stored.meta.get("points")
    most: Any = stored.meta.get("max_points_in_a_voxel")
    try:
        return ScanCounts(
            PointCounts(**{name: int(count) for name, count in points.items()}),
            VoxelCounts(len(stored.tensor.indices), 0, int(most)),
        )
    except (AttributeError, TypeError, ValueError):
        return None
