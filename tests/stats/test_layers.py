"""Statistics of networks small enough to count by hand: a row of cells, `. X X . X .`, in a grid of 1 x 6."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spcli.config import read_config
from spcli.engines.base import Want
from spcli.pipeline.run import run
from spcli.sparse_tensor import SparseTensor
from spcli.stats import summarize

LAYER_KEYS = [
    "name", "type", "indice_key", "in_channels", "out_channels", "in_sites", "out_sites", "in_spatial_shape",
    "out_spatial_shape", "in_density", "out_density", "dilation_ratio", "kernel_volume", "pairs", "pairs_per_offset",
    "pairs_per_output", "macs", "dense_macs", "mac_saving", "parameters", "bytes", "flop_per_byte",
    "pairs_per_output_histogram", "masks", "memory",
]  # fmt: skip


def row_of(*columns: int, batch_size: int = 1) -> SparseTensor:
    indices = np.array([[0, 0, x] for x in columns], np.int32).reshape(-1, 3)
    return SparseTensor(np.ones((len(columns), 2), np.float32), indices, (1, 6), batch_size)


def stats_of(layers: str, tensor: SparseTensor) -> dict:
    config = read_config(f"version: 1\nlayers:\n{layers}")
    return run(config, tensor, want=Want(rulebooks=True, values=False)).stats


SUBM = "  - {name: a, type: SubMConv2d, out_channels: 5, kernel_size: [1, 3], bias: true, norm: BatchNorm1d}\n"
DOWN = (
    "  - {name: d, type: SparseConv2d, out_channels: 3, kernel_size: [1, 3], stride: [1, 2], padding: [0, 1],"
    " bias: false, indice_key: k}\n"
)
UP = "  - {name: u, type: SparseInverseConv2d, out_channels: 2, kernel_size: [1, 3], bias: false, indice_key: k}\n"


def test_a_submanifold_layer_counts_its_pairs():
    """Sites 1, 2 and 4: each is its own centre, 1 and 2 are neighbours both ways: 1 + 3 + 1 pairs."""
    (layer,) = stats_of(SUBM, row_of(1, 2, 4))["layers"]
    assert list(layer) == LAYER_KEYS
    assert (layer["in_sites"], layer["out_sites"], layer["dilation_ratio"]) == (3, 3, 1)
    assert (layer["in_spatial_shape"], layer["in_density"]) == ([1, 6], 0.5)
    assert (layer["pairs"], layer["pairs_per_offset"]) == (5, [1, 3, 1])
    assert layer["pairs_per_output"] == {"mean": 5 / 3, "max": 2}
    assert layer["macs"] == 5 * 2 * 5
    assert layer["dense_macs"] == 6 * 3 * 2 * 5
    assert layer["mac_saving"] == 1 - 50 / 180
    # Weight 1 x 3 x 2 x 5, bias 5, norm weight and bias 5 each; running statistics do not count.
    assert layer["parameters"] == 30 + 5 + 10
    # Features in 3 x 2 and out 3 x 5, the weight's 30 values, 5 rules of two rows each.
    assert layer["bytes"] == 4 * (6 + 15 + 30) + 8 * 5


def test_a_strided_layer_and_its_inverse_count_the_same_pairs_from_either_end():
    """Outputs 0, 1, 2 look at cells -1 to 1, 1 to 3, 3 to 5: the pairs are 1-0, 1-1, 2-1 and 4-2.

    Output 1 has two of them, and so has input 1.
    """
    down, up = stats_of(DOWN + UP, row_of(1, 2, 4))["layers"]
    assert (down["out_sites"], down["out_spatial_shape"]) == (3, [1, 3])
    assert (down["pairs"], down["pairs_per_output"]["max"]) == (4, 2)
    assert (up["in_sites"], up["out_sites"], up["out_spatial_shape"]) == (3, 3, [1, 6])
    assert (up["pairs"], up["pairs_per_offset"]) == (4, down["pairs_per_offset"])
    assert up["pairs_per_output"] == {"mean": 4 / 3, "max": 2}
    assert up["dense_macs"] == 6 * 3 * 3 * 2


def test_the_most_pairs_of_an_inverse_output_are_those_of_its_forward_input():
    """One input under a kernel as wide as the grid feeds many outputs: the forward maximum is 1, the inverse one 3."""
    layers = (
        "  - {name: d, type: SparseConv2d, out_channels: 3, kernel_size: [1, 3], padding: [0, 1], indice_key: k}\n"
        "  - {name: u, type: SparseInverseConv2d, out_channels: 2, kernel_size: [1, 3], indice_key: k}\n"
    )
    down, up = stats_of(layers, row_of(3))["layers"]
    assert (down["pairs_per_output"]["max"], up["pairs_per_output"]["max"]) == (1, 3)


def test_a_linear_layer_has_a_pair_a_site_and_stores_no_rule():
    layers = "  - {name: l, type: Linear, in_channels: 2, out_channels: 4, bias: false}\n" + SUBM
    layer = stats_of(layers, row_of(1, 2, 4))["layers"][0]
    assert (layer["pairs"], layer["pairs_per_offset"], layer["kernel_volume"]) == (3, [3], 1)
    assert (layer["macs"], layer["dense_macs"]) == (3 * 2 * 4, 6 * 2 * 4)
    assert layer["bytes"] == 4 * (3 * 2 + 3 * 4 + 8)


def test_layers_without_weights_multiply_nothing():
    layers = SUBM + "  - {name: p, type: SparseMaxPool2d, kernel_size: [1, 2]}\n"
    pool = stats_of(layers, row_of(1, 2, 4))["layers"][1]
    assert (pool["pairs"], pool["macs"], pool["dense_macs"], pool["mac_saving"]) == (3, 0, 0, None)
    joined = stats_of(SUBM + "  - {name: c, type: Concat, inputs: [a, $input]}\n", row_of(1, 2, 4))["layers"][1]
    assert (joined["in_channels"], joined["out_channels"], joined["pairs"]) == (7, 7, 0)
    assert joined["pairs_per_output"] == {"mean": 0, "max": 0}


def test_an_empty_scan_has_no_ratios():
    stats = stats_of(SUBM + DOWN, row_of())
    layer = stats["layers"][0]
    assert (layer["pairs"], layer["macs"], layer["mac_saving"]) == (0, 0, 1)
    assert (layer["dilation_ratio"], layer["pairs_per_output"]) == (None, {"mean": None, "max": 0})
    assert stats["voxels"] == {"active": 0, "density": 0, "max_points_in_a_voxel": None}
    json.dumps(stats, allow_nan=False)


def test_a_batch_multiplies_what_a_dense_network_would_do():
    stats = stats_of(SUBM, row_of(1, batch_size=4))
    assert stats["batch_size"] == 4
    assert stats["voxels"]["density"] == 1 / 24
    assert stats["layers"][0]["dense_macs"] == 4 * 6 * 3 * 2 * 5


def test_totals_add_the_layers_up():
    stats = stats_of(SUBM + DOWN + UP, row_of(1, 2, 4))
    totals, layers = stats["totals"], stats["layers"]
    for name in ("pairs", "macs", "dense_macs", "parameters", "bytes"):
        assert totals[name] == sum(layer[name] for layer in layers)
    assert totals["layers"] == 3
    assert totals["mac_saving"] == 1 - totals["macs"] / totals["dense_macs"]


def test_a_summary_spreads_every_number_over_its_scans():
    summary = summarize([stats_of(SUBM, row_of(1, 2, 4)), stats_of(SUBM, row_of(1)), stats_of(SUBM, row_of())])
    (layer,) = summary["layers"]
    assert (summary["scans"], layer["name"], layer["scans"]) == (3, "a", 3)
    assert layer["pairs"] == {"mean": 2, "min": 0, "p50": 1, "p95": pytest.approx(4.6), "max": 5}
    assert layer["dilation_ratio"] == {"mean": 1, "min": 1, "p50": 1, "p95": 1, "max": 1}
    assert summary["voxels"]["active"] == {
        "mean": pytest.approx(4 / 3), "min": 0, "p50": 1, "p95": pytest.approx(2.8), "max": 3
    }  # fmt: skip
    assert layer["distinct_masks"]["max"] == 3
    assert summary["points"] == {}


def test_bytes_count_every_input_of_a_sum_and_a_residual():
    """Three sites of 5 channels: a sum of three reads them thrice, a residual once besides the layer's input."""
    layers = SUBM + (
        "  - {name: s, type: Add, inputs: [a, a, a]}\n"
        "  - {name: r, type: Linear, out_channels: 5, bias: false, add: a, norm: LayerNorm}\n"
    )
    _, total, residual = stats_of(layers, row_of(1, 2, 4))["layers"]
    assert total["bytes"] == 4 * (3 * 15 + 15)
    assert residual["bytes"] == 4 * (15 + 15 + 15 + 25)
