"""What is alive at once, by hand and against a runner that keeps count."""

from __future__ import annotations

import numpy as np
import pytest

from spcli.config import load_preset, read_config
from spcli.engines import load_engine
from spcli.engines.base import Want
from spcli.engines.eager import EagerRunner
from spcli.pipeline.run import run
from spcli.sample import street_scan
from spcli.sparse_tensor import SparseTensor
from spcli.weights import fold, initial_parameters


def tensor(*columns: int, channels: int = 2) -> SparseTensor:
    indices = np.array([[0, 0, x] for x in columns], np.int32).reshape(-1, 3)
    return SparseTensor(np.ones((len(columns), channels), np.float32), indices, (1, 6), 1)


def stats_of(layers: str, given: SparseTensor) -> dict:
    return run(read_config(f"version: 1\nlayers:\n{layers}"), given, want=Want(values=False)).stats


SUBM = "  - {name: a, type: SubMConv2d, out_channels: 5, kernel_size: [1, 3], bias: false, indice_key: k}\n"
AGAIN = "  - {name: b, type: SubMConv2d, out_channels: 4, kernel_size: [1, 3], bias: false, indice_key: k}\n"
JOIN = "  - {name: c, type: Concat, inputs: [b, a]}\n"


def test_a_chain_by_hand():
    """Three sites of 2, 5, 4 channels: layer a has 2 + 5 of them alive, layer b the input still and 5 + 4."""
    stats = stats_of(SUBM + AGAIN, tensor(1, 2, 4))
    first, second = (layer["memory"] for layer in stats["layers"])
    assert (first["feature_bytes"], second["feature_bytes"]) == (4 * 3 * 7, 4 * 3 * 11)
    # The five rules, and a table of three taps by three sites, are there once, for the layer that comes first.
    assert (first["rule_bytes"], first["table_bytes"], first["weight_bytes"]) == (8 * 5, 4 * 9, 4 * 30)
    assert (second["rule_bytes"], second["table_bytes"], second["weight_bytes"]) == (0, 0, 4 * 60)
    assert stats["memory"] == {
        "site_bytes": 4 * 3 * 3,
        "weight_bytes": 4 * 90,
        "rule_bytes": 40,
        "table_bytes": 36,
        "peak_feature_bytes": 132,
        "peak_layer": "b",
        "peak_bytes": 36 + 360 + 40 + 132,
    }


def test_two_keys_for_one_map_have_its_rules_once():
    other = AGAIN.replace("indice_key: k", "indice_key: l")
    stats = stats_of(SUBM + other, tensor(1, 2, 4))
    assert [layer["memory"]["rule_bytes"] for layer in stats["layers"]] == [40, 0]
    assert (stats["memory"]["rule_bytes"], stats["memory"]["table_bytes"]) == (40, 36)


def test_what_is_concatenated_lies_in_the_concatenation_from_the_start():
    """Nine columns hold a and b; the input is there besides."""
    layers = stats_of(SUBM + AGAIN + JOIN, tensor(1, 2, 4))["layers"]
    assert [layer["memory"]["feature_bytes"] for layer in layers] == [4 * 3 * 11] * 3


def test_a_dense_output_has_every_cell():
    layers = stats_of(SUBM + "  - {name: d, type: ToDense}\n", tensor(1, 2, 4))["layers"]
    assert layers[1]["memory"]["feature_bytes"] == 4 * (3 * 2 + 3 * 5 + 6 * 5)


def test_nothing_takes_the_weights_alone():
    memory = stats_of(SUBM, tensor())["memory"]
    assert (memory["peak_feature_bytes"], memory["peak_bytes"]) == (0, memory["weight_bytes"])


class Counting(EagerRunner):
    """Keeps count of the bytes in buffers."""

    def start(self, given: int) -> None:
        self.alive = self.most = given
        self.sizes: dict[int, int] = {}

    def allocate(self, slot, rows, channels):
        self.sizes[slot] = 4 * rows * channels
        self.alive += self.sizes[slot]
        self.most = max(self.most, self.alive)
        return super().allocate(slot, rows, channels)

    def release(self, slot):
        self.alive -= self.sizes[slot]


@pytest.mark.parametrize("preset", ["second-kitti", "minkunet-semantickitti"])
def test_the_peak_is_what_a_runner_that_keeps_count_has_in_buffers(preset):
    config = load_preset(preset)
    result = run(config, street_scan(3, 1500), want=Want(values=False))
    network = result.network
    runner = Counting(load_engine("cpu"), network.program, fold(network, initial_parameters(network, 0)),
                      Want((network.program.output,)))  # fmt: skip
    sites = result.frame.sites[0]
    features = np.ones((sites, network.in_channels), np.float32)
    rulebooks = run(config, street_scan(3, 1500), want=Want(rulebooks=True, values=False)).rulebooks
    key = network.program.keys[0].key
    runner.start(features.nbytes)
    runner.compute(SparseTensor(features, rulebooks[key].in_indices, result.frame.shapes[0], 1))
    assert result.stats["memory"]["peak_feature_bytes"] == runner.most
