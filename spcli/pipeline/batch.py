"""Many scans, one after another: reading ahead and writing behind while the engine computes.

`voxelize_scans` and `run_scans` leave files; they give one record per scan, in order, and go on after a scan that
cannot be used.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any, TypeVar

from msgspec import Struct, structs

from spcli.engines.base import Engine
from spcli.errors import CheckFailed, ConfigError, InputError, SpcliError
from spcli.grid import ScanCounts, VoxelSpec
from spcli.pipeline.background import read_ahead, write_behind
from spcli.pipeline.channels import channel_names
from spcli.pipeline.files import Write, run_files, voxels_file
from spcli.pipeline.meta import voxels_meta
from spcli.pipeline.outputs import Job, paths
from spcli.pipeline.records import (
    RUN_SCHEMA,
    VOXELIZE_SCHEMA,
    Record,
    check_record,
    failure_record,
    layer_records,
    loss_warnings,
    manifest_entry,
    rounded,
    scan_record,
    skipped_record,
    stored_counts,
)
from spcli.pipeline.run import voxelize
from spcli.pipeline.scans import check_tensor
from spcli.pipeline.session import Session
from spcli.readers import Columns, Scan, StoredTensor, read
from spcli.sparse_tensor import SparseTensor
from spcli.writers import append_manifest, read_manifest, write_configuration

Given = TypeVar("Given")
Made = TypeVar("Made")
Step = Callable[[Callable[[Given], Made], Iterable[Given]], Iterator[Made]]


class Batch(Struct, frozen=True):
    """Scans, and what becomes of their results.

    Attributes:
        jobs: the scans and their outputs.
        folder: gets `manifest.jsonl` and the configuration; None where the only output is a stream or one named file.
        config: the resolved configuration, as text.
        settings: what besides the input decides the results; part of every manifest line.
        columns: the files' columns where the caller gives them.
        skip_existing: leave out scans whose results are there already, by digest.
        fail_fast: stop at the first scan that cannot be used.
        compress: deflate npz files.
        warnings: sentences that hold for every scan.
    """

    jobs: tuple[Job, ...]
    folder: str | None = None
    config: str = ""
    settings: dict[str, Any] = {}
    columns: Columns = None
    skip_existing: bool = False
    fail_fast: bool = False
    compress: bool = False
    warnings: tuple[str, ...] = ()


class Outcome(Struct, frozen=True):
    """What one scan gave: its record, still without times, and how to write each kind of output."""

    record: Record
    writes: dict[str, Write]
    time_s: dict[str, float]


class Failure(Struct, frozen=True):
    """Stands in for the outcome of a scan that went wrong."""

    error: SpcliError


def voxelize_scans(batch: Batch, engine: Engine, spec: VoxelSpec, *, point_map: bool, hard: bool) -> Iterator[Record]:
    """Voxelize every scan of a batch and write `voxels`, with each point's row or each voxel's points where wanted.

    Raises:
        UsageError: results cannot be written.
    """
    return process(batch, _Voxelizing(batch, engine, spec, point_map, hard))


def run_scans(batch: Batch, session: Session, label: str | None = None) -> Iterator[Record]:
    """Run every scan of a batch and write what its jobs name: `features`, `features.<layer>`, `rulebooks`, `stats`.

    `label` is what records call the weights; None where no features are computed.

    Raises:
        CheckpointError: the weights do not fit the network.
        CheckFailed: a frame was wrong, and the session's check is "strict".
        UsageError: results cannot be written.
    """
    session.prepare()
    return process(batch, _Running(batch, session, label))


@dataclass(frozen=True)
class _Running:
    """The stage of `run_scans`."""

    batch: Batch
    session: Session
    label: str | None
    schema: str = RUN_SCHEMA

    @property
    def depth(self) -> int:
        return self.session.depth

    def submit(self, scan: Scan) -> int:
        return self.session.submit(scan)

    def outcome(self, job: Job, scan: Scan, submitted: int) -> Outcome:
        """Wait for the frame; describe it, and say how its files are written."""
        result = self.session.result(submitted)
        engine = result.engine
        record = scan_record(self.schema, job, engine, result.counts, result.frame.sites[0])
        record["checked"] = check_record(result.verdict, result.compared)
        record["weights"] = self.label
        record["layers"] = layer_records(result.network, result.frame)
        record["warnings"] = list(result.warnings)
        writes = run_files(job.outputs, result, scan, engine.dtype, self.batch.compress)
        return Outcome(record, writes, result.time_s)


@dataclass(frozen=True)
class _Voxelizing:
    """The stage of `voxelize_scans`."""

    batch: Batch
    engine: Engine
    spec: VoxelSpec
    point_map: bool
    hard: bool
    schema: str = VOXELIZE_SCHEMA
    depth: int = 1

    def submit(self, scan: Scan) -> None:
        """All is done in `outcome`."""

    def outcome(self, job: Job, scan: Scan, submitted: None) -> Outcome:
        """Voxelize; a tensor that is voxelized already is checked and passed on."""
        if isinstance(scan.content, StoredTensor):
            return self._passed_on(job, scan, scan.content)
        started = perf_counter()
        voxels = voxelize(scan, self.spec, point_map=self.point_map, hard=self.hard, device=self.engine)
        time_s = {"voxelize": perf_counter() - started}
        warnings = [*scan.content.warnings, *loss_warnings(voxels.counts, self.spec)]
        record = self._record(job, voxels.tensor, voxels.counts, warnings)
        channels = channel_names(self.spec, scan.content.columns) or scan.content.columns
        meta = voxels_meta(scan, self.spec, voxels.grid, voxels.counts, channels)
        arrays = {"num_points": voxels.num_points, "point_rows": voxels.point_rows, "points": voxels.points}
        return Outcome(record, voxels_file(voxels.tensor, arrays, meta, self.batch.compress), time_s)

    def _passed_on(self, job: Job, scan: Scan, stored: StoredTensor) -> Outcome:
        if self.point_map or self.hard:
            raise InputError(f"{scan.source}: is voxelized already and holds no points; give the scan it came from")
        check_tensor(stored, self.spec, scan.source)
        record = self._record(job, stored.tensor, stored_counts(stored), list(stored.warnings))
        arrays = {"num_points": stored.num_points}
        return Outcome(record, voxels_file(stored.tensor, arrays, stored.meta, self.batch.compress), {"voxelize": 0.0})

    def _record(self, job: Job, tensor: SparseTensor, counts: ScanCounts | None, warnings: list[str]) -> Record:
        record = scan_record(self.schema, job, self.engine, counts, len(tensor.indices))
        return {**record, "spatial_shape": list(tensor.spatial_shape), "warnings": warnings}


Stage = _Running | _Voxelizing
"""The computation in the middle of a batch, of which `depth` scans may be submitted before the first outcome."""


def process(batch: Batch, stage: Stage) -> Iterator[Record]:
    """Read, compute and write every scan of a batch; gives its records in order, each once its files are written.

    A scan that cannot be used gives a record with `ok` false, and the others go on.

    Raises:
        UsageError: results cannot be written.
    """
    # What must stop at the first bad scan may not have begun the next one.
    overlapped = len(batch.jobs) > 1 and not batch.fail_fast
    ahead: Step[Any, Any] = read_ahead if overlapped else map
    behind: Step[Any, Any] = write_behind if overlapped else map
    write = _writer(batch, stage.schema)
    reads = ahead(lambda job: (job, _attempt(job, lambda: _read(batch, job))), batch.jobs)
    for record in behind(lambda each: write(*each), _computed(batch, stage, reads)):
        yield record
        if batch.fail_fast and not record["ok"]:
            return


class _Read(Struct, frozen=True):
    scan: Scan
    seconds: float


def _read(batch: Batch, job: Job) -> _Read:
    started = perf_counter()
    scan = read(job.scan.source, batch.columns)
    return _Read(scan, perf_counter() - started)


Computed = tuple[Job, str, Outcome | Failure]
"""A job, the digest of its scan, and what came of it."""


def _computed(batch: Batch, stage: Stage, reads: Iterable[tuple[Job, _Read | Failure]]) -> Iterator[Computed]:
    """The outcomes of what was read, in order, with up to `stage.depth` scans in the engine."""
    latest = _latest_entries(batch.folder) if batch.skip_existing and batch.folder else {}
    submitted: deque[tuple[Job, _Read | Failure, Any]] = deque()
    for job, given in reads:
        done = isinstance(given, _Read) and bool(latest) and _is_done(batch, job, given.scan, latest)
        submitted.append((job, given, _submit(stage, job, given, done)))
        while len(submitted) >= stage.depth:
            yield _outcome(stage, *submitted.popleft())
    while submitted:
        yield _outcome(stage, *submitted.popleft())


def _submit(stage: Stage, job: Job, given: _Read | Failure, done: bool) -> Any:
    if isinstance(given, Failure):
        return given
    if done:
        return Outcome(skipped_record(stage.schema, job), {}, {})
    return _attempt(job, lambda: stage.submit(given.scan))


def _outcome(stage: Stage, job: Job, given: _Read | Failure, submitted: Any) -> Computed:
    if isinstance(given, Failure):
        return job, "", given
    if isinstance(submitted, Failure | Outcome):
        return job, given.scan.digest, submitted
    found = _attempt(job, lambda: stage.outcome(job, given.scan, submitted))
    if isinstance(found, Outcome):
        found = structs.replace(found, time_s={"read": given.seconds, **found.time_s})
    return job, given.scan.digest, found


def _writer(batch: Batch, schema: str) -> Callable[[Job, str, Outcome | Failure], Record]:
    """Writes an outcome with its line in the manifest, and before the first of them the configuration."""

    @cache
    def configure(folder: str) -> None:
        write_configuration(folder, batch.config)

    def write(job: Job, digest: str, found: Outcome | Failure) -> Record:
        if isinstance(found, Failure):
            return failure_record(schema, job, found.error)
        if not found.writes:
            return found.record
        started = perf_counter()
        if batch.folder is not None:
            configure(batch.folder)
        for kind, target in job.outputs.items():
            found.writes[kind](target)
        time_s = rounded({**found.time_s, "write": perf_counter() - started})
        record = {**found.record, "time_s": time_s, "warnings": [*found.record["warnings"], *batch.warnings]}
        if batch.folder is not None:
            append_manifest(batch.folder, manifest_entry(record, digest, batch.settings, batch.folder))
        return record

    return write


def _latest_entries(folder: str) -> dict[str, Record]:
    """The last line of the manifest that names each file: what the file holds now."""
    latest = {}
    for entry in read_manifest(folder):
        outputs = entry.get("outputs")
        for path in outputs.values() if isinstance(outputs, dict) else ():
            latest[os.path.normpath(os.path.join(folder, str(path)))] = entry
    return latest


def _is_done(batch: Batch, job: Job, scan: Scan, latest: dict[str, Record]) -> bool:
    """Whether every file of a job is there and was last written by this very work."""
    wanted = {"input_sha256": scan.digest, **batch.settings}
    for path in paths(job):
        entry = latest.get(os.path.normpath(path))
        if entry is None or any(entry.get(name) != value for name, value in wanted.items()):
            return False
        if not os.path.isfile(path) or not os.path.getsize(path):
            return False
    return True


def _attempt(job: Job, work: Callable[[], Made]) -> Made | Failure:
    """What `work` gives, or the failure it ends with."""
    try:
        return work()
    except CheckFailed:  # no other scan would fare better
        raise
    except ConfigError as error:
        return Failure(error if error.source else ConfigError(error.problems, job.scan.source))
    except SpcliError as error:
        return Failure(error)
    except MemoryError:
        reason = "needs more memory than there is; use larger voxels or a smaller range"
        return Failure(InputError(f"{job.scan.source}: {reason}"))
    except Exception as error:  # a bug of ours must not take the other scans' records along
        unexpected = SpcliError(
            f"{job.scan.source}: unexpected {type(error).__name__}: {error}; this is a bug in spcli"
        )
        unexpected.__cause__ = error
        return Failure(unexpected)
