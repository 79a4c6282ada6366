"""The program on one page: read, voxelize, index phase, value phase, write.

`voxelize` and `run` do one scan and give values. `voxelize_scans` and `run_scans` do many and leave files; they give
a record a scan, in order, and go on after a scan that cannot be used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.engines import load_engine
from spcli.engines.base import Engine, Want, download_voxels
from spcli.errors import InputError, UsageError
from spcli.grid import VoxelSpec, check_spec
from spcli.pipeline.batch import Batch, Result, process
from spcli.pipeline.channels import channel_names, engine_points
from spcli.pipeline.meta import features_meta, rulebooks_meta, voxels_meta
from spcli.pipeline.outputs import Job
from spcli.pipeline.prepare import Weights, WeightsLike, as_weights
from spcli.pipeline.records import (
    RUN_SCHEMA,
    VOXELIZE_SCHEMA,
    Record,
    layer_records,
    loss_warnings,
    scan_record,
    stored_counts,
)
from spcli.pipeline.session import Begun, RunResult, Runs, check_tensor
from spcli.points import PointCloud
from spcli.readers import SORTED, Columns, Scan, StoredTensor, read
from spcli.sparse_tensor import SparseTensor, VoxelizedScan, checked
from spcli.writers import Target, write_features, write_rulebooks, write_stats, write_voxels

if TYPE_CHECKING:
    from spcli.config import Config

DRAWN = Weights()


class Extras(Struct, frozen=True):
    """What `voxelize_scans` adds to a file of voxels, and whether it deflates it."""

    point_map: bool = False
    hard: bool = False
    compress: bool = False


class Keep(Struct, frozen=True):
    """The parameters of `run_scans`, how it carries out a frame, and how it stores features.

    Attributes:
        weights: where parameters come from; `label` is what records call them.
        dtype: float16 features are stored as such.
        compress: deflate npz files.
        graph: False carries out one operation after another where the engine would replay a recording of the frame.
    """

    weights: Weights = DRAWN
    label: str | None = None
    dtype: str = "float32"
    compress: bool = False
    graph: bool = True


def voxelize(
    scan: str | os.PathLike[str] | NDArray[Any] | PointCloud,
    spec: VoxelSpec,
    *,
    columns: Columns = None,
    point_map: bool = False,
    hard: bool = False,
    engine: Engine | None = None,
) -> VoxelizedScan:
    """The voxels of one scan, exactly as CONTRACT section 3 has it.

    Args:
        scan: a path, "-" for standard input, or points `[P, C]`.
        spec: how points become voxels.
        columns: the file's columns by number or names; None takes those of `spec`, or lets the content decide.
        point_map: also give every point's row.
        hard: also give each voxel's points, zero-padded; needs `spec.max_points`.
        engine: None is the CPU's.

    Raises:
        InputError: the scan cannot be used, or is voxelized already.
        ConfigError: the specification is wrong, or its grid too large.
        UsageError: `hard` without `spec.max_points`.
    """
    check_spec(spec)
    content = scan if isinstance(scan, PointCloud) else _read(scan, columns or spec.columns).content
    if isinstance(content, StoredTensor):
        raise InputError(f"{scan}: is voxelized already; spcli.read gives its tensor")
    if hard and spec.max_points is None:
        raise UsageError("hard voxels have room for max_points points each: set max_points (--max-points)")
    engine = engine or load_engine("cpu")
    voxels = engine.voxelize(engine_points(content, spec), spec, point_map=point_map, hard=hard)
    return download_voxels(engine, voxels)


def run(  # noqa: PLR0913 - every argument after the scan is optional
    config: Config,
    scan: str | os.PathLike[str] | NDArray[Any] | Scan | PointCloud | SparseTensor,
    *,
    columns: Columns = None,
    weights: WeightsLike = DRAWN,
    layers: Sequence[str] = (),
    rulebooks: bool = True,
    want: Want | None = None,
    engine: Engine | None = None,
) -> RunResult:
    """One scan through a network.

    Args:
        config: the network, from `load_config`.
        scan: a path, "-" for standard input, points `[P, C]`, what `spcli.read` gave, or a tensor.
        columns: the file's columns by number or names; None takes the configuration's, or lets the content decide.
        weights: a file, arrays by name, or the seed to draw from; seed 0 by default.
        layers: further layers whose features are wanted, in `outputs` of the result.
        rulebooks: whether rules are wanted; without them an inverse layer's most pairs of an output are not known.
        want: all of what to bring back, in place of `layers` and `rulebooks`.
        engine: None is the CPU's.

    Raises:
        InputError: the scan cannot be used.
        ConfigError: the network does not work for it.
        CheckpointError: the weights do not fit.
        UsageError: there is no layer of a name in `layers`.
    """
    if config.voxelize is not None:
        check_spec(config.voxelize)
    want = want or _wanted(config, layers, rulebooks)
    runs = Runs(config, engine or load_engine("cpu"), want, as_weights(weights))
    if isinstance(scan, str | os.PathLike | np.ndarray):
        scan = _read(scan, columns or config.columns)
    elif isinstance(scan, SparseTensor):
        tensor, was_sorted = checked(scan, "the tensor")
        scan = Scan(StoredTensor(tensor, warnings=(SORTED,) if was_sorted else ()), "", "the tensor")
    elif isinstance(scan, PointCloud):
        scan = Scan(scan, "", scan.source)
    return runs.finish(runs.begin(scan.content, scan.source))


def _wanted(config: Config, layers: Sequence[str], rulebooks: bool) -> Want:
    known = [layer.name for layer in config.layers]
    for name in layers:
        if name not in known:
            raise UsageError(f"layers: there is no layer {name!r}; there are {', '.join(known)}")
    return Want(tuple(dict.fromkeys((known[-1], *layers))), rulebooks)


def _read(scan: str | os.PathLike[str] | NDArray[Any], columns: Columns) -> Scan:
    """A file, or an array of points as a file would hold it."""
    if not isinstance(scan, np.ndarray):
        return read(os.fspath(scan), columns)
    from spcli.readers.numpy_file import cloud_of

    cloud = cloud_of(scan, columns, "the array")
    return Scan(cloud, "", cloud.source)


def voxelize_scans(batch: Batch, engine: Engine, spec: VoxelSpec, extras: Extras) -> Iterator[Record]:
    """Voxelize every scan of a batch and write `voxels`; gives its records.

    Raises:
        UsageError: results cannot be written.
    """
    return process(batch, _Voxelizing(engine, spec, extras))


def run_scans(batch: Batch, config: Config, engine: Engine, want: Want, keep: Keep) -> Iterator[Record]:
    """Run every scan of a batch and write what its jobs name: `features`, `features.<layer>`, `rulebooks`, `stats`.

    Raises:
        CheckpointError: the weights do not fit the network.
        UsageError: results cannot be written.
    """
    return process(batch, _Running(config, engine, want, keep))


class _Voxelizing:
    """The work of `voxelize_scans`."""

    schema = VOXELIZE_SCHEMA
    depth = 1

    def __init__(self, engine: Engine, spec: VoxelSpec, extras: Extras) -> None:
        self._engine = engine
        self._spec = spec
        self._extras = extras

    def begin(self, job: Job, scan: Scan) -> tuple[Job, Scan]:
        """Nothing to hand over before `finish`."""
        return job, scan

    def finish(self, begun: tuple[Job, Scan]) -> Result:
        """Voxelize; a tensor that is voxelized already is checked and passed on."""
        job, scan = begun
        content = scan.content
        if isinstance(content, StoredTensor):
            return self._passed_on(job, scan, content)
        started = perf_counter()
        extras = self._extras
        voxels = voxelize(content, self._spec, point_map=extras.point_map, hard=extras.hard, engine=self._engine)
        time_s = {"voxelize": perf_counter() - started}
        record = scan_record(self.schema, job, self._engine.name, voxels.counts, len(voxels.tensor.indices))
        record["spatial_shape"] = list(voxels.tensor.spatial_shape)
        record["warnings"] = [*content.warnings, *loss_warnings(voxels.counts, self._spec)]
        channels = channel_names(self._spec, content.columns) or content.columns
        meta = voxels_meta(scan, self._spec, voxels.grid, voxels.counts, channels)
        arrays = {"num_points": voxels.num_points, "point_rows": voxels.point_rows, "points": voxels.points}
        write = partial(write_voxels, tensor=voxels.tensor, extras=arrays, meta=meta, compress=extras.compress)
        return Result(record, {"voxels": write}, scan.digest, time_s)

    def _passed_on(self, job: Job, scan: Scan, stored: StoredTensor) -> Result:
        if self._extras.point_map or self._extras.hard:
            raise InputError(f"{scan.source}: is voxelized already and holds no points; give the scan it came from")
        check_tensor(stored, self._spec, scan.source)
        counts = stored_counts(stored)
        record = scan_record(self.schema, job, self._engine.name, counts, len(stored.tensor.indices))
        record["spatial_shape"] = list(stored.tensor.spatial_shape)
        record["warnings"] = list(stored.warnings)
        arrays = {"num_points": stored.num_points}
        write = partial(
            write_voxels, tensor=stored.tensor, extras=arrays, meta=stored.meta, compress=self._extras.compress
        )
        return Result(record, {"voxels": write}, scan.digest, {"voxelize": 0.0})


class _Running:
    """The work of `run_scans`."""

    schema = RUN_SCHEMA

    def __init__(self, config: Config, engine: Engine, want: Want, keep: Keep) -> None:
        self._runs = Runs(config, engine, want, keep.weights, keep.graph)
        self._runs.prepare()
        self._device = engine.name
        self._keep = keep
        self.depth = 1

    def begin(self, job: Job, scan: Scan) -> tuple[Job, Scan, Begun]:
        """Hand the scan to the engine."""
        begun = self._runs.begin(scan.content, scan.source)
        self.depth = begun.runner.depth
        return job, scan, begun

    def finish(self, begun: tuple[Job, Scan, Begun]) -> Result:
        """Wait for the engine; describe what it gave and how to write it."""
        job, scan, ticket = begun
        result = self._runs.finish(ticket)
        record = scan_record(self.schema, job, self._device, result.counts, result.frame.sites[0])
        record["weights"] = self._keep.label
        record["layers"] = layer_records(result.network, result.frame)
        record["warnings"] = list(result.warnings)
        writes = {kind: self._write(kind, scan, result) for kind in job.outputs}
        return Result(record, writes, scan.digest, result.time_s)

    def _write(self, kind: str, scan: Scan, result: RunResult) -> Callable[[Target], None]:
        """How to write one kind of output."""
        network, frame, keep = result.network, result.frame, self._keep
        if kind == "stats":
            return partial(write_stats, stats=result.stats)
        if kind == "rulebooks":
            return partial(
                write_rulebooks,
                keys=network.program.keys,
                rulebooks=frame.rulebooks,
                meta=rulebooks_meta(scan, network, frame.grid),
                compress=keep.compress,
            )
        name = kind.partition(".")[2] or network.program.output
        layer = next(layer for layer in network.layers if layer.name == name)
        meta = features_meta(scan, network, layer, frame.grid, frame.outputs[name].features.shape[1])
        return partial(write_features, tensor=frame.outputs[name], meta=meta, dtype=keep.dtype, compress=keep.compress)
