"""Sparse convolution on LiDAR point clouds: voxels, rulebooks, features and sparsity statistics.

What the commands do to a scan is a function here; names are imported when first used, so `import spcli` costs nothing.

    config = spcli.load_config("second-kitti")
    result = spcli.run(config, "scan.bin")
    result.features.indices, result.rulebooks["subm1"].in_rows, result.stats["totals"], result.warnings

    result = spcli.run(config, points, columns=("x", "y", "z", "intensity"), weights="net.npz", layers=("conv3",))
    result.outputs["conv3"].features
    spcli.write_rulebooks("a.rulebooks.npz", result.network.program.keys, result.rulebooks, {})
    spcli.load_rulebooks("a.rulebooks.npz")["subm1"].pair_splits

    spcli.predict(config, "scan.bin").stats["memory"]["peak_bytes"]
    [row["macs"] for row in spcli.sweep(config, "scan.bin", [(0.05, 0.05, 0.1), (0.1, 0.1, 0.1)])]

`weights` is a file, arrays by name (`load_weights`, `initial_parameters`) or a seed. `voxelize` takes a `VoxelSpec`,
`describe_file` tells what a file holds, `street_scan` makes one up. `verify_rulebook` checks every invariant of a
rulebook, `diff_rulebooks` compares two runs', `Explainer` writes out the sum behind one output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spcli.config import Config as Config
    from spcli.config import load_config as load_config
    from spcli.config import load_preset as load_preset
    from spcli.config import preset_names as preset_names
    from spcli.describe import describe_file as describe_file
    from spcli.engines import load_engine as load_engine
    from spcli.engines.base import Want as Want
    from spcli.errors import SpcliError as SpcliError
    from spcli.export import site_cloud as site_cloud
    from spcli.export import write_cloud as write_cloud
    from spcli.geometry import ConvGeometry as ConvGeometry
    from spcli.grid import FeatureColumn as FeatureColumn
    from spcli.grid import VoxelGrid as VoxelGrid
    from spcli.grid import VoxelSpec as VoxelSpec
    from spcli.inspect import load_rulebooks as load_rulebooks
    from spcli.inspect.diff import diff_rulebooks as diff_rulebooks
    from spcli.inspect.verify import verify_rulebook as verify_rulebook
    from spcli.lowering import build_network as build_network
    from spcli.pipeline import run as run
    from spcli.pipeline import voxelize as voxelize
    from spcli.pipeline.explain import Explainer as Explainer
    from spcli.pipeline.predict import predict as predict
    from spcli.pipeline.predict import sweep as sweep
    from spcli.pipeline.prepare import Weights as Weights
    from spcli.pipeline.session import RunResult as RunResult
    from spcli.plot import plot_layers as plot_layers
    from spcli.plot import plot_rulebook as plot_rulebook
    from spcli.plot import plot_sites as plot_sites
    from spcli.plot import plot_sweep as plot_sweep
    from spcli.points import PointCloud as PointCloud
    from spcli.readers import find_scans as find_scans
    from spcli.readers import read as read
    from spcli.report import read_run as read_run
    from spcli.report import report_contents as report_contents
    from spcli.report import write_report as write_report
    from spcli.rulebook import Rulebook as Rulebook
    from spcli.sample import street_scan as street_scan
    from spcli.sparse_tensor import SparseTensor as SparseTensor
    from spcli.stats import summarize as summarize
    from spcli.weights import initial_parameters as initial_parameters
    from spcli.weights import load_weights as load_weights
    from spcli.weights import save_weights as save_weights
    from spcli.writers import write_features as write_features
    from spcli.writers import write_rulebooks as write_rulebooks
    from spcli.writers import write_stats as write_stats
    from spcli.writers import write_voxels as write_voxels

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "ConvGeometry": "geometry",
    "Explainer": "pipeline.explain",
    "FeatureColumn": "grid",
    "PointCloud": "points",
    "Rulebook": "rulebook",
    "RunResult": "pipeline.session",
    "SparseTensor": "sparse_tensor",
    "SpcliError": "errors",
    "VoxelGrid": "grid",
    "VoxelSpec": "grid",
    "Want": "engines.base",
    "Weights": "pipeline.prepare",
    "build_network": "lowering",
    "describe_file": "describe",
    "diff_rulebooks": "inspect.diff",
    "find_scans": "readers",
    "initial_parameters": "weights",
    "load_config": "config",
    "load_engine": "engines",
    "load_preset": "config",
    "load_rulebooks": "inspect",
    "load_weights": "weights",
    "predict": "pipeline.predict",
    "plot_layers": "plot",
    "plot_rulebook": "plot",
    "plot_sites": "plot",
    "plot_sweep": "plot",
    "preset_names": "config",
    "read": "readers",
    "read_run": "report",
    "report_contents": "report",
    "run": "pipeline",
    "save_weights": "weights",
    "site_cloud": "export",
    "street_scan": "sample",
    "summarize": "stats",
    "sweep": "pipeline.predict",
    "verify_rulebook": "inspect.verify",
    "voxelize": "pipeline",
    "write_cloud": "export",
    "write_features": "writers",
    "write_report": "report",
    "write_rulebooks": "writers",
    "write_stats": "writers",
    "write_voxels": "writers",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spcli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"spcli.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
