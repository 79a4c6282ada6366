"""What each layer type is called, takes, holds and becomes."""

from __future__ import annotations

from math import prod
from typing import Any

import msgspec
import pytest

from spcli import program as ops
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.layers import LAYERS, Layer
from spcli.layers.base import GELU, BatchNorm1d, LayerNorm, LeakyReLU, ReLU, activation_of, norm_of
from spcli.lowering import build_network
from spcli.network import Network

CHANNELS = 4


def make(kind: str, name: str = "x", **keys: Any) -> Layer:
    return msgspec.convert({"type": kind, "name": name, **keys}, LAYERS[kind])


def network_of(*layers: Layer, shape: tuple[int, ...] = (8, 9, 10)) -> Network:
    return build_network(layers, None, CHANNELS, shape)


def geometry_of(layer: Layer, ndim: int) -> ConvGeometry:
    network = network_of(layer, shape=(8, 9, 10)[3 - ndim :])
    (build,) = network.program.index_ops
    assert isinstance(build, ops.BuildMap)
    return build.geometry


def test_the_table_holds_the_types_of_the_contract_under_spconvs_names() -> None:
    both = ("SubMConv", "SparseConv", "SparseInverseConv", "SparseConvTranspose", "SparseMaxPool", "SparseAvgPool")
    others = ("Linear", "Concat", "Add", "ChannelReduction", "HeightCompression", "ToDense")
    pools = ("SparseGlobalMaxPool", "SparseGlobalAvgPool")
    assert set(LAYERS) == {f"{stem}{ndim}d" for stem in both for ndim in (2, 3)} | set(others) | set(pools)


@pytest.mark.parametrize("kind", LAYERS)
def test_every_type_says_its_name_and_refuses_keys_it_does_not_have(kind: str) -> None:
    assert LAYERS[kind].__struct_config__.tag == kind
    with pytest.raises(msgspec.ValidationError, match=r"unknown field|missing required"):
        make(kind, no_such_key=1)


def test_defaults_apply_to_convolutions_and_linear_only() -> None:
    taking = {name for name, layer in LAYERS.items() if layer.takes_defaults}
    assert taking == {name for name in LAYERS if "Conv" in name} | {"Linear"}


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_integer_size_stands_for_every_axis_and_spconvs_defaults_hold(ndim: int) -> None:
    ones, zeros = (1,) * ndim, (0,) * ndim
    geometry = geometry_of(make(f"SparseConv{ndim}d", out_channels=2, kernel_size=3), ndim)
    assert geometry == regular_geometry((3,) * ndim, ones, zeros, ones)


def test_a_list_of_sizes_is_in_z_y_x_order() -> None:
    layer = make("SparseConv3d", out_channels=2, kernel_size=[3, 1, 2], stride=[2, 1, 1], padding=[1, 0, 0], dilation=2)
    assert geometry_of(layer, 3) == regular_geometry((3, 1, 2), (2, 1, 1), (1, 0, 0), (2, 2, 2))


@pytest.mark.parametrize("padding", [0, 1, 5])
def test_submanifold_padding_is_centred_whatever_a_file_says(padding: int) -> None:
    layer = make("SubMConv3d", out_channels=2, kernel_size=[5, 3, 1], dilation=[1, 2, 1], padding=padding)
    geometry = geometry_of(layer, 3)
    assert geometry == submanifold_geometry((5, 3, 1), (1, 2, 1))
    assert geometry.padding == (2, 2, 0)


def test_transposed_convolution_swaps_the_ends_and_takes_output_padding() -> None:
    layer = make("SparseConvTranspose2d", out_channels=2, kernel_size=3, stride=2, padding=1, output_padding=1)
    assert geometry_of(layer, 2) == ConvGeometry((3, 3), (2, 2), (1, 1), (1, 1), (1, 1), transposed=True)


def test_a_1x1_convolution_with_stride_1_keeps_its_sites() -> None:
    network = network_of(make("SparseConv3d", out_channels=2, kernel_size=1))
    assert (network.layers[0].in_sites, network.layers[0].out_sites) == (0, 0)
    strided = network_of(make("SparseConv3d", out_channels=2, kernel_size=1, stride=2))
    assert (strided.layers[0].in_sites, strided.layers[0].out_sites) == (0, 1)


@pytest.mark.parametrize("kind", ["SparseMaxPool3d", "SparseAvgPool3d"])
def test_pooling_stride_is_the_kernels_size_unless_given(kind: str) -> None:
    assert geometry_of(make(kind, kernel_size=[2, 3, 1]), 3).stride == (2, 3, 1)
    assert geometry_of(make(kind, kernel_size=3, stride=1), 3).stride == (1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "reduce"),
    [("SparseMaxPool3d", "max"), ("SparseAvgPool3d", "mean"), ("SparseMaxPool2d", "max"), ("SparseAvgPool2d", "mean")],
)
def test_pooling_keeps_the_channels(kind: str, reduce: str) -> None:
    network = network_of(make(kind, kernel_size=2), shape=(8, 8, 8)[: int(kind[-2])])
    assert network.program.value_ops == (ops.Pool(0, 0, 1, reduce),)  # type: ignore[arg-type]
    assert network.program.values[1] == ops.Value(1, CHANNELS)


@pytest.mark.parametrize(("kind", "reduce"), [("SparseGlobalMaxPool", "max"), ("SparseGlobalAvgPool", "mean")])
def test_global_pools_have_one_row_a_scan(kind: str, reduce: str) -> None:
    network = network_of(make(kind))
    assert network.program.index_ops == (ops.GlobalSites(0, 1),)
    assert network.program.value_ops == (ops.GlobalPool(0, 1, reduce),)  # type: ignore[arg-type]
    assert network.shapes == ((8, 9, 10), ())


BATCH_NORM = ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]


@pytest.mark.parametrize(
    ("keys", "suffixes"),
    [
        ({}, ["weight", "bias"]),
        ({"bias": False}, ["weight"]),
        ({"norm": "BatchNorm1d"}, ["weight", "bias", *BATCH_NORM]),
        ({"norm": "BatchNorm1d", "bias": False}, ["weight", *BATCH_NORM]),
        ({"norm": {"type": "LayerNorm", "eps": 1e-6}}, ["weight", "bias", "norm.weight", "norm.bias"]),
    ],
)
def test_parameters_are_listed_in_drawing_order(keys: dict[str, Any], suffixes: list[str]) -> None:
    layer = make("SubMConv3d", out_channels=6, kernel_size=[3, 1, 5], **keys)
    shapes = network_of(layer).layers[0].parameters
    assert list(shapes) == [f"x.{suffix}" for suffix in suffixes]
    assert shapes.pop("x.weight") == (6, 3, 1, 5, CHANNELS)
    assert set(shapes.values()) <= {(6,)}


@pytest.mark.parametrize("kind", [name for name in LAYERS if "Conv" in name and "Inverse" not in name])
def test_weights_are_cout_kernel_cin_for_every_convolution(kind: str) -> None:
    ndim = int(kind[-2])
    layer = make(kind, out_channels=6, kernel_size=3)
    info = network_of(layer, shape=(8, 8, 8)[:ndim]).layers[0]
    assert info.parameters["x.weight"] == (6, *[3] * ndim, CHANNELS)
    assert info.kernel_volume == 3**ndim


def test_an_inverse_layer_has_its_own_channels_on_either_side() -> None:
    down = make("SparseConv3d", "down", out_channels=6, kernel_size=2, stride=2, indice_key="k")
    up = make("SparseInverseConv3d", "up", out_channels=5, kernel_size=2, indice_key="k")
    network = network_of(down, up)
    assert network.layers[1].parameters["up.weight"] == (5, 2, 2, 2, 6)
    assert network.program.index_ops[1] == ops.InvertMap(0, 1)
    assert (network.layers[1].in_sites, network.layers[1].out_sites) == (1, 0)


def test_linear_is_a_product_without_a_map() -> None:
    network = network_of(make("Linear", out_channels=6, bias=False))
    assert network.program.index_ops == ()
    assert network.program.value_ops == (ops.Convolve(None, 0, 1, "x"),)
    assert network.layers[0].parameters == {"x.weight": (6, CHANNELS)}
    assert (network.layers[0].kernel_volume, network.layers[0].key) == (1, None)


def test_batch_norm_add_and_activation_go_into_the_convolution() -> None:
    first = make("SubMConv3d", "a", out_channels=6, kernel_size=3)
    keys = {"norm": "BatchNorm1d", "add": "a", "activation": "ReLU"}
    second = make("SubMConv3d", "b", out_channels=6, kernel_size=3, **keys)
    convolve = network_of(first, second).program.value_ops[1]
    assert convolve == ops.Convolve(0, 1, 2, "b", 1, ops.Activation("relu"))


def test_layer_norm_runs_on_its_own_and_takes_the_add_and_the_activation_with_it() -> None:
    first = make("SubMConv3d", "a", out_channels=6, kernel_size=3)
    keys = {"norm": {"type": "LayerNorm", "eps": 1e-6}, "add": "a", "activation": "GELU"}
    second = make("SubMConv3d", "b", out_channels=6, kernel_size=3, **keys)
    network = network_of(first, second)
    convolve, norm = network.program.value_ops[1:]
    assert isinstance(convolve, ops.Convolve)
    assert (convolve.add, convolve.activation) == (None, ops.NO_ACTIVATION)
    assert norm == ops.NormalizeRows(convolve.output, 3, "b", 1e-6, 1, ops.Activation("gelu"))
    assert network.program.layers["b"] == 3


def test_concat_adds_up_channels_and_add_keeps_them() -> None:
    a = make("SubMConv3d", "a", out_channels=6, kernel_size=3)
    b = make("SubMConv3d", "b", out_channels=6, kernel_size=3)
    both = make("Concat", "both", inputs=["b", "a", "$input"])
    total = make("Add", "total", inputs=["a", "b"], activation="ReLU")
    network = network_of(a, b, both, total)
    assert network.program.value_ops[2:] == (
        ops.Concatenate((2, 1, 0), 3),
        ops.AddValues((1, 2), 4, ops.Activation("relu")),
    )
    assert [layer.out_channels for layer in network.layers] == [6, 6, 6 + 6 + CHANNELS, 6]
    assert network.layers[2].in_channels == 6 + 6 + CHANNELS


def test_channel_reduction_divides_the_channels() -> None:
    network = network_of(make("ChannelReduction", out_channels=2))
    assert network.program.value_ops == (ops.ReduceChannels(0, 1),)
    assert network.program.values[1].channels == 2


def test_height_compression_multiplies_channels_by_the_height() -> None:
    network = network_of(make("HeightCompression"), make("SubMConv2d", "y", out_channels=2, kernel_size=3))
    assert network.program.index_ops[0] == ops.FlattenSites(0, 1)
    assert network.shapes[1] == (9, 10)
    assert network.program.values[1] == ops.Value(1, CHANNELS * 8)
    assert prod(network.layers[1].parameters["y.weight"]) == 2 * 9 * CHANNELS * 8


def test_to_dense_is_a_dense_value_over_the_same_sites() -> None:
    network = network_of(make("ToDense"))
    assert network.program.value_ops == (ops.MakeDense(0, 1),)
    assert network.program.values[1] == ops.Value(0, CHANNELS, dense=True)


@pytest.mark.parametrize(
    ("key", "norm"),
    [
        (None, None),
        ("BatchNorm1d", BatchNorm1d(1e-5)),
        ("LayerNorm", LayerNorm(1e-5)),
        (BatchNorm1d(1e-3), BatchNorm1d(1e-3)),
    ],
)
def test_a_norms_bare_name_stands_for_torchs_eps(key: Any, norm: Any) -> None:
    assert norm_of(key) == norm


@pytest.mark.parametrize(
    ("key", "activation"),
    [
        (None, ops.Activation("none")),
        ("none", ops.Activation("none")),
        ("ReLU", ops.Activation("relu")),
        (ReLU(), ops.Activation("relu")),
        ("LeakyReLU", ops.Activation("leaky_relu", 0.01)),
        (LeakyReLU(0.2), ops.Activation("leaky_relu", 0.2)),
        ("GELU", ops.Activation("gelu")),
        (GELU(), ops.Activation("gelu")),
    ],
)
def test_activations_by_name_and_by_mapping(key: Any, activation: ops.Activation) -> None:
    assert activation_of(key) == activation
