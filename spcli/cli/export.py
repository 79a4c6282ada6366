"""`spcli export`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import numpy as np
from msgspec import Struct

from spcli.cli.choices import (
    DeviceChoices,
    NetworkChoices,
    WeightChoices,
    device_options,
    network_options,
    weight_options,
)
from spcli.cli.console import console
from spcli.cli.inputs import engine_for, read_configuration, read_scan, warned
from spcli.cli.options import check_absent, grouped, overwrite_option, subcommand
from spcli.cli.views.render import json_line, write_line
from spcli.config import Config
from spcli.engines.base import Want
from spcli.errors import UsageError
from spcli.export import CHANNEL, SiteCloud, layer_cloud, site_cloud, write_cloud
from spcli.inspect.levels import level_placements
from spcli.pipeline.channels import channel_names
from spcli.pipeline.meta import scan_placement, voxels_meta
from spcli.pipeline.parameters import Weights
from spcli.pipeline.records import loss_warnings
from spcli.pipeline.run import run, voxelize
from spcli.placement import Placement
from spcli.plot.sites import site_sets
from spcli.points import PointCloud
from spcli.readers import Scan
from spcli.sparse_tensor import SparseTensor

EXAMPLES = """
spcli export out/scan.features.npz -o sites.ply --color channel:0
spcli export scan.voxels.npz -o voxels.ply --color points
spcli export scan.bin --config second-kitti -o voxels.ply
spcli export scan.bin --config second-kitti --layer conv3_2 -o conv3.ply --color channel:5
spcli export scan.bin --config second-kitti --color layer -o layers.ply
"""
SCHEMA = "spcli.export/1"
STDOUT = "-"


class ExportChoices(Struct, frozen=True):
    """Which sites, their colours, and the file."""

    output: str
    color: str
    layer: str | None
    overwrite: bool

    def __post_init__(self) -> None:
        if self.output != STDOUT and not self.output.lower().endswith(".ply"):
            raise UsageError(f"-o {self.output}: sites are written as .ply; give such a name")
        if self.output == STDOUT and (sys.stdout is None or sys.stdout.isatty()):
            raise UsageError("-o - writes a .ply, which a terminal cannot show; pipe it on, or give a file")
        check_absent(self.output, self.overwrite)
        if self.layer is not None and self.color == "layer":
            raise UsageError("--color layer shows every layer; leave --layer out, or colour by something else")
        if self.layer is not None and self.color == "points":
            wish = "leave --layer out, or choose another colour"
            raise UsageError(f"--color points: only voxels know their points; {wish}")

    @property
    def needs_network(self) -> bool:
        """Whether sites behind the voxels are shown."""
        return self.layer is not None or self.color == "layer"


@subcommand("export", EXAMPLES)
@click.argument("source", metavar="TENSOR|SCAN")
@grouped(
    "choices",
    ExportChoices,
    click.option("-o", "--output", required=True, metavar="FILE", help="A .ply file, or - for standard output."),
    click.option("--color", default="density", show_default=True, metavar="density|points|z|channel:K|layer",
                 help="What the colours show."),
    click.option("--layer", metavar="NAME", help="The output of this layer instead of the voxels; runs the network."),
    overwrite_option,
)  # fmt: skip
@network_options("The network, or its voxelization, for a scan: a file, or a preset's name.")
@weight_options
@device_options("cpu")
def command(
    source: str, choices: ExportChoices, network: NetworkChoices, parameters: WeightChoices, where: DeviceChoices
) -> None:
    """Write active sites as a coloured point cloud.

    The file is a .ply, which CloudCompare, MeshLab and open3d read.

    A site is the centre of its cell, in metres where the voxel size is known. The file also holds the number behind
    the colour and `row`, the site's row in the tensor. density is the active share of the 3x3x3 cells around a site;
    channel takes a number or a name such as channel:intensity; layer puts the sites of every layer into one file.
    """
    if choices.needs_network and not network.given:
        wish = "--color layer" if choices.color == "layer" else f"--layer {choices.layer}"
        raise UsageError(f"{wish}: needs the network; give --config FILE or --preset NAME")
    cloud = _cloud(source, choices, network, parameters, where)
    output = choices.output
    target: Any = sys.stdout.buffer if output == STDOUT else output
    low, high = write_cloud(target, cloud, os.path.basename(source))
    if output != STDOUT:
        record = {"schema": SCHEMA, "source": source, "output": output, "sites": len(cloud.xyz), "unit": cloud.unit}
        write_line(json_line({**record, "color": cloud.name, "color_range": [low, high]}))


def _cloud(
    source: str, choices: ExportChoices, network: NetworkChoices, parameters: WeightChoices, where: DeviceChoices
) -> SiteCloud:
    """The sites of a layer, of a tensor, or of the voxels of a scan."""
    config = read_configuration(network) if network.given else None
    scan = read_scan(source, network, config)
    if config is not None and choices.needs_network:
        return _of_run(config, scan, choices, parameters, where)
    if isinstance(scan.content, PointCloud):
        return _of_points(config, scan, scan.content, choices.color, where)
    for warning in scan.content.warnings:
        console.warn(f"{source}: {warning}")
    tensor, channels = scan.content.tensor, scan.meta.get("channels")
    placement = Placement.from_meta(scan.meta, tensor.indices.shape[1] - 1)
    names = [str(name) for name in channels] if isinstance(channels, list) else ()
    return site_cloud(tensor, placement, choices.color, scan.content.num_points, names)


def _of_points(config: Config | None, scan: Scan, points: PointCloud, color: str, where: DeviceChoices) -> SiteCloud:
    """The voxels of a scan."""
    if config is None or config.voxelize is None:
        raise UsageError(f"{scan.source}: holds points; give --config FILE or --preset NAME to voxelize them")
    spec = config.voxelize
    voxels = voxelize(points, spec, device=engine_for(where))
    for warning in (*points.warnings, *loss_warnings(voxels.counts, spec)):
        console.warn(f"{scan.source}: {warning}")
    channels = channel_names(spec, points.columns) or points.columns
    meta = voxels_meta(scan, spec, voxels.grid, voxels.counts, channels)
    return site_cloud(voxels.tensor, Placement.from_meta(meta), color, voxels.num_points, channels)


def _of_run(
    config: Config, scan: Scan, choices: ExportChoices, parameters: WeightChoices, where: DeviceChoices
) -> SiteCloud:
    """One layer's output, or the sites of all layers; values are computed only where they are shown."""
    name = choices.layer
    _check_layer(config, name)
    values = choices.color.startswith(CHANNEL)
    weights = Weights(parameters.weights, parameters.seed or 0)
    if values and weights.path is None:
        console.warn(f"the weights are {weights.describe()}: features mean nothing; give --weights FILE")
    want = Want((name,), values=True) if values and name else Want(rulebooks=True, values=False)
    result = warned(run(config, scan, want=want, weights=weights, device=engine_for(where)), scan)
    placement = scan_placement(scan, result.network, result.frame.grid)
    if values and name:
        slot = next(layer.out_sites for layer in result.network.layers if layer.name == name)
        tensor = result.outputs[name]
        names = [f"{name}.{channel}" for channel in range(tensor.features.shape[-1])]
        return site_cloud(tensor, level_placements(result.network, placement)[slot], choices.color, channels=names)
    sets = site_sets(result.network, result.frame, placement)
    if name is None:
        return layer_cloud([(", ".join(one.layers), one.indices, one.placement) for one in sets])
    found = next((one for one in sets if name in one.layers), None)
    if found is None:
        raise UsageError(f"--layer {name}: has no active sites in space that a rulebook names; choose another layer")
    empty = np.zeros((len(found.indices), 0), np.float32)
    tensor = SparseTensor(empty, found.indices, found.spatial_shape, found.batch_size)
    return site_cloud(tensor, found.placement, choices.color)


def _check_layer(config: Config, name: str | None) -> None:
    known = [layer.name for layer in config.layers]
    if name is not None and name not in known:
        raise UsageError(f"--layer {name}: there is no such layer; there are {', '.join(known)}")
