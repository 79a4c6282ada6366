"""The `meta` inside the files that a run writes: what they were made from, and where their sites lie in metres.

No time stands in it, so that equal work gives equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from spcli import __version__
from spcli.grid import ScanCounts, VoxelGrid, VoxelSpec
from spcli.network import LayerInfo, Network
from spcli.program import Stride, map_ends
from spcli.readers import Scan, StoredTensor
from spcli.stats import point_counts

AXES = {4: ["batch", "z", "y", "x"], 3: ["batch", "y", "x"], 1: ["batch"]}
Meta = dict[str, Any]


def voxels_meta(scan: Scan, spec: VoxelSpec, grid: VoxelGrid, counts: ScanCounts, channels: Sequence[str]) -> Meta:
    """`meta` of voxels. The range is the configured one, or the scan's own where none is configured."""
    return {
        "schema": "spcli.voxels/1",
        **_origin(scan),
        "axes": AXES[4],
        "channels": list(channels),
        "voxel_size": list(spec.voxel_size),
        "point_cloud_range": list(spec.point_cloud_range or _extent(grid)),
        "stride": [1, 1, 1],
        "reduce": spec.reduce,
        "points": point_counts(counts),
        "max_points_in_a_voxel": counts.voxels.max_points_in_a_voxel,
    }


def place_of(scan: Scan, spec: VoxelSpec | None, grid: VoxelGrid | None) -> Meta:
    """Where sites lie in metres: `voxel_size` and `point_cloud_range`, None where nothing tells."""
    if isinstance(scan.content, StoredTensor):
        meta = scan.content.meta
        return {name: meta.get(name) for name in ("voxel_size", "point_cloud_range")}
    assert spec is not None
    limits = spec.point_cloud_range or (grid and _extent(grid))
    return {"voxel_size": list(spec.voxel_size), "point_cloud_range": limits and list(limits)}


def features_meta(scan: Scan, network: Network, layer: LayerInfo, place: Mapping[str, Any], channels: int) -> Meta:
    """`meta` of a layer's features."""
    value = network.program.values[network.program.layers[layer.name]]
    stride = network.strides(stored_stride(scan, network))[layer.out_sites]
    return {
        "schema": "spcli.pipeline.channels/1",
        **_origin(scan),
        "layer": layer.name,
        "axes": AXES[1 + len(stride)],
        "dense": value.dense,
        "channels": [f"{layer.name}.{channel}" for channel in range(channels)],
        **place,
        "stride": list(stride),
    }


def rulebooks_meta(scan: Scan, network: Network, place: Mapping[str, Any]) -> Meta:
    """`meta` of a rulebook dump."""
    ndim = network.ndim
    strides = key_strides(network, scan)
    return {"schema": "spcli.rulebooks/1", **_origin(scan), "axes": AXES[1 + ndim], **place, "strides": strides}


def stored_stride(scan: Scan, network: Network) -> Stride | None:
    """The voxels that a stored tensor's own sites span, as its file tells; None where it tells no number per axis."""
    stride = scan.content.meta.get("stride") if isinstance(scan.content, StoredTensor) else None
    if not isinstance(stride, list) or len(stride) != network.ndim:
        return None
    return tuple(stride) if all(isinstance(s, int | float) and s > 0 for s in stride) else None


def key_strides(network: Network, scan: Scan) -> Meta:
    """Voxels that a site spans at the two ends of each key: `{key: {"in": [z, y, x], "out": [z, y, x]}}`."""
    strides = network.strides(stored_stride(scan, network))
    ends = map_ends(network.program)
    return {
        keyed.key: dict(zip(("in", "out"), (list(strides[slot]) for slot in ends[keyed.map]), strict=True))
        for keyed in network.program.keys
    }


def _origin(scan: Scan) -> Meta:
    """What a file was made from. The name without its folders, so that moving a data set changes no byte."""
    return {"version": __version__, "source": os.path.basename(scan.source), "input_sha256": scan.digest}


def _extent(grid: VoxelGrid) -> list[float]:
    """x0, y0, z0, x1, y1, z1 of a grid's cells, metres."""
    low = grid.origin.astype(float)
    high = low + grid.voxel_size.astype(float) * grid.cells[::-1]
    return [round(value, 6) for value in (*low.tolist(), *high.tolist())]
