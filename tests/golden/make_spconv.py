"""Writes spconv_small.npz: what spconv's CPU layers give on a small batch, for test_golden.py.

    pip install spconv torch && python tests/golden/make_spconv.py

All numbers are whole, so that every implementation must give the same ones. spconv's rows come in hash order and are
sorted here; one thread, because its CPU scatter races on more. Its CPU maximum starts from 0 instead of from the
window's sites, so what is pooled here is not negative.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import spconv
import spconv.pytorch as peer
import torch

CASES: list[dict[str, Any]] = [
    {"name": "subm3", "layer": "SubMConv", "kernel_size": [3, 3, 3]},
    {"name": "subm5_wrong_padding", "layer": "SubMConv", "kernel_size": [5, 5, 5], "padding": [1, 1, 1]},
    {"name": "subm3_dilated", "layer": "SubMConv", "kernel_size": [3, 3, 3], "dilation": [2, 2, 2]},
    {"name": "subm_mixed", "layer": "SubMConv", "kernel_size": [3, 1, 5]},
    {"name": "down3", "layer": "SparseConv", "kernel_size": [3, 3, 3], "stride": [2, 2, 2], "padding": [1, 1, 1]},
    {"name": "down2", "layer": "SparseConv", "kernel_size": [2, 2, 2], "stride": [2, 2, 2]},
    {"name": "down_z", "layer": "SparseConv", "kernel_size": [3, 1, 1], "stride": [2, 1, 1]},
    {"name": "last_pad", "layer": "SparseConv", "kernel_size": [3, 3, 3], "stride": [2, 2, 2], "padding": [0, 1, 1]},
    {"name": "even4", "layer": "SparseConv", "kernel_size": [4, 4, 4], "stride": [2, 2, 2], "padding": [1, 1, 1]},
    {"name": "stride3", "layer": "SparseConv", "kernel_size": [3, 2, 1], "stride": [3, 3, 2], "padding": [2, 0, 0],
     "dilation": [2, 1, 1]},
    {"name": "inverse3", "layer": "SparseInverseConv", "forward": "down3"},
    {"name": "inverse2", "layer": "SparseInverseConv", "forward": "down2"},
    {"name": "up2", "layer": "SparseConvTranspose", "kernel_size": [2, 2, 2], "stride": [2, 2, 2]},
    {"name": "up3", "layer": "SparseConvTranspose", "kernel_size": [3, 3, 3], "stride": [2, 2, 2],
     "padding": [1, 1, 1]},
    {"name": "max2", "layer": "SparseMaxPool", "kernel_size": [2, 2, 2], "stride": [2, 2, 2]},
    {"name": "max3", "layer": "SparseMaxPool", "kernel_size": [3, 3, 3], "stride": [2, 2, 2], "padding": [1, 1, 1]},
    {"name": "plane3", "layer": "SubMConv", "kernel_size": [3, 3]},
    {"name": "plane_down", "layer": "SparseConv", "kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]},
]  # fmt: skip
IN_CHANNELS, OUT_CHANNELS = 3, 5


def sites(rng: np.random.Generator, ndim: int) -> np.ndarray:
    """About 100 of a batch of two in a grid of 9, 8 and 7 (a plane: 8 and 7), sorted."""
    shape = (9, 8, 7)[3 - ndim :]
    cells = np.column_stack([rng.integers(0, 2, 110), *(rng.integers(0, n, 110) for n in shape)])
    return np.unique(cells, axis=0).astype(np.int32)


def tensor(indices: np.ndarray, features: np.ndarray) -> peer.SparseConvTensor:
    """spconv's own tensor."""
    shape = [9, 8, 7][4 - indices.shape[1] :]
    return peer.SparseConvTensor(torch.from_numpy(features), torch.from_numpy(indices), shape, 2)


def layer(case: dict[str, Any], ndim: int) -> torch.nn.Module:
    """spconv's layer of a case, without bias."""
    sizes = [case.get(name, [default] * ndim) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))]
    kind = getattr(peer, f"{case['layer']}{ndim}d")
    if case["layer"] == "SparseMaxPool":
        return kind(case["kernel_size"], *sizes)
    if case["layer"] == "SparseInverseConv":
        return kind(OUT_CHANNELS, IN_CHANNELS, case["kernel_size"], indice_key="forward", bias=False)
    return kind(IN_CHANNELS, OUT_CHANNELS, case["kernel_size"], *sizes, bias=False, indice_key="forward")


def whole(rng: np.random.Generator, module: torch.nn.Module) -> np.ndarray | None:
    """Gives a layer whole-number weights, and returns them."""
    if not hasattr(module, "weight"):
        return None
    weight = rng.integers(-3, 4, tuple(module.weight.shape)).astype(np.float32)
    module.weight.data = torch.from_numpy(weight)
    return weight


def compute(case: dict[str, Any], rng: np.random.Generator, inputs: dict[int, tuple[np.ndarray, np.ndarray]]) -> Any:
    """(indices, features, weight, forward weight) of a case, rows sorted."""
    first = next(other for other in CASES if other["name"] == case["forward"]) if "forward" in case else case
    case["kernel_size"] = first["kernel_size"]
    ndim = len(case["kernel_size"])
    indices, features = inputs[ndim]
    value = tensor(indices, np.abs(features) if case["layer"] == "SparseMaxPool" else features)
    forward_weight = None
    with torch.no_grad():
        if first is not case:
            module = layer(first, ndim).eval()
            forward_weight = whole(rng, module)
            value = module(value)
        module = layer(case, ndim).eval()
        weight = whole(rng, module)
        value = module(value)
    indices = value.indices.numpy()
    order = np.lexsort(indices.T[::-1])
    return indices[order], value.features.numpy()[order], weight, forward_weight


def main() -> None:
    """Compute every case and write the file beside this script."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    inputs = {ndim: sites(rng, ndim) for ndim in (2, 3)}
    inputs = {n: (i, rng.integers(-4, 5, (len(i), IN_CHANNELS)).astype(np.float32)) for n, i in inputs.items()}
    arrays: dict[str, np.ndarray] = {}
    for ndim, (indices, features) in inputs.items():
        arrays |= {f"input{ndim}/indices": indices.astype(np.int8), f"input{ndim}/features": features.astype(np.int8)}
    for case in CASES:
        indices, features, weight, forward_weight = compute(case, rng, inputs)
        assert (features == np.round(features)).all()
        arrays[f"{case['name']}/indices"] = indices.astype(np.int8)
        arrays[f"{case['name']}/features"] = features.astype(np.int32)
        if weight is not None:
            arrays[f"{case['name']}/weight"] = weight.astype(np.int8)
        if forward_weight is not None:
            arrays[f"{case['name']}/forward_weight"] = forward_weight.astype(np.int8)
    arrays["meta"] = np.array(json.dumps({"spconv": spconv.__version__, "cases": CASES}))
    np.savez_compressed(Path(__file__).with_name("spconv_small.npz"), **arrays)


if __name__ == "__main__":
    main()
