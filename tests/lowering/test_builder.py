"""Layers to a program: what is shared, what is not known yet, what layers may refer to."""

from __future__ import annotations

from typing import Any

import pytest

from networks import built, conv, make, only, problems, subm, up
from spcli import program as ops
from spcli.errors import ConfigError
from spcli.grid import VoxelSpec
from spcli.lowering import Unreadable, build_network, lower_layers


def test_layers_with_one_indice_key_share_its_map() -> None:
    network = built(subm("a", indice_key="k"), subm("b", indice_key="k"))
    assert network.program.keys == (ops.KeyedMap("k", 0, ("a", "b")),)
    assert len(network.program.index_ops) == network.program.maps == 1


def test_strided_layers_with_one_indice_key_share_their_output_sites_too() -> None:
    network = built(conv("a", indice_key="k"), conv("b", input="$input", indice_key="k"), subm("c", add="a"))
    assert network.layers[0].out_sites == network.layers[1].out_sites == 1
    assert network.program.keys[0] == ops.KeyedMap("k", 0, ("a", "b"))


def test_equal_geometry_over_equal_sites_is_one_map_under_each_key() -> None:
    network = built(subm("a"), subm("b"), subm("c", indice_key="k"), subm("d", kernel_size=1))
    assert [(keyed.key, keyed.map) for keyed in network.program.keys] == [("a", 0), ("b", 0), ("k", 0), ("d", 1)]
    assert network.program.maps == 2


def test_a_pool_and_a_convolution_of_one_geometry_give_the_same_sites() -> None:
    pool = make("SparseMaxPool3d", "p", kernel_size=3, stride=2, padding=1)
    join = make("Concat", "c", inputs=["p", "d"])
    network = built(pool, conv("d", input="$input"), join)
    assert network.layers[2].out_channels == 8


def test_inverse_layers_store_no_key_and_share_one_swapped_map() -> None:
    network = built(conv("d", indice_key="k"), up("u", indice_key="k"), up("v", input="d", indice_key="k"))
    assert network.program.keys == (ops.KeyedMap("k", 0, ("d", "u", "v")),)
    assert network.program.index_ops[1:] == (ops.InvertMap(0, 1),)
    assert [layer.key for layer in network.layers] == ["k"] * 3
    assert [layer.inverse for layer in network.layers] == [False, True, True]


def test_a_pooling_can_be_inverted() -> None:
    pool = make("SparseMaxPool3d", "p", kernel_size=2, indice_key="k")
    network = built(pool, up("u", kernel_size=2, indice_key="k", add="$input"))
    assert network.layers[1].out_sites == 0


def test_every_layer_is_a_tap_and_the_last_is_the_output() -> None:
    network = built(subm("a"), subm("b"), subm("c", input="a"))
    assert network.program.layers == {"a": 1, "b": 2, "c": 3}
    assert network.program.output == "c"
    assert network.program.value_ops[2] == ops.Convolve(0, 1, 3, "c")


def test_keys_are_in_network_order() -> None:
    network = built(subm("z", indice_key="z1"), conv("a", indice_key="a1"), subm("m"), conv("b"))
    assert [keyed.key for keyed in network.program.keys] == ["z1", "a1", "m", "b"]


def test_flattened_and_global_sites_are_made_once() -> None:
    pools = [make(kind, kind, input="$input") for kind in ("SparseGlobalMaxPool", "SparseGlobalAvgPool")]
    joined = make("Concat", "c", inputs=[pool.name for pool in pools])
    heights = [make("HeightCompression", name, input="$input") for name in ("h1", "h2")]
    network = built(*pools, joined, *heights, make("Add", "s", inputs=["h1", "h2"]))
    assert network.program.index_ops == (ops.GlobalSites(0, 1), ops.FlattenSites(0, 2))


def test_unknown_channels_flow_through_without_problems() -> None:
    concat = make("Concat", "c", inputs=["a", "$input"])
    network = build_network([subm("a"), concat, subm("b"), make("SparseMaxPool3d", "p", kernel_size=2)])
    assert [layer.in_channels for layer in network.layers] == [0, 0, 0, 4]
    assert [layer.out_channels for layer in network.layers] == [4, 0, 4, 4]


def test_dimensions_are_learnt_from_the_first_layer_that_needs_them() -> None:
    flat = make("SubMConv2d", "b", out_channels=4, kernel_size=3)
    key, message = only(problems(subm("a"), flat, shape=None))
    assert (key, message.partition(",")[0]) == ("layers.b.type", "needs 2-D sites")


def test_weights_may_not_depend_on_the_height_of_each_scans_grid() -> None:
    layers = [make("HeightCompression", "h"), make("SubMConv2d", "b", out_channels=4, kernel_size=3)]
    with pytest.raises(ConfigError) as caught:
        build_network(layers, VoxelSpec((1.0, 1.0, 1.0)), 4)
    (problem,) = caught.value.problems
    assert problem.key == "layers.b"
    assert "set voxelize.point_cloud_range" in problem.message
    assert build_network(layers, VoxelSpec((1.0, 1.0, 1.0)), 4, (5, 8, 8)).layers[1].in_channels == 20
    dense = [layers[0], make("ToDense", "t")]
    assert build_network(dense, VoxelSpec((1.0, 1.0, 1.0)), 4).program.values[1].channels == 0


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("conv", "no earlier layer is called 'conv'; did you mean 'conv1'?"),
        ("other", "no earlier layer is called 'other'"),
        ("b", "'b' is this layer itself; name an earlier one"),
        ("c", "'c' comes after this layer; name an earlier one"),
        ("$in", "$in stands for the layer before an iteration, inside a repeat only"),
    ],
)
@pytest.mark.parametrize("key", ["input", "add"])
def test_references_name_earlier_layers(reference: str, message: str, key: str) -> None:
    found = problems(subm("conv1"), subm("b", **{key: reference}), subm("c"))
    assert found == [(f"layers.b.{key}", message)]


def test_joined_layers_must_lie_over_the_same_sites() -> None:
    layers = [subm("a"), conv("d"), make("Concat", "c", inputs=["a", "d"]), make("Add", "s", inputs=["d", "a"])]
    found = problems(*layers)
    assert [key for key, _ in found] == ["layers.c.inputs", "layers.s.inputs"]
    assert found[0][1].startswith("'d' lies on the sites of 'd' and 'a' on those of the input")


def test_a_residual_must_lie_over_the_same_sites_and_have_as_many_channels() -> None:
    found = problems(subm("a", out_channels=8), conv("d", add="a"))
    assert [key for key, _ in found] == ["layers.d.add"] * 2
    assert found[0][1].startswith("'a' lies on the sites of the input and 'd' on those of 'd'")
    assert found[1][1] == "'a' has 8 channels where 4 are needed"


def test_added_layers_need_as_many_channels() -> None:
    found = problems(subm("a", out_channels=8), subm("b"), make("Add", "s", inputs=["a", "b"]))
    assert found == [("layers.s.inputs", "'b' has 4 channels where 8 are needed")]


def test_in_channels_is_checked_where_it_is_given() -> None:
    found = problems(subm("a", in_channels=4), subm("b", in_channels=5), subm("c", in_channels=6))
    messages = ["is 5, but 'a' has 4 channels", "is 6, but 'b' has 4 channels"]
    assert found == [("layers.b.in_channels", messages[0]), ("layers.c.in_channels", messages[1])]
    assert problems(subm("a", in_channels=3)) == [("layers.a.in_channels", "is 3, but the input has 4 channels")]


def test_channel_reduction_must_divide_the_channels() -> None:
    found = problems(make("ChannelReduction", "r", out_channels=3))
    assert found == [("layers.r.out_channels", "is 3, which does not divide the input's 4")]


@pytest.mark.parametrize("kernel", [2, 4, [3, 2, 3]])
def test_submanifold_kernels_are_odd(kernel: Any) -> None:
    key, message = only(problems(subm("a", kernel_size=kernel)))
    assert key == "layers.a.kernel_size"
    assert message.endswith("but a submanifold kernel must be odd on every axis")


def test_submanifold_strides_are_1() -> None:
    found = problems(subm("a", stride=[1, 2, 1]))
    expected = "is [1, 2, 1], but a submanifold convolution has stride 1; use SparseConv3d"
    assert found == [("layers.a.stride", expected)]


def test_output_padding_is_smaller_than_stride_or_dilation() -> None:
    transposed = make("SparseConvTranspose3d", "t", out_channels=4, kernel_size=3, stride=2, output_padding=[0, 2, 1])
    found = problems(transposed)
    assert found == [("layers.t.output_padding", "is [0, 2, 1], but must be smaller than the stride or the dilation")]


def test_a_list_of_sizes_has_one_number_an_axis() -> None:
    found = problems(conv("a", stride=[2, 2]))
    assert found == [("layers.a.stride", "has 2 numbers where a 3-D layer needs 3 (z, y, x)")]


def test_2d_layers_need_2d_sites() -> None:
    flat = make("SubMConv2d", "b", out_channels=4, kernel_size=3)
    key, message = only(problems(subm("a"), flat))
    assert (key, message) == (
        "layers.b.type",
        "needs 2-D sites, but 'a' has 3-D sites; put a HeightCompression between them",
    )
    compressed = make("HeightCompression", "h")
    key, message = only(problems(compressed, subm("a")))
    assert (key, message) == ("layers.a.type", "needs 3-D sites, but 'h' has 2-D sites")


def test_what_has_no_grid_can_be_multiplied_but_not_convolved() -> None:
    pool = make("SparseGlobalMaxPool", "g")
    assert built(pool, make("Linear", "l", out_channels=2)).layers[1].parameters["l.weight"] == (2, 4)
    assert only(problems(pool, subm("a"))) == (
        "layers.a.type",
        "needs 3-D sites, but 'g' has one row per scan and no grid",
    )
    assert only(problems(pool, make("ToDense", "t")))[0] == "layers.t.type"


def test_nothing_takes_a_dense_array() -> None:
    key, message = only(problems(subm("a"), make("ToDense", "t"), subm("b")))
    assert (key, message) == (
        "layers.b.input",
        "'t' gives a dense array, which no layer takes; name the layer before it",
    )
    assert built(subm("a"), make("ToDense", "t"), subm("b", input="a")).program.output == "b"


def test_all_problems_are_reported_at_once_and_none_twice() -> None:
    layers = [
        subm("a", kernel_size=2),
        subm("b", input="nowhere", stride=2),
        conv("c", indice_key="k", in_channels=7),
        up("d", indice_key="k", kernel_size=5),
        make("Concat", "e", inputs=["a", "c"]),
    ]
    keys = ["a.kernel_size", "b.stride", "b.input", "c.in_channels", "d.kernel_size"]
    assert [key for key, _ in problems(*layers)] == [f"layers.{key}" for key in keys]


def test_a_network_needs_a_layer() -> None:
    assert problems() == [("layers", "has no layers; a network needs at least one")]


def test_what_refers_to_an_unreadable_layer_is_not_reported_as_well() -> None:
    layers = [Unreadable("down", "k"), up("u", indice_key="k", add="down"), subm("b", kernel_size=2)]
    network, found = lower_layers(layers, None, 4, (8, 8, 8))
    assert network is None
    assert [problem.key for problem in found] == ["layers.b.kernel_size"]


def test_index_operations_need_only_what_earlier_ones_made() -> None:
    network = built(conv("d", indice_key="k"), conv("e"), subm("f"), up("u", input="d", indice_key="k"))
    sites, maps = {0}, set()
    for op in network.program.index_ops:
        if isinstance(op, ops.BuildMap):
            assert op.sites in sites
            sites.add(op.outputs)
            maps.add(op.map)
        if isinstance(op, ops.InvertMap):
            assert op.source in maps
            maps.add(op.map)
    assert (len(sites), len(maps)) == (network.program.sites, network.program.maps)
