"""Sparse convolution on LiDAR point clouds: voxels, rulebooks, features and sparsity statistics.

Everything the commands do is a function here; names are imported when first used, so `import spcli` costs nothing.

    config = spcli.load_config("second-kitti")
    result = spcli.run(config, "scan.bin")
    result.features.indices, result.rulebooks["subm1"].in_rows, result.stats["totals"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spcli.config import Config as Config
    from spcli.config import load_config as load_config
    from spcli.config import load_preset as load_preset
    from spcli.config import preset_names as preset_names
    from spcli.engines import load_engine as load_engine
    from spcli.errors import SpcliError as SpcliError
    from spcli.geometry import ConvGeometry as ConvGeometry
    from spcli.grid import VoxelGrid as VoxelGrid
    from spcli.grid import VoxelSpec as VoxelSpec
    from spcli.network import build_network as build_network
    from spcli.pipeline import run as run
    from spcli.pipeline import voxelize as voxelize
    from spcli.points import PointCloud as PointCloud
    from spcli.readers import read as read
    from spcli.rulebook import Rulebook as Rulebook
    from spcli.sparse_tensor import SparseTensor as SparseTensor
    from spcli.weights import load_weights as load_weights
    from spcli.weights import save_weights as save_weights

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "ConvGeometry": "geometry",
    "PointCloud": "points",
    "Rulebook": "rulebook",
    "SparseTensor": "sparse_tensor",
    "SpcliError": "errors",
    "VoxelGrid": "grid",
    "VoxelSpec": "grid",
    "build_network": "network",
    "load_config": "config",
    "load_engine": "engines",
    "load_preset": "config",
    "load_weights": "weights",
    "preset_names": "config",
    "read": "readers",
    "run": "pipeline",
    "save_weights": "weights",
    "voxelize": "pipeline",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spcli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"spcli.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
