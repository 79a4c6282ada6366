"""A configuration on an engine: prepared once, then scan after scan."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from threading import RLock
from time import perf_counter
from types import TracebackType
from typing import Any

from msgspec import Struct

from spcli.config import Config, load_config
from spcli.config.convert import check_spec
from spcli.engines.base import Engine, Frame, Points, Want
from spcli.engines.device import choose_engine, with_dtype
from spcli.errors import ConfigError, Problem, SpcliError, UsageError
from spcli.grid import ScanCounts
from spcli.network import Network
from spcli.pipeline.background import read_ahead
from spcli.pipeline.channels import engine_points
from spcli.pipeline.checking import CHECKS, CheckedRunner, Task
from spcli.pipeline.parameters import DRAWN, Parameters, ParameterSource, WeightsLike, as_weights
from spcli.pipeline.records import result_warnings, stored_counts
from spcli.pipeline.scans import ScanLike, as_scan, check_tensor
from spcli.pipeline.verdicts import Verdict
from spcli.readers import Columns, Scan, StoredTensor
from spcli.rulebook import Rulebook
from spcli.sparse_tensor import SparseTensor
from spcli.stats import scan_stats
from spcli.weights import fold

ConfigLike = Config | str | os.PathLike[str]
"""A network: from `load_config`, a file, or a preset's name."""


def as_config(given: ConfigLike) -> Config:
    """A configuration from what a caller has.

    Raises:
        ConfigError: it is wrong.
        UsageError: there is no such file and no such preset.
    """
    return given if isinstance(given, Config) else load_config(os.fspath(given))


class RunResult(Struct, frozen=True):
    """What a network made of one scan.

    Attributes:
        network: the network, with every channel and shape known.
        frame: everything the engine brought back.
        counts: where the points went; None for a tensor whose file does not say.
        batch_size: scans in the input.
        time_s: seconds by phase.
        warnings: why another engine goes on, what was odd about the scan, what was left out, and which layers are
            empty; a sentence each.
        engine: what computed it.
        verdict: how such frames of the engine compare with the CPU engine's; None where none was compared.
        compared: whether this frame itself was.
    """

    network: Network
    frame: Frame
    counts: ScanCounts | None
    batch_size: int
    time_s: dict[str, float]
    warnings: tuple[str, ...]
    engine: Engine
    verdict: Verdict | None = None
    compared: bool = False

    @property
    def features(self) -> SparseTensor:
        """The last layer's output."""
        return self.frame.outputs[self.network.program.output]

    @property
    def outputs(self) -> dict[str, SparseTensor]:
        """The features of every layer that was wanted, by name."""
        return self.frame.outputs

    @property
    def rulebooks(self) -> dict[str, Rulebook]:
        """The rules by key."""
        return self.frame.rulebooks

    @property
    def stats(self) -> dict[str, Any]:
        """The `spcli.stats/1` object."""
        return scan_stats(self.network, self.frame, self.counts, self.batch_size)


class _Prepared(Struct, frozen=True):
    """A network for one kind of input, and the runner that carries it out."""

    network: Network
    runner: CheckedRunner


class _Submitted(Struct, frozen=True):
    """A scan that is in the engine, by the runner's own ticket."""

    prepared: _Prepared
    ticket: int
    counts: ScanCounts | None
    batch_size: int
    prepare_s: float
    warnings: tuple[str, ...]


class Session:
    """A network made ready on a device, for one scan after another.

        with spcli.Session("second-kitti", weights="net.npz") as session:
            for result in session.runs(paths):
                result.features.features, result.rulebooks["subm1"]

    Networks, packed weights and buffers are made when a scan first needs them and kept for the next, so a scan pays
    its frame only. Several threads may use one session; its frames then take turns.

    Attributes:
        config: the configuration.
        engine: what computes.
        warnings: what is to be known of the device, a sentence each.
        depth: frames that the engine can have in flight at once.
    """

    def __init__(  # noqa: PLR0913 - every argument after the configuration is optional
        self,
        config: ConfigLike,
        *,
        weights: WeightsLike = DRAWN,
        device: str | Engine = "cpu",
        dtype: str | None = None,
        threads: int | None = None,
        layers: Sequence[str] = (),
        rulebooks: bool = True,
        want: Want | None = None,
        graph: bool = True,
        engine: str | None = None,
        check: str = "first",
    ) -> None:
        """Nothing is computed yet; `prepare` makes ready what does not depend on a scan.

        Args:
            config: the network: from `load_config`, a file, or a preset's name.
            weights: a file, arrays by name, or the seed to draw from.
            device: "cpu", "cuda", "auto", or an engine.
            dtype: how a device stores and multiplies features: float32 by default, which is all a CPU computes.
            threads: processor threads, for the whole process; None leaves them as they are.
            layers: further layers whose features are wanted, in `outputs` of the results.
            rulebooks: whether rules are wanted; without them an inverse layer's most pairs of an output are not known.
            want: all of what to bring back, in place of `layers` and `rulebooks`.
            graph: False carries out one operation after another where the engine would replay a recording.
            engine: "triton" or "torch", and no other will do; None takes the best for the device.
            check: which frames of an engine other than the CPU's are compared with that one's, and what follows where
                they are wrong: the "first" of a network on a device, after which another engine goes on; "strict" the
                same, and it raises CheckFailed; "all" compares every frame, "none" no frame.

        Raises:
            ConfigError: the configuration is wrong.
            DeviceError: the device cannot be used, or not with this `dtype`.
            UsageError: there is no layer of a name in `layers`, or no `device`, `engine` or `check` of that name.
        """
        if check not in CHECKS:
            raise UsageError(f"there is no check {check!r}; there are {', '.join(CHECKS)}")
        self.config = as_config(config)
        if self.config.voxelize is not None:
            check_spec(self.config.voxelize)
        self.warnings: list[str] = []
        chosen = choose_engine(device, self.warnings.append, threads, engine)
        self.engine = chosen if dtype is None else with_dtype(chosen, dtype)
        self.depth = 1
        self._want = want or _wanted(self.config, layers, rulebooks)
        self._graph = graph
        self._check = check
        self._only = engine is not None
        self._source = ParameterSource(as_weights(weights))
        self._prepared: dict[tuple[int, tuple[int, ...] | None], _Prepared] = {}
        self._submitted: dict[int, _Submitted] = {}
        self._tickets = 0
        self._prepare_s = 0.0
        self._closed = False
        self._lock = RLock()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give back what was made ready: weights, buffers, recorded frames. Results stay."""
        with self._lock:
            self._closed = True
            self._prepared.clear()
            self._submitted.clear()

    def prepare(self) -> None:
        """Make ready what does not depend on a scan, so that what is wrong with it is said before one is read.

        Raises:
            CheckpointError: the weights do not fit.
            CheckFailed: an earlier frame was wrong, and the check is "strict".
        """
        channels = self.config.network().in_channels
        if channels:
            with self._lock:
                self._ready_for(channels, None)

    def parameters(self, network: Network) -> Parameters:
        """The parameters that this session gives to `network`, by name, before folding.

        Raises:
            CheckpointError: they do not fit.
        """
        return self._source.parameters(network)

    def run(self, scan: ScanLike, columns: Columns = None) -> RunResult:
        """One scan through the network.

        Args:
            scan: a path, "-" for standard input, points `[P, C]` as an array or anything with `__dlpack__`, a
                `PointCloud`, a `SparseTensor`, or what `spcli.read` gave.
            columns: the file's columns by number or names; None takes the configuration's, or lets the content decide.

        Raises:
            InputError: the scan cannot be used.
            ConfigError: the network does not work for it, or points came and there is no `voxelize` section.
            CheckpointError: the weights do not fit.
        """
        return self.result(self.submit(scan, columns))

    def runs(self, scans: Iterable[ScanLike], columns: Columns = None) -> Iterator[RunResult]:
        """Many scans through the network, results in order: files are read ahead, and `depth` frames are in flight.

        The first scan that cannot be used raises, as `run` does, and ends the iteration.
        """
        waiting: deque[int] = deque()
        try:
            for scan in read_ahead(lambda given: as_scan(given, columns or self.config.columns), scans):
                waiting.append(self.submit(scan))
                while len(waiting) >= self.depth:
                    yield self.result(waiting.popleft())
            while waiting:
                yield self.result(waiting.popleft())
        finally:
            for ticket in waiting:  # what is still in flight has to land
                with suppress(SpcliError):
                    self.result(ticket)

    def submit(self, scan: ScanLike, columns: Columns = None) -> int:
        """Hand a scan to the engine; gives the ticket for `result`. Arguments and errors as `run`."""
        scan = as_scan(scan, columns or self.config.columns)
        with self._lock:
            if self._closed:
                raise UsageError("this session is closed; make a new one")
            submitted = self._submit(scan)
            self._tickets += 1
            self._submitted[self._tickets] = submitted
            return self._tickets

    def result(self, ticket: int) -> RunResult:
        """Wait for a scan that was submitted. Each ticket gives its result once."""
        with self._lock:
            submitted = self._submitted.pop(ticket, None)
            if submitted is None:
                raise UsageError(f"there is no scan with the ticket {ticket}; each gives its result once")
            checked = submitted.prepared.runner.result(submitted.ticket)
            self.depth = submitted.prepared.runner.depth
        frame = checked.frame
        network = submitted.prepared.network
        if network.shapes[0] is None:
            network = self.config.network(network.in_channels, frame.shapes[0])
        time_s = {"prepare": submitted.prepare_s, **frame.time_s}
        odd = result_warnings(self.config.voxelize, network, frame)
        return RunResult(
            network, frame, frame.scan or submitted.counts, submitted.batch_size, time_s,
            (*checked.warnings, *submitted.warnings, *odd), checked.engine, checked.verdict, checked.itself,
        )  # fmt: skip

    def _submit(self, scan: Scan) -> _Submitted:
        content, spec = scan.content, self.config.voxelize
        if isinstance(content, StoredTensor):
            check_tensor(content, spec, scan.source)
            tensor = content.tensor
            # A fixed range makes a network for one shape, which the tensor was just found to have.
            shape = tensor.spatial_shape if spec is None or spec.point_cloud_range is None else None
            prepared = self._ready_for(tensor.features.shape[1], shape)
            counts = stored_counts(content)
            return self._started(prepared, tensor, counts, tensor.batch_size, content.warnings)
        if spec is None:
            message = f"is missing, and {scan.source} holds points; add the section, or give voxels"
            raise ConfigError([Problem(message, "voxelize")], self.config.source)
        points = engine_points(content, spec)
        return self._started(self._ready_for(len(points.features), None), points, None, 1, content.warnings)

    def _started(
        self,
        prepared: _Prepared,
        scan: Points | SparseTensor,
        counts: ScanCounts | None,
        batch_size: int,
        warnings: tuple[str, ...],
    ) -> _Submitted:
        seconds, self._prepare_s = self._prepare_s, 0.0
        return _Submitted(prepared, prepared.runner.submit(scan), counts, batch_size, seconds, warnings)

    def _ready_for(self, channels: int, spatial_shape: tuple[int, ...] | None) -> _Prepared:
        """The network for inputs of so many channels, and of a shape where only the input has it."""
        started = perf_counter()
        key = (channels, spatial_shape)
        if key not in self._prepared:
            network = self.config.network(channels, spatial_shape)
            same = (one.runner for one in self._prepared.values() if one.network.program == network.program)
            self._prepared[key] = _Prepared(network, next(same, None) or self._runner(network))
        self.depth = self._prepared[key].runner.depth
        self._prepare_s += perf_counter() - started
        return self._prepared[key]

    def _runner(self, network: Network) -> CheckedRunner:
        parameters = fold(network, self.parameters(network)) if self._want.values else {}
        task = Task(self.config.name, network.program, parameters, self._want, self._graph)
        return CheckedRunner(self.engine, task, self._check, self._only)


def _wanted(config: Config, layers: Sequence[str], rulebooks: bool) -> Want:
    known = [layer.name for layer in config.layers]
    for name in layers:
        if name not in known:
            raise UsageError(f"layers: there is no layer {name!r}; there are {', '.join(known)}")
    return Want(tuple(dict.fromkeys((known[-1], *layers))), rulebooks)
