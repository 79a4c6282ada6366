"""`spcli voxelize`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
from msgspec import Struct, structs

from spcli import __version__
from spcli.cli.choices import (
    BatchChoices,
    Columns,
    DeviceChoices,
    NetworkChoices,
    ScanChoices,
    batch_options,
    device_options,
    network_options,
    scan_arguments,
)
from spcli.cli.inputs import (
    STDOUT,
    check_folder,
    check_room,
    data_stream,
    engine_for,
    find_inputs,
    print_records,
    read_configuration,
)
from spcli.cli.option_types import Cap, Numbers, VoxelSize
from spcli.cli.options import format_option, grouped, subcommand
from spcli.cli.views.render import default_format
from spcli.config import Config
from spcli.errors import ConfigError, Problem, UsageError
from spcli.pipeline.batch import Batch, voxelize_scans
from spcli.pipeline.outputs import Job, check_collisions, check_existing, estimated_bytes, plan_jobs
from spcli.readers import ScanPath

EXAMPLES = """
spcli voxelize scan.bin --preset second-kitti -o out
spcli voxelize scans/ --voxel-size 0.1,0.1,0.2 --range -51.2,-51.2,-5,51.2,51.2,3 -o voxels
cat scan.bin | spcli voxelize - --columns 4 --voxel-size 0.2,0.2,0.2 -o - > scan.voxels.npz
"""
RANGE_AXES = "X0,Y0,Z0,X1,Y1,Z1"


class GridChoices(Struct, frozen=True):
    """What overrides the voxelize section."""

    voxel_size: tuple[float, float, float] | None
    limits: tuple[float, ...] | None
    max_points: str | None
    max_voxels: str | None
    reduce: str | None


class VoxelsChoices(Struct, frozen=True):
    """Where voxels go, and what is kept of them."""

    output: str
    point_map: bool
    hard: bool
    form: str | None


@subcommand("voxelize", EXAMPLES)
@scan_arguments
@network_options("Take the voxelize section of this configuration: a file, or a preset's name.")
@grouped(
    "choices",
    VoxelsChoices,
    click.option("-o", "--output", required=True, metavar="OUT", help="A directory; for one scan also FILE.npz or -."),
    click.option("--point-map", is_flag=True, help="Add point_rows: each point's row, -1 where it was left out."),
    click.option("--hard", is_flag=True, help="Add points: each voxel's points, zero-padded to max_points."),
    format_option("table", "json", "ndjson", "csv"),
)
@grouped(
    "grid",
    GridChoices,
    click.option("--voxel-size", type=VoxelSize(), help="Voxel size in metres; one number for a cube."),
    click.option(
        "--range", "limits", type=Numbers(float, (6,), RANGE_AXES), help="Metres; each scan's own by default."
    ),
    click.option("--max-points", type=Cap(), help="Points kept in a voxel, the first in file order."),
    click.option("--max-voxels", type=Cap(), help="Voxels kept, the first seen in file order."),
    click.option(
        "--reduce",
        type=click.Choice(["mean", "first", "max", "sum"]),
        help="Points to features; mean by default.",
    ),
)
@batch_options
@device_options("cpu")
def command(
    scans: ScanChoices,
    grid: GridChoices,
    choices: VoxelsChoices,
    network: NetworkChoices,
    batch: BatchChoices,
    where: DeviceChoices,
) -> int:
    """Turn scans into voxels: sparse tensors on a grid.

    SCAN is a file (.bin .npy .npz .pcd .ply .xyz), a directory, or - for standard input. Each gives
    OUT/<name>.voxels.npz with indices (batch, z, y, x), features, num_points and spatial_shape.
    """
    config = _configuration(network, grid)
    spec = config.voxelize
    if spec is None:
        raise ConfigError([Problem("is missing; add the section, or give --voxel-size", "voxelize")], config.source)
    if choices.hard and spec.max_points is None:
        raise UsageError("--hard needs a number of points per voxel; give --max-points N")
    jobs, folder = _jobs(find_inputs(scans), choices.output, batch)
    work = _batch(jobs, folder, config, network.columns, choices, batch)
    records = voxelize_scans(work, engine_for(where), spec, point_map=choices.point_map, hard=choices.hard)
    return print_records(records, default_format(choices.form), work, choices.output == STDOUT)


def _configuration(network: NetworkChoices, grid: GridChoices) -> Config:
    """The voxelize section with the flags on top; flags alone will do, and layers need not suit it."""
    if not network.given and grid.voxel_size is None:
        raise UsageError("no voxel size: give --config FILE, --preset NAME or --voxel-size X,Y,Z")
    flags = {
        "voxel_size": _listed(grid.voxel_size),
        "point_cloud_range": _listed(grid.limits),
        "max_points": grid.max_points,
        "max_voxels": grid.max_voxels,
        "reduce": grid.reduce,
    }
    sets = tuple(f"voxelize.{key}={value}" for key, value in flags.items() if value is not None)
    base = f"{{version: 1, name: voxelize, voxelize: {{voxel_size: {flags['voxel_size']}}}}}"
    return read_configuration(structs.replace(network, sets=(*network.sets, *sets)), base)


def _listed(numbers: Sequence[float] | None) -> str | None:
    return None if numbers is None else f"[{', '.join(map(repr, numbers))}]"


def _batch(
    jobs: Sequence[Job],
    folder: str | None,
    config: Config,
    columns: Columns,
    choices: VoxelsChoices,
    batch: BatchChoices,
) -> Batch:
    """The batch; nothing is written yet."""
    if not (batch.overwrite or batch.skip_existing):
        check_existing(jobs)
    if folder is not None:
        check_room(jobs, folder, lambda job: estimated_bytes(job, None))
    settings = {
        "command": "voxelize",
        "config_sha256": config.digest,
        "version": __version__,
        "columns": columns if isinstance(columns, int) else None,
        "point_map": choices.point_map,
        "hard": choices.hard,
    }
    return Batch(
        tuple(jobs),
        folder,
        config.resolved,
        settings,
        columns or config.columns,
        batch.skip_existing,
        batch.fail_fast,
        batch.compress,
    )


def _jobs(found: Sequence[ScanPath], output: str, batch: BatchChoices) -> tuple[list[Job], str | None]:
    """The jobs, and the directory that keeps their manifest if there is one."""
    if output == STDOUT:
        return [Job(found[0], {"voxels": data_stream(found)})], None
    if output.endswith(".npz") and not os.path.isdir(output):
        if len(found) > 1:
            raise UsageError(f"-o {output}: is one file and there are {len(found)} scans; give a directory")
        if batch.skip_existing:
            raise UsageError("--skip-existing needs a directory, whose manifest says what is done; give -o DIR")
        jobs = [Job(found[0], {"voxels": output})]
        check_collisions(jobs)
        return jobs, None
    check_folder(output)
    return plan_jobs(found, output, ("voxels",), batch.keep_tree), output
