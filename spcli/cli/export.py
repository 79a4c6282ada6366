"""`spcli export`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from spcli.cli.console import console
from spcli.cli.options import check_absent, columns_option, device_options, overwrite_option, set_option, subcommand
from spcli.errors import UsageError

if TYPE_CHECKING:
    from spcli.config import Config
    from spcli.export import SiteCloud
    from spcli.readers import Scan

EXAMPLES = """
spcli export out/scan.features.npz -o sites.ply --color channel:0
spcli export scan.voxels.npz -o voxels.ply --color points
spcli export scan.bin --config second-kitti -o voxels.ply
spcli export scan.bin --config second-kitti --layer conv3_2 -o conv3.ply --color channel:5
spcli export scan.bin --config second-kitti --color layer -o layers.ply
"""
SCHEMA = "spcli.export/1"
STDOUT = "-"


@subcommand("export", EXAMPLES)
@click.argument("source", metavar="TENSOR|SCAN")
@click.option("-o", "--output", required=True, metavar="FILE", help="A .ply file, or - for standard output.")
@click.option("--color", default="density", show_default=True, metavar="density|points|z|channel:K|layer",
              help="What the colours show.")  # fmt: skip
@click.option("--config", metavar="FILE", help="The network, or its voxelization, for a scan: a file, or a preset.")
@click.option("--preset", metavar="NAME", help="A configuration that comes with spcli.")
@click.option("--layer", metavar="NAME", help="The output of this layer instead of the voxels; runs the network.")
@click.option("--weights", metavar="FILE", help="Of --layer: .npz or .safetensors; drawn from --seed without.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of --layer: 0 by default.")
@overwrite_option
@columns_option
@set_option
@device_options("cpu")
def command(source: str, output: str, color: str, **options: Any) -> None:
    """Write active sites as a coloured point cloud.

    The file is a .ply, which CloudCompare, MeshLab and open3d read.

    A site is the centre of its cell, in metres where the voxel size is known. The file also holds the number behind
    the colour and `row`, the site's row in the tensor. density is the active share of the 3x3x3 cells around a site;
    channel takes a number or a name such as channel:intensity; layer puts the sites of every layer into one file.
    """
    from spcli.export import write_cloud

    if output != STDOUT and not output.lower().endswith(".ply"):
        raise UsageError(f"-o {output}: sites are written as .ply; give such a name")
    if output == STDOUT and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("-o - writes a .ply, which a terminal cannot show; pipe it on, or give a file")
    check_absent(output, options["overwrite"])
    _check(options, color)
    cloud = _cloud(source, color, options)
    target: Any = sys.stdout.buffer if output == STDOUT else output
    low, high = write_cloud(target, cloud, os.path.basename(source))
    if output != STDOUT:
        from spcli.cli.views.render import json_line, write_line

        color_range = [low, high]
        record = {"schema": SCHEMA, "source": source, "output": output, "sites": len(cloud.xyz), "unit": cloud.unit}
        write_line(json_line({**record, "color": cloud.name, "color_range": color_range}))


def _check(options: Mapping[str, Any], color: str) -> None:
    """Refuse options that contradict each other."""
    network = options["config"] is not None or options["preset"] is not None
    if not network and (options["layer"] is not None or color == "layer"):
        wish = "--color layer" if color == "layer" else f"--layer {options['layer']}"
        raise UsageError(f"{wish}: needs the network; give --config FILE or --preset NAME")
    if options["layer"] is not None and color == "layer":
        raise UsageError("--color layer shows every layer; leave --layer out, or colour by something else")
    if options["layer"] is not None and color == "points":
        raise UsageError("--color points: only voxels know their points; leave --layer out, or choose another colour")
    if options["weights"] is not None and options["seed"] is not None:
        raise UsageError("--weights and --seed are both given; give one of them")


def _cloud(source: str, color: str, options: Mapping[str, Any]) -> SiteCloud:
    from spcli.export import site_cloud
    from spcli.placement import Placement
    from spcli.readers import StoredTensor, read

    config = None
    if options["config"] is not None or options["preset"] is not None:
        from spcli.cli.inputs import read_configuration

        config = read_configuration(options["config"], options["preset"], options["sets"], options["columns"])
    scan = read(source, options["columns"] or (config.columns if config else None))
    if config is not None and (options["layer"] is not None or color == "layer"):
        return _of_run(config, scan, color, options)
    if isinstance(scan.content, StoredTensor):
        for warning in scan.content.warnings:
            console.warn(f"{source}: {warning}")
        tensor, channels = scan.content.tensor, scan.meta.get("channels")
        placement = Placement.from_meta(scan.meta, tensor.indices.shape[1] - 1)
        names = [str(name) for name in channels] if isinstance(channels, list) else ()
        return site_cloud(tensor, placement, color, scan.content.num_points, names)
    return _of_points(config, scan, color, options)


def _of_points(config: Config | None, scan: Scan, color: str, options: Mapping[str, Any]) -> SiteCloud:
    """The voxels of a scan."""
    from spcli.engines.device import choose_engine
    from spcli.export import site_cloud
    from spcli.pipeline.channels import channel_names
    from spcli.pipeline.meta import voxels_meta
    from spcli.pipeline.records import loss_warnings
    from spcli.pipeline.run import voxelize
    from spcli.placement import Placement
    from spcli.points import PointCloud

    assert isinstance(scan.content, PointCloud)
    if config is None or config.voxelize is None:
        raise UsageError(f"{scan.source}: holds points; give --config FILE or --preset NAME to voxelize them")
    spec = config.voxelize
    voxels = voxelize(scan.content, spec, engine=choose_engine(options["device"], console.warn, options["threads"]))
    for warning in (*scan.content.warnings, *loss_warnings(voxels.counts, spec)):
        console.warn(f"{scan.source}: {warning}")
    channels = channel_names(spec, scan.content.columns) or scan.content.columns
    meta = voxels_meta(scan, spec, voxels.grid, voxels.counts, channels)
    return site_cloud(voxels.tensor, Placement.from_meta(meta), color, voxels.num_points, channels)


def _of_run(config: Config, scan: Scan, color: str, options: Mapping[str, Any]) -> SiteCloud:
    """One layer's output, or the sites of all layers; values are computed only where they are shown."""
    import numpy as np

    from spcli.engines.base import Want
    from spcli.engines.device import choose_engine
    from spcli.export import CHANNEL, layer_cloud, site_cloud
    from spcli.inspect.levels import level_placements
    from spcli.pipeline.meta import scan_placement
    from spcli.pipeline.parameters import Weights
    from spcli.pipeline.run import run
    from spcli.plot.sites import site_sets
    from spcli.sparse_tensor import SparseTensor

    name = options["layer"]
    _check_layer(config, name)
    values = color.startswith(CHANNEL)
    weights = Weights(options["weights"], options["seed"] or 0)
    if values and weights.path is None:
        console.warn(f"the weights are {weights.describe()}: features mean nothing; give --weights FILE")
    want = Want((name,), values=True) if values else Want(rulebooks=True, values=False)
    engine = choose_engine(options["device"], console.warn, options["threads"])
    result = run(config, scan, want=want, weights=weights, engine=engine)
    for warning in result.warnings:
        console.warn(f"{scan.source}: {warning}")
    placement = scan_placement(scan, result.network, result.frame.grid)
    if values:
        slot = next(layer.out_sites for layer in result.network.layers if layer.name == name)
        tensor = result.outputs[name]
        names = [f"{name}.{channel}" for channel in range(tensor.features.shape[-1])]
        return site_cloud(tensor, level_placements(result.network, placement)[slot], color, channels=names)
    sets = site_sets(result.network, result.frame, placement)
    if name is None:
        return layer_cloud([(", ".join(one.layers), one.indices, one.placement) for one in sets])
    found = next((one for one in sets if name in one.layers), None)
    if found is None:
        raise UsageError(f"--layer {name}: has no active sites in space that a rulebook tells; choose another layer")
    empty = np.zeros((len(found.indices), 0), np.float32)
    tensor = SparseTensor(empty, found.indices, found.spatial_shape, found.batch_size)
    return site_cloud(tensor, found.placement, color)


def _check_layer(config: Config, name: str | None) -> None:
    known = [layer.name for layer in config.layers]
    if name is not None and name not in known:
        raise UsageError(f"--layer {name}: there is no such layer; there are {', '.join(known)}")
