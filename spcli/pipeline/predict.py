"""What a network would cost, without running it: the index phase alone, for one voxel size or several.

Nothing is estimated. Sites and rules are built as a run builds them, and the rest follows from their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from spcli.config.convert import check_spec
from spcli.config.sections import voxelize_warnings
from spcli.engines.base import Engine, Want
from spcli.errors import ConfigError, UsageError
from spcli.pipeline.run import run
from spcli.pipeline.scans import ScanLike, as_scan
from spcli.pipeline.session import ConfigLike, RunResult, as_config
from spcli.readers import Columns, StoredTensor

SWEEP_SCHEMA = "spcli.sweep/1"
OF_TOTALS = ("pairs", "macs", "dense_macs", "mac_saving", "bytes")
OF_LAYERS = ("name", "out_sites", "out_density", "pairs", "macs", "bytes")

VoxelSize = tuple[float, float, float]


def predict(config: ConfigLike, scan: ScanLike, *, columns: Columns = None, device: str | Engine = "cpu") -> RunResult:
    """The index phase of `config` over one scan; its `stats` are those of a run, less what only the rules show.

    Rules are counted and not listed, so the histograms are left out, and the most pairs of one output of an inverse
    layer is None. Arguments and errors as `spcli.run`.
    """
    return run(config, scan, columns=columns, want=Want(values=False), device=device)


def sweep(
    config: ConfigLike,
    scan: ScanLike,
    sizes: Sequence[VoxelSize],
    *,
    columns: Columns = None,
    device: str | Engine = "cpu",
) -> Iterator[dict[str, Any]]:
    """One object (`spcli.sweep/1`) for each of `sizes`, in metres x, y, z, with all else as configured, the range too.

    What a network cannot do at a voxel size, such as a window that does not fit a smaller grid, is an object with
    `ok` false and the reason.

    Args:
        config: the network, with a `voxelize` section.
        scan: a path, "-" for standard input, or what `spcli.run` takes besides, but a tensor.
        sizes: the voxel sizes.
        columns: the file's columns by number or names.
        device: "cpu", "cuda", "auto", or an engine.

    Raises:
        InputError: the scan cannot be used.
        UsageError: the configuration has no `voxelize` section, or the scan is voxelized already.
    """
    config = as_config(config)
    if config.voxelize is None:
        raise UsageError(f"{config.source}: has no voxelize section, so there is no voxel size to change; add one")
    scan = as_scan(scan, columns or config.columns)
    if isinstance(scan.content, StoredTensor):
        raise UsageError(f"{scan.source}: is voxelized already; give the scan it came from")
    for size in sizes:
        start = {"schema": SWEEP_SCHEMA, "source": scan.source, "voxel_size": list(size)}
        try:
            spec = replace(config.voxelize, voxel_size=size)
            check_spec(spec)
            result = predict(structs.replace(config, voxelize=spec), scan, device=device)
            found = _costs(result, voxelize_warnings(spec))
        except ConfigError as error:
            found = {"ok": False, "error": "; ".join(map(str, error.problems))}
        except MemoryError:
            found = {"ok": False, "error": "needs more memory than there is; use larger voxels or a smaller range"}
        yield {**start, **found}


def _costs(result: RunResult, warnings: tuple[str, ...]) -> dict[str, Any]:
    """What of a prediction changes with the voxel size."""
    stats = result.stats
    totals = {name: stats["totals"][name] for name in OF_TOTALS}
    in_range = (stats["points"] or {}).get("in_range")
    return {
        "ok": True,
        "spatial_shape": stats["spatial_shape"],
        "sites": stats["voxels"]["active"],
        "density": stats["voxels"]["density"],
        "points_in_range": in_range,
        "max_points_in_a_voxel": stats["voxels"]["max_points_in_a_voxel"],
        **totals,
        "memory": stats["memory"],
        "layers": [{name: layer[name] for name in OF_LAYERS} for layer in stats["layers"]],
        "warnings": [*warnings, *result.warnings],
    }
