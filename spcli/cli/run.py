"""`spcli run`."""

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
    Words,
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
    from spcli.engines.base import Want
    from spcli.pipeline.batch import Batch
    from spcli.pipeline.outputs import Job
    from spcli.pipeline.parameters import Weights
    from spcli.readers import ScanPath

EXAMPLES = """
spcli run --config second-kitti scan.bin -o out
spcli run --config net.yaml scans/ -o out --weights net.safetensors --write features --skip-existing
spcli run --config net.yaml scan.bin -o out --set voxelize.max_voxels=null --layer conv3 --threads 4
spcli run --config net.yaml scan.bin --dry-run
cat scan.voxels.npz | spcli run --config net.yaml - -o - > scan.features.npz
"""
KINDS = ("features", "rulebooks", "stats")


@subcommand("run", EXAMPLES)
@scan_arguments
@click.option("--config", metavar="FILE", help="The network: a configuration file, or a preset's name.")
@click.option("--preset", metavar="NAME", help="A configuration that comes with spcli.")
@click.option("-o", "--output", metavar="DIR", help="Where results go; - writes the features of one scan as npz.")
@click.option("--weights", metavar="FILE", help="Parameters, .npz or .safetensors; drawn at random without it.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="What random parameters are drawn from; 0.")
@columns_option
@click.option("--dtype", type=click.Choice(["float32", "tf32", "float16", "bfloat16"]), default="float32",
              show_default=True, help="Arithmetic; the CPU computes float32.")  # fmt: skip
@click.option("--no-graph", is_flag=True, help="On CUDA, start each kernel by itself, to debug; the results are equal.")
@click.option("--write", type=Words(*KINDS), help="What to write; everything by default.")
@click.option("--layer", "layers", multiple=True, metavar="NAME", help="Also write the features of this layer.")
@set_option
@click.option("--dry-run", is_flag=True, help="Print the network's shapes and what would be written; write nothing.")
@click.option("--maps-only", is_flag=True, help="Stop after the rulebooks; no features, no weights.")
@click.option("--save-weights", metavar="FILE", help="Also write the parameters, .npz or .safetensors.")
@batch_options
@device_options("auto")
@format_option("table", "json", "ndjson", "csv")
def command(scans: tuple[str, ...], lists: tuple[str, ...], nul: bool, output: str | None, **options: Any) -> int:
    """Run a sparse-convolution network over scans.

    SCAN is a file (.bin .npy .npz .pcd .ply .xyz), a directory, - for standard input, or voxels from spcli voxelize.
    Each gives DIR/<name>.features.npz, .rulebooks.npz and .stats.json; DIR/config.yaml is the configuration with
    everything resolved and DIR/manifest.jsonl keeps a line a scan.
    """
    from spcli.cli.views.render import default_format
    from spcli.pipeline.outputs import check_given

    choices = BatchChoices(**{name: options[name] for name in BatchChoices.__struct_fields__})
    if options["config"] is None and options["preset"] is None:
        raise UsageError("no network: give --config FILE or --preset NAME (spcli config init shows one)")
    config = read_configuration(options["config"], options["preset"], options["sets"], options["columns"])
    if not config.layers:
        raise ConfigError([Problem("has no layers; a network needs at least one", "layers")], config.source)
    kinds = _kinds(options, output == STDOUT)
    found = find_inputs(scans, lists, nul)
    jobs = _jobs(found, output, [*kinds, *_taps(options["layers"], config)], choices, options["dry_run"])
    check_given(_given(config, options), jobs, None if output == STDOUT else output)
    form = default_format(options["form"])
    if options["dry_run"]:
        return _dry_run(config, jobs, form)
    return _run(config, jobs, None if output == STDOUT else output, choices, {**options, "form": form})


def _given(config: Config, options: dict[str, Any]) -> list[str | None]:
    """The files read besides the scans; a resolved configuration is what a run writes back, so it may stay."""
    source = config.source if os.path.isfile(config.source) else None
    if source is not None:
        with open(source, encoding="utf-8", errors="replace") as file:
            source = None if file.read() == config.resolved else source
    return [source, options["weights"]]


def _kinds(options: dict[str, Any], to_stdout: bool) -> Sequence[str]:
    """The kinds of output, without taps."""
    write: Sequence[str] | None = options["write"]
    if to_stdout:
        if options["maps_only"] or options["layers"] or write not in (None, ("features",)):
            raise UsageError("-o - carries the features alone; give a directory for anything else")
        return ("features",)
    if options["maps_only"]:
        if options["layers"] or "features" in (write or ()):
            raise UsageError("--maps-only computes no features; leave it out, or --layer and --write features")
        return write or ("rulebooks", "stats")
    return write or KINDS


def _taps(names: Sequence[str], config: Config) -> list[str]:
    """The kinds of the layers that are written besides."""
    known = [layer.name for layer in config.layers]
    for name in names:
        if name not in known:
            from spcli.errors import suggestion

            raise UsageError(f"--layer {name}: no such layer{suggestion(name, known) or f'; there are {known}'}")
    return [f"features.{name}" for name in dict.fromkeys(names)]


def _jobs(
    found: Sequence[ScanPath], output: str | None, kinds: Sequence[str], choices: BatchChoices, dry_run: bool
) -> list[Job]:
    """The jobs; nothing is written yet."""
    from spcli.pipeline.outputs import Job, check_existing, plan_jobs

    if output is None and not dry_run:
        raise UsageError("no place for the results: give -o DIR")
    if output == STDOUT:
        return [Job(found[0], dict.fromkeys(kinds, data_stream(found)))]
    folder = output or "."
    check_folder(folder)
    jobs = plan_jobs(found, folder, kinds, choices.keep_tree)
    if not (choices.overwrite or choices.skip_existing or dry_run):
        check_existing(jobs)
    return jobs


def _dry_run(config: Config, jobs: Sequence[Job], form: str) -> int:
    """Print the shape chain and the plan."""
    from spcli.cli.views.network import print_plan
    from spcli.pipeline.outputs import estimated_bytes

    network = config.network()
    print_plan(config, network, [(job, estimated_bytes(job, network)) for job in jobs], form)
    return 0


def _run(
    config: Config, jobs: Sequence[Job], folder: str | None, choices: BatchChoices, options: dict[str, Any]
) -> int:
    """Compute and write."""
    from spcli.engines.device import choose_engine, with_dtype
    from spcli.pipeline.batch import run_scans
    from spcli.pipeline.outputs import estimated_bytes
    from spcli.pipeline.session import Session

    engine = with_dtype(choose_engine(options["device"], console.warn, options["threads"]), options["dtype"])
    console.note(f"{len(jobs)} scans through {config.name} ({config.source}) on {engine.name}")
    want = _want(jobs[0], config)
    weights = _weights(options, want.values)
    label = weights.describe() if want.values else None
    if folder is not None and len(jobs) > 1:
        network = config.network()
        check_room(jobs, folder, lambda job: estimated_bytes(job, network))
    batch = _batch(config, jobs, folder, choices, {**options, "label": label})
    session = Session(config, weights=weights, device=engine, want=want, graph=not options["no_graph"])
    return print_records(run_scans(batch, session, label), options["form"], batch, folder is None)


def _want(job: Job, config: Config) -> Want:
    """What the engine must bring back for the outputs of every job."""
    from spcli.engines.base import Want

    kinds = job.outputs
    names = [config.layers[-1].name] if "features" in kinds else []
    names += [kind.partition(".")[2] for kind in kinds if kind.startswith("features.")]
    # Statistics tell of every output's rules, which their counts do not.
    rules = "rulebooks" in kinds or "stats" in kinds
    return Want(tuple(dict.fromkeys(names)), rules, "stats" in kinds, bool(names))


def _weights(options: dict[str, Any], used: bool) -> Weights:
    from spcli.pipeline.parameters import Weights

    path, save = options["weights"], options["save_weights"]
    if path is not None and options["seed"] is not None:
        raise UsageError("--weights and --seed are both given; parameters come from one of them")
    if not used and (path or save):
        raise UsageError("no features are computed, so --weights and --save-weights have no use; leave them out")
    if save is not None and os.path.exists(save) and not (options["overwrite"] or options["skip_existing"]):
        raise UsageError(f"--save-weights {save}: exists; pass --overwrite or choose another name")
    return Weights(path, options["seed"] or 0, save)


def _batch(
    config: Config, jobs: Sequence[Job], folder: str | None, choices: BatchChoices, options: dict[str, Any]
) -> Batch:
    from spcli import __version__
    from spcli.pipeline.batch import Batch

    columns, label = options["columns"], options["label"]
    settings = {
        "command": "run",
        "config_sha256": config.digest,
        "version": __version__,
        "weights": label,
        "dtype": options["dtype"],
        "columns": columns if isinstance(columns, int) else None,
    }
    drawn = label is not None and options["weights"] is None
    warnings = (f"the weights are {label}: features mean nothing; give --weights FILE",) if drawn else ()
    return Batch(
        tuple(jobs),
        folder,
        config.resolved,
        settings,
        columns or config.columns,
        choices.skip_existing,
        choices.fail_fast,
        choices.compress,
        warnings,
    )
