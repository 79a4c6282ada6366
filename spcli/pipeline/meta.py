"""The `meta` inside the files that a run writes: what they were made from, and where their sites lie in metres.

It holds no time, so that equal work gives equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from spcli import __version__
from spcli.grid import ScanCounts, VoxelGrid, VoxelSpec
from spcli.network import LayerInfo, Network
from spcli.placement import Placement, stride_of
from spcli.program import Stride, map_ends
from spcli.readers import Scan, StoredTensor
from spcli.stats import point_counts

AXES = {4: ["batch", "z", "y", "x"], 3: ["batch", "y", "x"], 1: ["batch"]}
Meta = dict[str, Any]


def voxels_meta(scan: Scan, spec: VoxelSpec, grid: VoxelGrid, counts: ScanCounts, channels: Sequence[str]) -> Meta:
    """`meta` of voxels. The range is the configured one, or the scan's own where none is configured."""
    return {
        "schema": "spcli.voxels/1",
        **_made_from(scan),
        "axes": AXES[4],
        "channels": list(channels),
        **_metres(scan, spec, grid),
        "stride": [1, 1, 1],
        "reduce": spec.reduce,
        "points": point_counts(counts),
        "max_points_in_a_voxel": counts.voxels.max_points_in_a_voxel,
    }


def features_meta(scan: Scan, network: Network, layer: LayerInfo, grid: VoxelGrid | None, channels: int) -> Meta:
    """`meta` of a layer's features; `grid` is the frame's."""
    value = network.program.values[network.program.layers[layer.name]]
    stride = _strides(scan, network)[layer.out_sites]
    return {
        "schema": "spcli.features/1",
        **_made_from(scan),
        "layer": layer.name,
        "axes": AXES[1 + len(stride)],
        "dense": value.dense,
        "channels": [f"{layer.name}.{channel}" for channel in range(channels)],
        **_metres(scan, network.program.voxelize, grid),
        "stride": list(stride),
    }


def rulebooks_meta(scan: Scan, network: Network, grid: VoxelGrid | None) -> Meta:
    """`meta` of a rulebook dump: of both ends of every key, the voxels that a site spans. `grid` is the frame's."""
    strides, ends = _strides(scan, network), map_ends(network.program)
    return {
        "schema": "spcli.rulebooks/1",
        **_made_from(scan),
        "axes": AXES[1 + network.ndim],
        **_metres(scan, network.program.voxelize, grid),
        "strides": {
            keyed.key: dict(zip(("in", "out"), (list(strides[slot]) for slot in ends[keyed.map]), strict=True))
            for keyed in network.program.keys
        },
    }


def scan_placement(scan: Scan, network: Network, grid: VoxelGrid | None) -> Placement | None:
    """Where the sites of a network's input lie, in the numbers that the files of a run hold; `grid` is the frame's."""
    return Placement.from_meta({**scan.meta, **_metres(scan, network.program.voxelize, grid)}, network.ndim)


def _strides(scan: Scan, network: Network) -> tuple[Stride, ...]:
    """Voxels that a site spans, by sites slot; a site of a file that says nothing sound spans one."""
    return network.strides(stride_of(scan.meta, network.ndim))


def _metres(scan: Scan, spec: VoxelSpec | None, grid: VoxelGrid | None) -> Meta:
    """`voxel_size` and `point_cloud_range`, those of the file of a stored tensor; None where it is not known."""
    if isinstance(scan.content, StoredTensor):
        return {name: scan.meta.get(name) for name in ("voxel_size", "point_cloud_range")}
    assert spec is not None
    limits = spec.point_cloud_range or (grid and _extent(grid))
    return {"voxel_size": list(spec.voxel_size), "point_cloud_range": limits and list(limits)}


def _made_from(scan: Scan) -> Meta:
    """What a file was made from. The name without its folders, so that moving a data set changes no byte."""
    return {"version": __version__, "source": os.path.basename(scan.source), "input_sha256": scan.digest}


def _extent(grid: VoxelGrid) -> list[float]:
    """x0, y0, z0, x1, y1, z1 of a grid's cells, metres."""
    low = grid.origin.astype(float)
    high = low + grid.voxel_size.astype(float) * grid.cells[::-1]
    return [round(value, 6) for value in (*low.tolist(), *high.tolist())]
