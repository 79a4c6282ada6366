"""Scans through one network on one engine: what goes in is checked, what comes out is one value."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct, structs

from spcli.engines.base import Engine, Frame, Points, Runner, Want
from spcli.errors import ConfigError, InputError, Problem
from spcli.grid import ScanCounts, VoxelSpec, fixed_grid
from spcli.network import Network
from spcli.pipeline.channels import channel_names, engine_points
from spcli.pipeline.prepare import Prepared, Weights, Workshop
from spcli.pipeline.records import result_warnings, stored_counts
from spcli.points import PointCloud
from spcli.readers import StoredTensor
from spcli.rulebook import Rulebook
from spcli.sparse_tensor import SparseTensor

if TYPE_CHECKING:
    from spcli.config import Config


class RunResult(Struct, frozen=True):
    """What a network made of one scan.

    Attributes:
        network: the network, with every channel and shape known.
        frame: everything the engine brought back.
        counts: where the points went; None for a tensor that does not tell.
        batch_size: scans in the input.
        time_s: seconds by phase.
        warnings: what was odd about the scan, what was left out, and which layers are empty; a sentence each.
    """

    network: Network
    frame: Frame
    counts: ScanCounts | None
    batch_size: int
    time_s: dict[str, float]
    warnings: tuple[str, ...] = ()

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
        from spcli.stats import scan_stats

        return scan_stats(self.network, self.frame, self.counts, self.batch_size)


class Begun(Struct, frozen=True):
    """A scan that is in the engine."""

    network: Network
    runner: Runner
    ticket: int
    counts: ScanCounts | None
    batch_size: int
    prepare_s: float
    warnings: tuple[str, ...] = ()


class Runs:
    """Runs scan after scan; what was made ready for one is there for the next."""

    def __init__(self, config: Config, engine: Engine, want: Want, weights: Weights, graph: bool = True) -> None:
        self._config = config
        self._workshop = Workshop(config, engine, want, weights if want.values else None, graph)
        self._prepare_s = 0.0

    def prepare(self) -> None:
        """Make ready what does not depend on a scan, so that what is wrong with it is told before one is read.

        Raises:
            CheckpointError: the weights do not fit.
        """
        channels = self._config.network().in_channels
        if channels:
            self._ready_for(channels, None)

    def _ready_for(self, channels: int, shape: tuple[int, ...] | None) -> Prepared:
        started = perf_counter()
        ready = self._workshop.ready_for(channels, shape)
        self._prepare_s += perf_counter() - started
        return ready

    def begin(self, content: PointCloud | StoredTensor, source: str) -> Begun:
        """Hand points or a tensor to the engine.

        Raises:
            InputError: the scan does not suit the configuration.
            ConfigError: the network does not work for it, or points came and there is no `voxelize` section.
            CheckpointError: the weights do not fit.
        """
        if isinstance(content, StoredTensor):
            return structs.replace(self._begin_tensor(content, source), warnings=content.warnings)
        spec = self._config.voxelize
        if spec is None:
            message = f"is missing, and {source} holds points; add the section, or give voxels"
            raise ConfigError([Problem(message, "voxelize")], self._config.source)
        points = engine_points(content, spec)
        return structs.replace(self._submit(points, len(points.features), None), warnings=content.warnings)

    def _begin_tensor(self, stored: StoredTensor, source: str) -> Begun:
        spec = self._config.voxelize
        check_tensor(stored, spec, source)
        tensor = stored.tensor
        # A fixed range makes a network for one shape, which the tensor was just found to have.
        shape = tensor.spatial_shape if spec is None or spec.point_cloud_range is None else None
        begun = self._submit(tensor, tensor.features.shape[1], shape)
        return structs.replace(begun, counts=stored_counts(stored), batch_size=tensor.batch_size)

    def _submit(self, scan: Points | SparseTensor, channels: int, shape: tuple[int, ...] | None) -> Begun:
        ready = self._ready_for(channels, shape)
        prepare_s, self._prepare_s = self._prepare_s, 0.0
        return Begun(ready.network, ready.runner, ready.runner.submit(scan), None, 1, prepare_s)

    def finish(self, begun: Begun) -> RunResult:
        """Wait for the engine."""
        frame = begun.runner.result(begun.ticket)
        network = self._workshop.resolved(begun.network, frame)
        time_s = {"prepare": begun.prepare_s, **frame.time_s}
        warnings = (*begun.warnings, *result_warnings(self._config.voxelize, network, frame))
        return RunResult(network, frame, frame.scan or begun.counts, begun.batch_size, time_s, warnings)


def check_tensor(stored: StoredTensor, spec: VoxelSpec | None, source: str) -> None:
    """A tensor that was voxelized before must have been voxelized as the configuration says.

    Args:
        stored: the tensor and its file's `meta`; what the file does not tell is not compared.
        spec: the configuration's voxelization; None accepts every tensor.
        source: for messages.

    Raises:
        InputError: voxel size, range, shape or channels differ; gives both values.
    """
    if spec is None:
        return
    fixed = spec.point_cloud_range is not None
    channels = channel_names(spec)
    names = stored.meta.get("channels")
    pairs = [
        ("voxel size", stored.meta.get("voxel_size"), spec.voxel_size),
        ("range", stored.meta.get("point_cloud_range") if fixed else None, spec.point_cloud_range),
        ("spatial shape", stored.tensor.spatial_shape if fixed else None, fixed and fixed_grid(spec).spatial_shape),
        ("number of channels", stored.tensor.features.shape[1], channels and len(channels)),
        ("channels", names, channels),
    ]
    for what, have, want in pairs:
        if have and want and not _same(have, want):
            raise InputError(
                f"{source}: its {what} is {_shown(have)}, but the configuration's is {_shown(want)}; voxelize the scan "
                "again with this configuration, or change the configuration"
            )


def _same(have: object, want: object) -> bool:
    """Equality of two numbers, or of two sequences, numbers being rounded to float32 as the voxelizer does."""
    try:
        one, other = np.asarray(have), np.asarray(want)
    except ValueError:
        return False
    if one.dtype.kind in "iuf" and other.dtype.kind in "iuf":
        one, other = one.astype(np.float32), other.astype(np.float32)
    return bool(np.array_equal(one, other))


def _shown(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
