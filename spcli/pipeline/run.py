"""One scan: read, voxelize, index phase, value phase."""

from __future__ import annotations

from collections.abc import Sequence

from spcli.config import Config
from spcli.config.convert import check_spec
from spcli.engines import load_engine
from spcli.engines.base import Engine, Want, download_voxels
from spcli.errors import InputError, UsageError
from spcli.grid import VoxelSpec
from spcli.pipeline.channels import engine_points
from spcli.pipeline.parameters import DRAWN, WeightsLike
from spcli.pipeline.scans import ScanLike, as_scan
from spcli.pipeline.session import RunResult, Session
from spcli.readers import Columns, StoredTensor
from spcli.sparse_tensor import VoxelizedScan


def voxelize(
    scan: ScanLike,
    spec: VoxelSpec,
    *,
    columns: Columns = None,
    point_map: bool = False,
    hard: bool = False,
    engine: Engine | None = None,
) -> VoxelizedScan:
    """The voxels of one scan, exactly as docs/files.md defines them.

    Args:
        scan: a path, "-" for standard input, points `[P, C]` as an array or anything with `__dlpack__`, or a
            `PointCloud`.
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
    read = as_scan(scan, columns or spec.columns)
    if isinstance(read.content, StoredTensor):
        raise InputError(f"{read.source}: is voxelized already; spcli.read gives its tensor")
    if hard and spec.max_points is None:
        raise UsageError("hard voxels need a number of points per voxel: set max_points (--max-points)")
    engine = engine or load_engine("cpu")
    voxels = engine.voxelize(engine_points(read.content, spec), spec, point_map=point_map, hard=hard)
    return download_voxels(engine, voxels)


def run(  # noqa: PLR0913 - every argument after the scan is optional
    config: Config,
    scan: ScanLike,
    *,
    columns: Columns = None,
    weights: WeightsLike = DRAWN,
    layers: Sequence[str] = (),
    rulebooks: bool = True,
    want: Want | None = None,
    engine: Engine | None = None,
) -> RunResult:
    """One scan through a network. For many, a `Session` makes the network ready once.

    Args:
        config: the network, from `load_config`.
        scan: a path, "-" for standard input, points `[P, C]` as an array or anything with `__dlpack__`, a
            `PointCloud`, a `SparseTensor`, or what `spcli.read` gave.
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
    session = Session(config, weights=weights, device=engine or "cpu", layers=layers, rulebooks=rulebooks, want=want)
    return session.run(scan, columns)
