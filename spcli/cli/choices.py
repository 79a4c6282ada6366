"""Groups of options that several commands share: each one struct, and the decorator that declares its options."""

from __future__ import annotations

from collections.abc import Callable

import click
from msgspec import Struct

from spcli.cli.option_types import ColumnsType
from spcli.cli.options import Function, grouped
from spcli.engines.device import DEVICES, ENGINE_CHOICES
from spcli.errors import UsageError

Columns = int | tuple[str, ...] | None

SEED = click.IntRange(0, 2**63 - 1)


def set_option(function: Function) -> Function:
    """`--set`, repeatable."""
    text = "Override a value of the configuration, such as voxelize.max_points=5; repeatable."
    return click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help=text)(function)


def columns_option(function: Function) -> Function:
    """`--columns`."""
    text = "The file's columns, by number or names; found from the points otherwise."
    return click.option("--columns", type=ColumnsType(), help=text)(function)


class NetworkChoices(Struct, frozen=True):
    """Which configuration, what overrides it, and the columns of the scans that it is for."""

    config: str | None = None
    preset: str | None = None
    sets: tuple[str, ...] = ()
    columns: Columns = None

    def __post_init__(self) -> None:
        if self.config is not None and self.preset is not None:
            raise UsageError("--config and --preset are both given; give one of them")

    @property
    def given(self) -> bool:
        """Whether there is a configuration."""
        return self.config is not None or self.preset is not None


def network_options(
    text: str = "The network, for a scan or tensor: a file, or a preset's name.",
) -> Callable[[Function], Function]:
    """`--config`, `--preset`, `--set` and `--columns`, as the argument `network`."""
    return grouped(
        "network",
        NetworkChoices,
        click.option("--config", metavar="FILE", help=text),
        click.option("--preset", metavar="NAME", help="A configuration that comes with spcli."),
        set_option,
        columns_option,
    )


class DeviceChoices(Struct, frozen=True):
    """Where to compute, by which engine, and on how many threads; None takes the best engine, and all threads."""

    device: str
    engine: str | None = None
    threads: int | None = None


def device_options(default: str) -> Callable[[Function], Function]:
    """`--device`, `--engine` and `--threads`, as the argument `where`."""
    return grouped(
        "where",
        DeviceChoices,
        click.option("--device", type=click.Choice(DEVICES), default=default, envvar="SPCLI_DEVICE",
                     show_default=True, help="Where to compute."),
        click.option("--engine", type=click.Choice(ENGINE_CHOICES), envvar="SPCLI_ENGINE",
                     help="The engine for a device, and no other; by default triton, or torch where that cannot run."),
        click.option("--threads", type=click.IntRange(1, 1024), metavar="N", envvar="SPCLI_THREADS",
                     help="Processor threads; all by default."),
    )  # fmt: skip


class WeightChoices(Struct, frozen=True):
    """Where parameters come from: a file, or else a seed (None is 0)."""

    weights: str | None
    seed: int | None

    def __post_init__(self) -> None:
        if self.weights is not None and self.seed is not None:
            raise UsageError("--weights and --seed are both given; parameters come from one of them")


def weight_options(function: Function) -> Function:
    """`--weights` and `--seed`, as the argument `parameters`."""
    return grouped(
        "parameters",
        WeightChoices,
        click.option("--weights", metavar="FILE", help="Parameters, .npz or .safetensors; drawn from --seed without."),
        click.option(
            "--seed",
            type=SEED,
            metavar="N",
            help="What parameters are drawn from; 0 by default.",
        ),
    )(function)


class ScanChoices(Struct, frozen=True):
    """The scans, and lists of scans in files, whose paths end with NUL bytes where `nul` is set."""

    scans: tuple[str, ...]
    lists: tuple[str, ...]
    nul: bool


def scan_arguments(function: Function) -> Function:
    """SCAN..., `--from-file` and `-0`, as the argument `scans`."""
    return grouped(
        "scans",
        ScanChoices,
        click.argument("scans", nargs=-1, metavar="SCAN..."),
        click.option("--from-file", "lists", multiple=True, metavar="LIST",
                     help="Also take the paths in LIST, one per line; - is stdin."),
        click.option("-0", "nul", is_flag=True, help="Paths in LIST end with NUL bytes, as find -print0 writes them."),
    )(function)  # fmt: skip


class BatchChoices(Struct, frozen=True):
    """What to do about results that are there already, scans that are bad, and folders."""

    overwrite: bool
    skip_existing: bool
    fail_fast: bool
    keep_tree: bool
    compress: bool

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing contradict each other; give one of them")


def batch_options(function: Function) -> Function:
    """`--overwrite`, `--skip-existing`, `--fail-fast`, `--keep-tree` and `--compress`, as the argument `batch`."""
    return grouped(
        "batch",
        BatchChoices,
        click.option("--overwrite", is_flag=True, help="Replace results that are there."),
        click.option("--skip-existing", is_flag=True, help="Leave out scans whose results are there, by digest."),
        click.option("--fail-fast", is_flag=True, help="Stop at the first scan that cannot be used."),
        click.option("--keep-tree", is_flag=True, help="Keep the folders below a given directory."),
        click.option("--compress", is_flag=True, help="Deflate npz files: smaller, and much slower to write."),
    )(function)
