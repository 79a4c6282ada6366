"""The rulebooks a command line names: those of a dump, or those built for a scan or tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spcli.cli.console import console
from spcli.errors import UsageError

if TYPE_CHECKING:
    from spcli.config import Config
    from spcli.engines.base import Engine
    from spcli.inspect import KeyedRulebook
    from spcli.readers.scan import RawScan, Scan


def read_rulebooks(source: str, options: Mapping[str, Any], *, check: bool = True) -> tuple[KeyedRulebook, ...]:
    """The rulebooks of `--key`, all of them without it.

    `check` False lets a dump through whose rules point outside its sites.

    Raises:
        InputError: the source cannot be used.
        UsageError: a scan is given without a configuration, or a key does not exist.
    """
    from spcli.readers import load

    raw = load(source)
    found = dump_in(raw, options["keys"], check)
    if found is not None:
        return found
    from spcli.inspect import check_keys

    config = configuration(source, options)
    check_keys(options["keys"], [keyed.key for keyed in config.network().program.keys])
    return built(config, scan_in(raw, config, options), engine_for(options))


def dump_in(raw: RawScan, keys: tuple[str, ...] = (), check: bool = True) -> tuple[KeyedRulebook, ...] | None:
    """The rulebooks of a dump; None where the bytes are something else."""
    from io import BytesIO

    from spcli.inspect import load_dump

    return load_dump(BytesIO(raw.data), raw.source, keys, check=check)


def configuration(source: str, options: Mapping[str, Any]) -> Config:
    """The configuration that `--config` or `--preset` names.

    Raises:
        UsageError: neither is given.
    """
    if options["config"] is None and options["preset"] is None:
        raise UsageError(f"{source}: is no rulebook dump; give --config FILE to build the rulebooks of a scan")
    from spcli.cli.inputs import read_configuration

    return read_configuration(options["config"], options["preset"], options["sets"], options["columns"])


def scan_in(raw: RawScan, config: Config, options: Mapping[str, Any]) -> Scan:
    """The points or the tensor in `raw`."""
    from spcli.readers import parse

    return parse(raw, options["columns"] or config.columns)


def engine_for(options: Mapping[str, Any]) -> Engine:
    """The engine of `--device`."""
    from spcli.engines.device import choose_engine

    return choose_engine(options["device"], console.warn, options["threads"])


def built(config: Config, scan: Scan, engine: Engine) -> tuple[KeyedRulebook, ...]:
    """The rulebooks of a network for a scan; says the scan's warnings."""
    from spcli.engines.base import Want
    from spcli.pipeline.explain import keyed_rulebooks
    from spcli.pipeline.run import run

    result = run(config, scan, want=Want(rulebooks=True, values=False), engine=engine)
    for warning in result.warnings:
        console.warn(f"{scan.source}: {warning}")
    return keyed_rulebooks(result, scan)
