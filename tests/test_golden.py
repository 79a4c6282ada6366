"""Reference values made by others: spconv's layers, its voxelizer's cloud, and rule counts of four real scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oracle
from contract import tuples
from spcli.engines.base import Epilogue, LayerParameters, Points, download_voxels
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.grid import VoxelSpec

SMALL = np.load(Path(__file__).parent / "golden" / "spconv_small.npz", allow_pickle=False)
CASES = {case["name"]: case for case in json.loads(str(SMALL["meta"]))["cases"]}
SCANS = ("kitti_000000_full.bin", "kitti_000008_front.bin", "nuscenes_single_sweep.bin", "ouster_os1_128.bin")


def geometry_of(case: dict[str, Any]) -> ConvGeometry:
    """The geometry of a case of spconv_small.npz; an inverse has its forward layer's."""
    if "forward" in case:
        return geometry_of(CASES[case["forward"]])
    ndim = len(case["kernel_size"])
    kernel, stride, padding, dilation = (
        tuple(case.get(name, [default] * ndim))
        for name, default in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1))
    )
    if case["layer"] == "SubMConv":
        return submanifold_geometry(kernel, dilation)
    if case["layer"] == "SparseConvTranspose":
        return ConvGeometry(kernel, stride, padding, dilation, (0,) * ndim, transposed=True)
    return regular_geometry(kernel, stride, padding, dilation)


def small(name: str, part: str, dtype: Any = np.float32) -> np.ndarray:
    return SMALL[f"{name}/{part}"].astype(dtype)


def input_of(case: dict[str, Any]) -> np.ndarray:
    """Features of the input; spconv's CPU maximum starts from 0, so what was pooled was not negative."""
    features = small(f"input{len(case['kernel_size'])}", "features")
    return np.abs(features) if case["layer"] == "SparseMaxPool" else features


@pytest.mark.parametrize("name", CASES)
def test_every_layer_gives_what_spconv_gives(engine: Any, name: str) -> None:
    case, ndim = CASES[name], len(CASES[name]["kernel_size"])
    source = engine.sites(small(f"input{ndim}", "indices", np.int32), (9, 8, 7)[3 - ndim :], 2)
    rows = engine.upload(input_of(case))
    forward = engine.build(source, geometry_of(case))
    if "forward" in case:
        packed = engine.pack(LayerParameters(small(name, "forward_weight")))
        rows = engine.convolve(rows, forward, packed, Epilogue())
        forward = engine.invert(forward)
    if case["layer"] == "SparseMaxPool":
        result = engine.pool(rows, forward, "max")
    else:
        result = engine.convolve(rows, forward, engine.pack(LayerParameters(small(name, "weight"))), Epilogue())
    np.testing.assert_array_equal(engine.indices(forward.outputs), small(name, "indices", np.int32))
    np.testing.assert_array_equal(engine.download(result), small(name, "features"))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["layer"] != "SparseInverseConv"])
def test_the_oracle_gives_what_spconv_gives(name: str) -> None:
    case, ndim = CASES[name], len(CASES[name]["kernel_size"])
    sites, features = tuples(small(f"input{ndim}", "indices", int)), input_of(case)
    rules = oracle.rules_of(sites, (9, 8, 7)[3 - ndim :], geometry_of(case))
    assert rules.out_sites == tuples(small(name, "indices", int))
    pool = case["layer"] == "SparseMaxPool"
    result = oracle.max_pool(features, rules) if pool else oracle.convolve(features, rules, small(name, "weight"))
    np.testing.assert_array_equal(result, small(name, "features"))


def test_spconvs_voxelizer_cloud(engine: Any, shared: Path) -> None:
    """198,130 points of spconv's own tests; `features` holds each voxel's first point."""
    golden = np.load(shared / "vectors" / "voxelizer_spconv.npz", allow_pickle=False)
    size, limits = (tuple(float(str(n)) for n in golden[name]) for name in ("voxel_size", "point_cloud_range"))
    points = Points(golden["points"], (0, 1, 2), (0, 1, 2))
    voxels = engine.voxelize(points, VoxelSpec(size, limits, reduce="first"))
    scan = download_voxels(engine, voxels)
    assert scan.tensor.spatial_shape == tuple(golden["spatial_shape"].tolist())
    np.testing.assert_array_equal(scan.tensor.indices, golden["indices"])
    np.testing.assert_array_equal(scan.tensor.features, golden["features"])
    np.testing.assert_array_equal(scan.num_points, golden["num_points_in_voxel"])


def second_backbone() -> dict[str, ConvGeometry]:
    """The rulebooks of OpenPCDet's VoxelBackBone8x, by indice_key."""
    cube, ones, twos = (3, 3, 3), (1, 1, 1), (2, 2, 2)
    subm = submanifold_geometry(cube, ones)
    return {
        "subm1": subm,
        "spconv2": regular_geometry(cube, twos, ones, ones),
        "subm2": subm,
        "spconv3": regular_geometry(cube, twos, ones, ones),
        "subm3": subm,
        "spconv4": regular_geometry(cube, twos, (0, 1, 1), ones),
        "subm4": subm,
        "spconv_down2": regular_geometry((3, 1, 1), (2, 1, 1), (0, 0, 0), ones),
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.endswith("_front.bin") else pytest.mark.soak) for name in SCANS]
)
def test_rule_counts_of_real_scans(engine: Any, shared: Path, name: str) -> None:
    """No caps; every count was found by an independent program and agrees with spconv."""
    table = json.loads((shared / "vectors" / "rulebook_counts.json").read_text(encoding="utf-8"))
    golden = next(entry for entry in table if entry["file"] == name)
    values = np.fromfile(shared / "data" / name, np.float32).reshape(-1, golden["columns"])
    spec = VoxelSpec(
        tuple(golden["voxel"]), tuple(golden["range"]), spatial_shape_extra=tuple(golden["spatial_shape_extra"])
    )
    voxels = engine.voxelize(Points(values, (0, 1, 2), tuple(range(golden["columns"]))), spec)
    assert voxels.counts.points.read == golden["points"]
    assert voxels.counts.points.in_range == golden["in_range"]
    assert voxels.counts.voxels.active == golden["voxels"]
    assert voxels.counts.voxels.max_points_in_a_voxel == golden["max_points_in_a_voxel"]
    assert voxels.grid.cells == tuple(golden["grid_zyx"])
    sites = voxels.sites
    assert list(second_backbone()) == [level["layer"] for level in golden["layers"]]
    for level, geometry in zip(golden["layers"], second_backbone().values(), strict=True):
        built = engine.build(sites, geometry)
        rules = engine.rulebook(built)
        assert list(rules.out_spatial_shape) == level["shape"]
        assert len(rules.out_indices) == level["n_out"]
        assert np.diff(rules.pair_splits).tolist() == level["per_offset"]
        assert len(rules.in_rows) == level["pairs"]
        sites = built.outputs
