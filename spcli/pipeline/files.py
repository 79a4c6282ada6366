"""How what a scan gave is written: a function of the target for each kind of output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from spcli.pipeline.meta import features_meta, rulebooks_meta
from spcli.pipeline.session import RunResult
from spcli.readers import Scan
from spcli.sparse_tensor import SparseTensor
from spcli.writers import Target, write_features, write_rulebooks, write_stats, write_voxels

Write = Callable[[Target], None]


def run_files(
    kinds: Iterable[str], result: RunResult, scan: Scan, dtype: str = "float32", compress: bool = False
) -> dict[str, Write]:
    """The files of a run: `features`, `features.<layer>`, `rulebooks` and `stats`, those of `kinds`.

    Args:
        kinds: what is written.
        result: what the network made of `scan`.
        scan: the scan, for `meta`.
        dtype: float16 features are stored as such.
        compress: deflate npz files.
    """
    return {kind: _run_file(kind, result, scan, dtype, compress) for kind in kinds}


def _run_file(kind: str, result: RunResult, scan: Scan, dtype: str, compress: bool) -> Write:
    network, frame = result.network, result.frame
    if kind == "stats":
        return partial(write_stats, stats=result.stats)
    if kind == "rulebooks":
        meta = rulebooks_meta(scan, network, frame.grid)
        return partial(
            write_rulebooks, keys=network.program.keys, rulebooks=frame.rulebooks, meta=meta, compress=compress
        )
    name = kind.partition(".")[2] or network.program.output
    layer = next(layer for layer in network.layers if layer.name == name)
    meta = features_meta(scan, network, layer, frame.grid, frame.outputs[name].features.shape[1])
    return partial(write_features, tensor=frame.outputs[name], meta=meta, dtype=dtype, compress=compress)


def voxels_file(
    tensor: SparseTensor, arrays: Mapping[str, Any], meta: Mapping[str, Any], compress: bool
) -> dict[str, Write]:
    """The file of voxels; `arrays` are further ones by name, None being none."""
    return {"voxels": partial(write_voxels, tensor=tensor, extras=arrays, meta=meta, compress=compress)}
