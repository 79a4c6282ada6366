"""`spcli run`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
from msgspec import Struct

from spcli import __version__
from spcli.cli.choices import (
    BatchChoices,
    Columns,
    DeviceChoices,
    NetworkChoices,
    ScanChoices,
    WeightChoices,
    batch_options,
    device_options,
    network_options,
    scan_arguments,
    weight_options,
)
from spcli.cli.console import console
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
from spcli.cli.option_types import Words
from spcli.cli.options import format_option, grouped, subcommand
from spcli.cli.views.network import print_plan
from spcli.cli.views.render import default_format
from spcli.config import Config
from spcli.engines.base import Want
from spcli.engines.device import with_dtype
from spcli.errors import ConfigError, Problem, UsageError, suggestion
from spcli.pipeline.batch import Batch, run_scans
from spcli.pipeline.checking import CHECKS
from spcli.pipeline.outputs import Job, check_existing, check_given, estimated_bytes, plan_jobs
from spcli.pipeline.parameters import Weights
from spcli.pipeline.session import Session
from spcli.readers import ScanPath

EXAMPLES = """
spcli run --config second-kitti scan.bin -o out
spcli run --config net.yaml scans/ -o out --weights net.safetensors --write features --skip-existing
spcli run --config net.yaml scan.bin -o out --set voxelize.max_voxels=null --layer conv3 --threads 4
spcli run --config net.yaml scan.bin --dry-run
cat scan.voxels.npz | spcli run --config net.yaml - -o - > scan.features.npz
"""
KINDS = ("features", "rulebooks", "stats")


class RunChoices(Struct, frozen=True):
    """What to compute, and what to write where."""

    output: str | None
    write: tuple[str, ...] | None
    layers: tuple[str, ...]
    maps_only: bool
    dry_run: bool
    save_weights: str | None
    dtype: str
    no_graph: bool
    check: str
    form: str | None

    @property
    def to_stdout(self) -> bool:
        """Whether standard output carries the features."""
        return self.output == STDOUT


@subcommand("run", EXAMPLES)
@scan_arguments
@network_options("The network: a configuration file, or a preset's name.")
@grouped(
    "choices",
    RunChoices,
    click.option("-o", "--output", metavar="DIR", help="Where results go; - writes the features of one scan as npz."),
    click.option("--write", type=Words(*KINDS), help="What to write; everything by default."),
    click.option("--layer", "layers", multiple=True, metavar="NAME", help="Also write its features; repeatable."),
    click.option("--maps-only", is_flag=True, help="Stop after the rulebooks; no features, no weights."),
    click.option("--dry-run", is_flag=True, help="Print the shapes and what would be written; write nothing."),
    click.option("--save-weights", metavar="FILE", help="Also write the parameters, .npz or .safetensors."),
    click.option("--dtype", type=click.Choice(["float32", "tf32", "float16", "bfloat16"]), default="float32",
                 show_default=True, help="Arithmetic; the CPU computes float32."),
    click.option("--no-graph", is_flag=True,
                 help="On CUDA, start each kernel by itself, to debug; the results are equal."),
    click.option("--check", type=click.Choice(CHECKS), default="first", show_default=True,
                 help="Frames of a device to compare with the CPU engine's; strict stops where they are wrong."),
    format_option("table", "json", "ndjson", "csv"),
)  # fmt: skip
@weight_options
@batch_options
@device_options("auto")
def command(
    scans: ScanChoices,
    choices: RunChoices,
    parameters: WeightChoices,
    network: NetworkChoices,
    batch: BatchChoices,
    where: DeviceChoices,
) -> int:
    """Run a sparse-convolution network over scans.

    SCAN is a file (.bin .npy .npz .pcd .ply .xyz), a directory, - for standard input, or voxels from spcli voxelize.
    Each gives DIR/<name>.features.npz, .rulebooks.npz and .stats.json; DIR/config.yaml is the configuration with
    everything resolved and DIR/manifest.jsonl has one line per scan.
    """
    if not network.given:
        raise UsageError("no network: give --config FILE or --preset NAME (spcli config init shows one)")
    config = read_configuration(network)
    if not config.layers:
        raise ConfigError([Problem("has no layers; a network needs at least one", "layers")], config.source)
    jobs = _jobs(find_inputs(scans), [*_kinds(choices), *_taps(choices.layers, config)], choices, batch)
    check_given(_given(config, parameters), jobs, None if choices.to_stdout else choices.output)
    form = default_format(choices.form)
    if choices.dry_run:
        built = config.network()
        print_plan(config, built, [(job, estimated_bytes(job, built)) for job in jobs], form)
        return 0
    engine = with_dtype(engine_for(where), choices.dtype)
    console.note(
        f"{len(jobs)} scans through {config.name} ({config.source}) on {engine.device}, the {engine.label} engine"
    )
    want = _want(jobs[0], config)
    weights = _weights(parameters, choices, batch, want.values)
    work = _batch(config, jobs, choices, batch, network.columns, weights if want.values else None)
    session = Session(
        config, weights=weights, device=engine, want=want, graph=not choices.no_graph, engine=where.engine,
        check=choices.check,
    )  # fmt: skip
    return print_records(run_scans(work, session, work.settings["weights"]), form, work, choices.to_stdout)


def _given(config: Config, parameters: WeightChoices) -> list[str | None]:
    """The files read besides the scans; a resolved configuration is what a run writes back, so it may stay."""
    source = config.source if os.path.isfile(config.source) else None
    if source is not None:
        with open(source, encoding="utf-8", errors="replace") as file:
            source = None if file.read() == config.resolved else source
    return [source, parameters.weights]


def _kinds(choices: RunChoices) -> Sequence[str]:
    """The kinds of output, without taps."""
    write = choices.write
    if choices.to_stdout:
        if choices.maps_only or choices.layers or write not in (None, ("features",)):
            raise UsageError("-o - carries the features alone; give a directory for anything else")
        return ("features",)
    if choices.maps_only:
        if choices.layers or "features" in (write or ()):
            raise UsageError("--maps-only computes no features; leave it out, or --layer and --write features")
        return write or ("rulebooks", "stats")
    return write or KINDS


def _taps(names: Sequence[str], config: Config) -> list[str]:
    """The kinds of the layers that are written besides."""
    known = [layer.name for layer in config.layers]
    for name in names:
        if name not in known:
            raise UsageError(f"--layer {name}: no such layer{suggestion(name, known) or f'; there are {known}'}")
    return [f"features.{name}" for name in dict.fromkeys(names)]


def _jobs(found: Sequence[ScanPath], kinds: Sequence[str], choices: RunChoices, batch: BatchChoices) -> list[Job]:
    """The jobs; nothing is written yet."""
    if choices.output is None and not choices.dry_run:
        raise UsageError("no place for the results: give -o DIR")
    if choices.to_stdout:
        return [Job(found[0], dict.fromkeys(kinds, data_stream(found)))]
    folder = choices.output or "."
    check_folder(folder)
    jobs = plan_jobs(found, folder, kinds, batch.keep_tree)
    if not (batch.overwrite or batch.skip_existing or choices.dry_run):
        check_existing(jobs)
    return jobs


def _want(job: Job, config: Config) -> Want:
    """What the engine must bring back for the outputs of every job."""
    kinds = job.outputs
    names = [config.layers[-1].name] if "features" in kinds else []
    names += [kind.partition(".")[2] for kind in kinds if kind.startswith("features.")]
    # Statistics count the rules of every output, which their number per offset does not give.
    rules = "rulebooks" in kinds or "stats" in kinds
    return Want(tuple(dict.fromkeys(names)), rules, "stats" in kinds, bool(names))


def _weights(parameters: WeightChoices, choices: RunChoices, batch: BatchChoices, used: bool) -> Weights:
    path, save = parameters.weights, choices.save_weights
    if not used and (path or save):
        raise UsageError("no features are computed, so --weights and --save-weights have no use; leave them out")
    if save is not None and os.path.exists(save) and not (batch.overwrite or batch.skip_existing):
        raise UsageError(f"--save-weights {save}: exists; pass --overwrite or choose another name")
    return Weights(path, parameters.seed or 0, save)


def _batch(
    config: Config,
    jobs: Sequence[Job],
    choices: RunChoices,
    batch: BatchChoices,
    columns: Columns,
    weights: Weights | None,
) -> Batch:
    """The batch; checks that the disk can hold what it writes."""
    folder = None if choices.to_stdout else choices.output
    label = None if weights is None else weights.describe()
    if folder is not None and len(jobs) > 1:
        network = config.network()
        check_room(jobs, folder, lambda job: estimated_bytes(job, network))
    settings = {
        "command": "run",
        "config_sha256": config.digest,
        "version": __version__,
        "weights": label,
        "dtype": choices.dtype,
        "columns": columns if isinstance(columns, int) else None,
    }
    drawn = weights is not None and weights.path is None
    warnings = (f"the weights are {label}: features mean nothing; give --weights FILE",) if drawn else ()
    return Batch(
        tuple(jobs),
        folder,
        config.resolved,
        settings,
        columns or config.columns,
        batch.skip_existing,
        batch.fail_fast,
        batch.compress,
        warnings,
    )
