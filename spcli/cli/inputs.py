"""From options to what the library takes: the list of scans, the configuration, the engine, the batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any

from spcli.cli.choices import Columns, DeviceChoices, NetworkChoices, ScanChoices
from spcli.cli.console import console
from spcli.cli.views.records import RecordPrinter
from spcli.config import Config, load_config, load_preset, read_config
from spcli.engines.base import Engine, Want
from spcli.engines.device import choose_engine
from spcli.errors import UsageError
from spcli.pipeline.batch import Batch
from spcli.pipeline.outputs import GIGABYTE, Job, check_space
from spcli.pipeline.records import Record
from spcli.pipeline.run import run
from spcli.pipeline.session import RunResult
from spcli.readers import Scan, ScanPath, find_scans, parse, read, read_list
from spcli.readers.columns import default_names
from spcli.readers.scan import RawScan

STDIN = STDOUT = "-"
BAD_INPUT = 4


def find_inputs(scans: ScanChoices) -> list[ScanPath]:
    """The scans that the command line names.

    Raises:
        UsageError: there are none, or standard input is asked for twice.
        InputError: a directory or list cannot be read.
    """
    named = [*scans.scans, *(path for source in scans.lists for path in _listed(source, scans.nul))]
    if not named:
        raise UsageError("no scan: name files, directories, - for standard input, or --from-file LIST")
    if not all(named):
        raise UsageError("an empty path stands where a scan should; name a file, a directory, or -")
    if [*named, *scans.lists].count(STDIN) > 1:
        raise UsageError("standard input (-) is named twice and can be read once")
    return find_scans(named)


def _listed(source: str, nul: bool) -> list[str]:
    if source == STDIN:
        return read_list(sys.stdin.buffer, nul)
    try:
        with open(source, "rb") as stream:
            return read_list(stream, nul)
    except OSError as error:
        raise UsageError(f"--from-file {source}: cannot be read ({error.strerror}); check the path") from error


def data_stream(scans: Sequence[ScanPath]) -> Any:
    """Standard output for `-o -`, which carries one npz.

    Raises:
        UsageError: there are several scans, or standard output is a terminal.
    """
    if len(scans) > 1:
        raise UsageError(f"-o - takes one scan and there are {len(scans)}; give a directory")
    if sys.stdout is None or sys.stdout.isatty():
        raise UsageError("-o - writes an npz, which a terminal cannot show; pipe it on, or give a directory")
    return sys.stdout.buffer


def read_configuration(network: NetworkChoices, voxels: str | None = None) -> Config:
    """The configuration with everything that overrides it, `--columns` last; prints its warnings.

    Where `voxels` is given, only the voxelize section counts, and `voxels` is the YAML text that stands in where
    neither a file nor a preset is given.

    Raises:
        UsageError: what is given does not exist.
        ConfigError: it is wrong.
    """
    alone = voxels is not None

    def load(sets: Sequence[str]) -> Config:
        if network.config is not None:
            return load_config(network.config, sets, only_voxelize=alone)
        if network.preset is not None:
            return load_preset(network.preset, sets, only_voxelize=alone)
        return read_config(voxels or "", sets, only_voxelize=alone)

    loaded = load(network.sets)
    names = _column_names(loaded, network.columns)
    if names is not None:
        loaded = load([*network.sets, f"voxelize.columns=[{', '.join(names)}]"])
    for warning in loaded.warnings:
        console.warn(warning)
    return loaded


def _column_names(config: Config, columns: Columns) -> Sequence[str] | None:
    """The names `--columns` gives the file's columns, where they are not the configuration's."""
    if config.voxelize is None or columns is None:
        return None
    have = config.voxelize.columns
    if isinstance(columns, tuple):
        return None if columns == have else columns
    if have is None or len(have) == columns or columns < 3:
        return None
    return default_names(columns)


def read_scan(source: str | RawScan, network: NetworkChoices, config: Config | None) -> Scan:
    """The points or the tensor of a source, with the columns of the options or of the configuration."""
    columns = network.columns or (config.columns if config else None)
    return parse(source, columns) if isinstance(source, RawScan) else read(source, columns)


def engine_for(where: DeviceChoices) -> Engine:
    """The engine of `--device` and `--engine`; warns where the best for what is there cannot be taken."""
    return choose_engine(where.device, console.warn, where.threads, where.engine)


def index_phase(config: Config, scan: Scan, engine: Engine) -> RunResult:
    """The sites and rulebooks of a network for a scan; prints the scan's warnings."""
    return warned(run(config, scan, want=Want(rulebooks=True, values=False), device=engine), scan)


def warned(result: RunResult, scan: Scan) -> RunResult:
    """The result, after its warnings are printed."""
    for warning in result.warnings:
        console.warn(f"{scan.source}: {warning}")
    return result


def print_records(records: Iterable[Record], form: str, batch: Batch, to_stderr: bool) -> int:
    """Print the records of a batch as they come; gives the exit code."""
    codes = []
    single = len(batch.jobs) == 1
    for warning in batch.warnings:
        console.warn(warning)
    printer = RecordPrinter(form, single, to_stderr, batch.warnings)
    iterator: Any = iter(records)
    with closing(iterator), console.progress(len(batch.jobs)) as advance:
        for record in iterator:
            printer.emit(record)
            advance()
            if not record["ok"]:
                codes.append(int(record["error"]["code"]))
    printer.close()
    if not codes:
        return 0
    return codes[0] if single else BAD_INPUT


def check_room(jobs: Sequence[Job], folder: str, estimate: Callable[[Job], int]) -> None:
    """Before a batch: say how many bytes it will write where that is much, and refuse what the disk cannot hold.

    Raises:
        UsageError: the disk cannot hold it.
    """
    if len(jobs) < 2:
        return
    needed = sum(map(estimate, jobs))
    if needed > GIGABYTE:
        console.warn(f"{folder}: {len(jobs)} scans will take about {needed / GIGABYTE:.1f} GB")
    check_space(needed, folder)


def check_folder(folder: str) -> None:
    """The place for results must be a folder, or free to become one.

    Raises:
        UsageError: it is a file, or no name.
    """
    if not folder:
        raise UsageError("-o is empty; give a directory")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"-o {folder}: is a file; give a directory")
