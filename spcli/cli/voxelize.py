"""`spcli voxelize`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from spcli.cli.console import console
from spcli.cli.inputs import (
    STDOUT,
    BatchChoices,
    check_folder,
    check_room,
    data_stream,
    find_inputs,
    print_records,
    read_configuration,
)
from spcli.cli.options import (
    Cap,
    Numbers,
    batch_options,
    columns_option,
    device_options,
    format_option,
    scan_arguments,
    set_option,
    subcommand,
)
from spcli.errors import ConfigError, Problem, UsageError

if TYPE_CHECKING:
    from spcli.config import Config
    from spcli.pipeline.batch import Batch
    from spcli.pipeline.outputs import Job
    from spcli.readers import ScanPath

EXAMPLES = """
spcli voxelize scan.bin --preset second-kitti -o out
spcli voxelize scans/ --voxel-size 0.1,0.1,0.2 --range -51.2,-51.2,-5,51.2,51.2,3 -o voxels
cat scan.bin | spcli voxelize - --columns 4 --voxel-size 0.2,0.2,0.2 -o - > scan.voxels.npz
"""
RANGE_AXES = "X0,Y0,Z0,X1,Y1,Z1"


@subcommand("voxelize", EXAMPLES)
@scan_arguments
@click.option("-o", "--output", required=True, metavar="OUT", help="A directory; for one scan also FILE.npz or -.")
@click.option("--config", metavar="FILE", help="Take the voxelize section of this configuration, or preset.")
@click.option("--preset", metavar="NAME", help="Take that of a configuration that comes with spcli.")
@click.option("--voxel-size", type=Numbers(float, (3,), "X,Y,Z"), help="Metres.")
@click.option("--range", "limits", type=Numbers(float, (6,), RANGE_AXES), help="Metres; each scan's own without it.")
@click.option("--max-points", type=Cap(), help="Points kept in a voxel, the first in file order.")
@click.option("--max-voxels", type=Cap(), help="Voxels kept, the first seen in file order.")
@click.option("--reduce", type=click.Choice(["mean", "first", "max", "sum"]), help="Points to features; mean.")
@columns_option
@set_option
@click.option("--point-map", is_flag=True, help="Add point_rows: each point's row, -1 where it was left out.")
@click.option("--hard", is_flag=True, help="Add points: each voxel's points, zero-padded to max_points.")
@batch_options
@device_options("cpu")
@format_option("table", "json", "ndjson", "csv")
def command(scans: tuple[str, ...], lists: tuple[str, ...], nul: bool, output: str, **options: Any) -> int:
    """Turn scans into voxels: sparse tensors on a grid.

    SCAN is a file (.bin .npy .npz .pcd .ply .xyz), a directory, or - for standard input. Each gives
    OUT/<name>.voxels.npz with indices (batch, z, y, x), features, num_points and spatial_shape.
    """
    from spcli.cli.views.render import default_format
    from spcli.engines.device import choose_engine
    from spcli.pipeline.batch import voxelize_scans

    choices = BatchChoices(**{name: options[name] for name in BatchChoices.__struct_fields__})
    config = _configuration(options)
    spec = config.voxelize
    if spec is None:
        raise ConfigError([Problem("is missing; add the section, or give --voxel-size", "voxelize")], config.source)
    if options["hard"] and spec.max_points is None:
        raise UsageError("--hard makes room for max_points points in every voxel; give --max-points N")
    batch = _batch(find_inputs(scans, lists, nul), output, config, choices, options)
    engine = choose_engine(options["device"], console.warn, options["threads"])
    records = voxelize_scans(batch, engine, spec, point_map=options["point_map"], hard=options["hard"])
    return print_records(records, default_format(options["form"]), batch, output == STDOUT)


def _configuration(options: dict[str, Any]) -> Config:
    """The voxelize section with the flags on top; flags alone will do, and layers need not suit it."""
    if options["config"] is None and options["preset"] is None and options["voxel_size"] is None:
        raise UsageError("no voxel size: give --config FILE, --preset NAME or --voxel-size X,Y,Z")
    flags = {
        "voxel_size": _listed(options["voxel_size"]),
        "point_cloud_range": _listed(options["limits"]),
        "max_points": options["max_points"],
        "max_voxels": options["max_voxels"],
        "reduce": options["reduce"],
    }
    sets = [f"voxelize.{key}={value}" for key, value in flags.items() if value is not None]
    base = f"{{version: 1, name: voxelize, voxelize: {{voxel_size: {flags['voxel_size']}}}}}"
    return read_configuration(options["config"], options["preset"], [*options["sets"], *sets], options["columns"], base)


def _listed(numbers: Sequence[float] | None) -> str | None:
    return None if numbers is None else f"[{', '.join(map(repr, numbers))}]"


def _batch(
    found: Sequence[ScanPath], output: str, config: Config, choices: BatchChoices, options: dict[str, Any]
) -> Batch:
    """Where everything goes; nothing is written yet."""
    from spcli import __version__
    from spcli.pipeline.batch import Batch
    from spcli.pipeline.outputs import check_existing, estimated_bytes

    jobs, folder = _jobs(found, output, choices)
    if not (choices.overwrite or choices.skip_existing):
        check_existing(jobs)
    if folder is not None:
        check_room(jobs, folder, lambda job: estimated_bytes(job, None))
    columns = options["columns"]
    settings = {
        "command": "voxelize",
        "config_sha256": config.digest,
        "version": __version__,
        "columns": columns if isinstance(columns, int) else None,
        "point_map": options["point_map"],
        "hard": options["hard"],
    }
    told = columns or config.columns
    return Batch(
        tuple(jobs),
        folder,
        config.resolved,
        settings,
        told,
        choices.skip_existing,
        choices.fail_fast,
        choices.compress,
    )


def _jobs(found: Sequence[ScanPath], output: str, choices: BatchChoices) -> tuple[list[Job], str | None]:
    """The jobs, and the directory that keeps their manifest if there is one."""
    from spcli.pipeline.outputs import Job, check_collisions, plan_jobs

    if output == STDOUT:
        return [Job(found[0], {"voxels": data_stream(found)})], None
    if output.endswith(".npz") and not os.path.isdir(output):
        if len(found) > 1:
            raise UsageError(f"-o {output}: is one file and there are {len(found)} scans; give a directory")
        if choices.skip_existing:
            raise UsageError("--skip-existing needs a directory, whose manifest tells what is done; give -o DIR")
        jobs = [Job(found[0], {"voxels": output})]
        check_collisions(jobs)
        return jobs, None
    check_folder(output)
    return plan_jobs(found, output, ("voxels",), choices.keep_tree), output
