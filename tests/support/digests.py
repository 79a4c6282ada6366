"""Prints, as one JSON object, digests of what the CPU engine computes on 1, 2 and 3 threads, and its errors.

Run as a script so that the instruction set can be chosen with SPCLI_ISA before the library is loaded.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import oracle
from contract import scene, scene_rules
from spcli.engines import load_engine
from spcli.engines.base import Epilogue, LayerParameters, Points, Want, download_voxels
from spcli.engines.cpu import describe, set_threads
from spcli.geometry import submanifold_geometry
from spcli.grid import VoxelSpec
from spcli.program import Activation
from spcli.sparse_tensor import SparseTensor
from strategies import CHANNELS, real_features

CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
SCENE = (50, 2500, (12, 50, 45), 2)
SPEC = VoxelSpec((0.2, 0.2, 0.4), (-40, -40, -2, 40, 40, 2), max_points=3, max_voxels=5000)


def digest(*arrays: np.ndarray) -> str:
    """Of the arrays' bytes."""
    total = sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def voxelized(engine: Any) -> str:
    """A scan of 20,000 points with both caps."""
    values = (np.random.default_rng(1).normal(0, 12, (20_000, 4)) * (1, 1, 0.1, 1)).astype(np.float32)
    voxels = engine.voxelize(Points(values, (0, 1, 2), (0, 1, 2, 3)), SPEC, point_map=True, hard=True)
    scan = download_voxels(engine, voxels)
    assert scan.point_rows is not None and scan.points is not None
    return digest(scan.tensor.indices, scan.tensor.features, scan.num_points, scan.point_rows, scan.points)


def convolved(engine: Any, in_channels: int, out_channels: int, kind: Any = "gelu") -> tuple[str, float]:
    """One layer's digest and its relative error (L2) against float64."""
    tensor, rng = scene(*SCENE), np.random.default_rng(in_channels * 1000 + out_channels)
    weight = rng.standard_normal((out_channels, 3, 3, 3, in_channels)).astype(np.float32)
    scale, shift = rng.uniform(0.5, 2, out_channels), rng.normal(0, 0.5, out_channels)
    features, add = (real_features(n, len(tensor.indices), n) for n in (in_channels, out_channels))
    source = engine.build(engine.sites(tensor.indices, tensor.spatial_shape, tensor.batch_size), CUBE3)
    packed = engine.pack(LayerParameters(weight, scale, shift))
    epilogue = Epilogue(engine.upload(add), Activation(kind))
    result = engine.download(engine.convolve(engine.upload(features), source, packed, epilogue))
    rows = oracle.convolve(features, scene_rules(CUBE3, *SCENE), weight) * scale + shift + add
    expected = oracle.activate(rows, kind)
    return digest(result), float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


def network(engine: Any) -> str:
    """Every layer of a U-Net, and its rules."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engines"))
    from test_program import everything, u_net

    base = scene(*SCENE)
    features = real_features(9, len(base.indices), 4)
    tensor = SparseTensor(features, base.indices, base.spatial_shape, base.batch_size)
    builder = u_net(tensor)
    runner = engine.compile(builder.program(), builder.parameters, Want(everything(builder).layers, rulebooks=True))
    frame = runner.result(runner.submit(tensor))
    rules = [part for book in frame.rulebooks.values() for part in (book.in_rows, book.out_rows, book.out_indices)]
    return digest(*(output.features for output in frame.outputs.values()), *rules)


def main() -> None:
    """Everything on every number of threads."""
    engine = load_engine("cpu")
    by_threads, worst = {}, 0.0
    for threads in (1, 2, 3):
        set_threads(threads)
        digests = {"voxels": voxelized(engine), "network": network(engine)}
        for in_channels, out_channels in [*zip(CHANNELS, reversed(CHANNELS), strict=True), (64, 64), (256, 96)]:
            digests[f"{in_channels} to {out_channels}"], error = convolved(engine, in_channels, out_channels)
            worst = max(worst, error)
        by_threads[threads] = digests
    print(json.dumps({"isa": describe()[0], "threads": by_threads, "worst_error": worst}))


if __name__ == "__main__":
    main()
