"""Many scans, one after another: reading ahead and writing behind while the engine computes."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any, Protocol, TypeVar

from msgspec import Struct, structs

from spcli.errors import ConfigError, InputError, SpcliError
from spcli.pipeline.outputs import Job, paths
from spcli.pipeline.records import Record, failure_record, manifest_entry, rounded, skipped_record
from spcli.readers import Columns, Scan, read
from spcli.writers import Target, append_manifest, read_manifest, write_text

Given = TypeVar("Given")
Made = TypeVar("Made")
Step = Callable[[Callable[[Given], Made], Iterable[Given]], Iterator[Made]]

READ_AHEAD = 2
CONFIGURATION = "config.yaml"


class Batch(Struct, frozen=True):
    """Scans, and what becomes of their results.

    Attributes:
        jobs: the scans and their outputs.
        folder: gets `manifest.jsonl` and the configuration; None where the only output is a stream or one named file.
        config: the resolved configuration, as text.
        settings: what besides the input decides the results; part of every manifest line.
        columns: the files' columns where the caller tells.
        skip_existing: leave out scans whose results are there already, by digest.
        fail_fast: stop at the first scan that cannot be used.
        warnings: sentences that hold for every scan.
    """

    jobs: tuple[Job, ...]
    folder: str | None = None
    config: str = ""
    settings: dict[str, Any] = {}
    columns: Columns = None
    skip_existing: bool = False
    fail_fast: bool = False
    warnings: tuple[str, ...] = ()


class Result(Struct, frozen=True):
    """What one scan gave: its record, still without `outputs` written, and how to write each kind of output."""

    record: Record
    writes: dict[str, Callable[[Target], None]]
    digest: str
    time_s: dict[str, float]


class Work(Protocol):
    """The computation in the middle; between `begin` and `finish` of a scan up to `depth - 1` others may begin."""

    schema: str
    depth: int

    def begin(self, job: Job, scan: Scan) -> Any:
        """Hand a scan to the engine."""

    def finish(self, begun: Any) -> Result:
        """Wait for the engine and describe the result."""


class Failure(Struct, frozen=True):
    """Stands in for the result of a scan that went wrong."""

    error: SpcliError


class _Read(Struct, frozen=True):
    scan: Scan
    seconds: float


def write_configuration(folder: str, text: str) -> None:
    """Write `config.yaml`; another configuration that is there stays beside it as `config.<digest>.yaml`.

    The manifest names the configuration of every result by digest, so nothing in the folder loses its explanation.

    Raises:
        UsageError: the folder cannot be written.
    """
    path = os.path.join(folder, CONFIGURATION)
    if os.path.isfile(path):
        with open(path, "rb") as file:
            before = file.read()
        if before != text.encode():
            os.replace(path, os.path.join(folder, f"config.{hashlib.sha256(before).hexdigest()[:12]}.yaml"))
    write_text(path, text)


def process(batch: Batch, work: Work) -> Iterator[Record]:
    """Read, compute and write every scan of a batch; gives its records in order, each once its files are written.

    A scan that cannot be used gives a record with `ok` false, and the others go on.

    Raises:
        UsageError: results cannot be written.
    """
    # What must stop at the first bad scan may not have begun the next one.
    overlapped = len(batch.jobs) > 1 and not batch.fail_fast
    ahead: Step[Any, Any] = read_ahead if overlapped else map
    behind: Step[Any, Any] = write_behind if overlapped else map
    keeper = _Keeper(batch, work.schema)
    reads = ahead(lambda job: (job, _attempt(job, lambda: _read(batch, job))), batch.jobs)
    for record in behind(lambda pair: keeper.keep(*pair), _computed(batch, work, reads)):
        yield record
        if batch.fail_fast and not record["ok"]:
            return


def _read(batch: Batch, job: Job) -> _Read:
    started = perf_counter()
    scan = read(job.scan.source, batch.columns)
    return _Read(scan, perf_counter() - started)


def _computed(
    batch: Batch, work: Work, reads: Iterable[tuple[Job, _Read | Failure]]
) -> Iterator[tuple[Job, Result | Failure]]:
    """The results of what was read, in order, with up to `work.depth` scans in the engine."""
    latest = _latest_entries(batch.folder) if batch.skip_existing and batch.folder else {}
    begun: deque[tuple[Job, _Read | Failure, Any]] = deque()
    for job, given in reads:
        done = isinstance(given, _Read) and bool(latest) and _is_done(batch, job, given.scan, latest)
        begun.append((job, given, _begin(work, job, given, done)))
        while len(begun) >= work.depth:
            yield _finish(work, *begun.popleft())
    while begun:
        yield _finish(work, *begun.popleft())


def _begin(work: Work, job: Job, given: _Read | Failure, done: bool) -> Any:
    if isinstance(given, Failure):
        return given
    if done:
        return Result(skipped_record(work.schema, job), {}, given.scan.digest, {})
    return _attempt(job, lambda: work.begin(job, given.scan))


def _finish(work: Work, job: Job, given: _Read | Failure, begun: Any) -> tuple[Job, Result | Failure]:
    if isinstance(given, Failure) or isinstance(begun, Failure | Result):
        return job, begun
    result = _attempt(job, lambda: work.finish(begun))
    if isinstance(result, Result):
        return job, structs.replace(result, time_s={"read": given.seconds, **result.time_s})
    return job, result


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


class _Keeper:
    """Writes results, each with its line in the manifest, and before the first of them the configuration."""

    def __init__(self, batch: Batch, schema: str) -> None:
        self._batch = batch
        self._schema = schema
        self._explained = batch.folder is None

    def keep(self, job: Job, result: Result | Failure) -> Record:
        """Write the files of a result; gives the finished record."""
        batch = self._batch
        if isinstance(result, Failure):
            return failure_record(self._schema, job, result.error)
        if not result.writes:
            return result.record
        started = perf_counter()
        if batch.folder is not None and not self._explained:
            write_configuration(batch.folder, batch.config)
            self._explained = True
        for kind, target in job.outputs.items():
            result.writes[kind](target)
        time_s = {**result.time_s, "write": perf_counter() - started}
        record = {**result.record, "time_s": rounded(time_s)}
        record["warnings"] = [*result.record["warnings"], *batch.warnings]
        if batch.folder is not None:
            append_manifest(batch.folder, manifest_entry(record, result.digest, batch.settings, batch.folder))
        return record


def _attempt(job: Job, work: Callable[[], Made]) -> Made | Failure:
    """What `work` gives, or the failure it ends with."""
    try:
        return work()
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


def in_background(work: Callable[[Given], Made], items: Iterable[Given], wait: bool = True) -> Iterator[Made]:
    """`work` of every item, in order, done by one thread that may be `READ_AHEAD` items away from the consumer.

    Whatever ends the iteration, work that has not begun is dropped; with `wait`, work that has begun is finished.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    pending: deque[Future[Made]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            while pending and (len(pending) > READ_AHEAD or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)


def read_ahead(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """In front of the slow stage. A reader may wait for standard input forever, so nobody waits for a reader."""
    return in_background(work, items, wait=False)


def write_behind(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """Behind the slow stage: writes while the next item is computed, and leaves no file half-written."""
    return in_background(work, items)
