"""One scan: read, voxelize, index phase, value phase."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from spcli.config.convert import check_spec
from spcli.engines.base import Engine, Want, download_voxels
from spcli.engines.device import choose_engine
from spcli.errors import InputError, UsageError
from spcli.grid import VoxelSpec
from spcli.pipeline.channels import engine_points
from spcli.pipeline.parameters import DRAWN, WeightsLike
from spcli.pipeline.scans import ScanLike, as_scan
from spcli.pipeline.session import ConfigLike, RunResult, Session
from spcli.readers import Columns, StoredTensor
from spcli.sparse_tensor import VoxelizedScan


def voxelize(
    scan: ScanLike,
    spec: VoxelSpec,
    *,
    columns: Columns = None,
    point_map: bool = False,
    hard: bool = False,
    device: str | Engine = "cpu",
) -> VoxelizedScan:
    """The voxels of one scan, exactly as docs/files.md defines them.

    Args:
        scan: a path, "-" for standard input, points `[P, C]` as an array or anything with `__dlpack__`, or a
            `PointCloud`.
        spec: how points become voxels.
        columns: the file's columns by number or names; None takes those of `spec`, or lets the content decide.
        point_map: also give every point's row.
        hard: also give each voxel's points, zero-padded; needs `spec.max_points`.
        device: "cpu", "cuda", "auto", or an engine.

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
    engine = choose_engine(device, warnings.warn)
    voxels = engine.voxelize(engine_points(read.content, spec), spec, point_map=point_map, hard=hard)
    return download_voxels(engine, voxels)


def run(  # noqa: PLR0913 - every argument after the scan is optional
    config: ConfigLike,
    scan: ScanLike,
    *,
    columns: Columns = None,
    weights: WeightsLike = DRAWN,
    layers: Sequence[str] = (),
    rulebooks: bool = True,
    want: Want | None = None,
    device: str | Engine = "cpu",
) -> RunResult:
    """One scan through a network. For many, a `Session` makes the network ready once.

    Args:
        config: the network: from `load_config`, a file, or a preset's name.
        scan: a path, "-" for standard input, points `[P, C]` as an array or anything with `__dlpack__`, a
            `PointCloud`, a `SparseTensor`, or what `spcli.read` gave.
        columns: the file's columns by number or names; None takes the configuration's, or lets the content decide.
        weights: a file, arrays by name, or the seed to draw from; seed 0 by default.
        layers: further layers whose features are wanted, in `outputs` of the result.
        rulebooks: whether rules are wanted; without them an inverse layer's most pairs of an output are not known.
        want: all of what to bring back, in place of `layers` and `rulebooks`.
        device: "cpu", "cuda", "auto", or an engine.

    Raises:
        InputError: the scan cannot be used.
        ConfigError: the network does not work for it.
        CheckpointError: the weights do not fit.
        UsageError: there is no layer of a name in `layers`.
    """
    session = Session(config, weights=weights, device=device, layers=layers, rulebooks=rulebooks, want=want)
    return session.run(scan, columns)
