"""Layers to a program: what is shared, what is checked, what is not known yet."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spcli import program as ops
from spcli.errors import ConfigError
from spcli.grid import FeatureColumn, VoxelSpec
from spcli.layers import LAYERS, Layer
from spcli.lowering import Unreadable, build_network, lower_layers
from spcli.network import Network
from spcli.program import site_shapes

KITTI = VoxelSpec(
    (0.05, 0.05, 0.1),
    (0, -40, -3, 70.4, 40, 1),
    spatial_shape_extra=(1, 0, 0),
    columns=("x", "y", "z", "intensity"),
)


def make(kind: str, name: str, **keys: Any) -> Layer:
    return msgspec.convert({"type": kind, "name": name, **keys}, LAYERS[kind])


def subm(name: str, **keys: Any) -> Layer:
    return make("SubMConv3d", name, **{"out_channels": 4, "kernel_size": 3, **keys})


def conv(name: str, **keys: Any) -> Layer:
    return make("SparseConv3d", name, **{"out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1, **keys})


def up(name: str, **keys: Any) -> Layer:
    return make("SparseInverseConv3d", name, **{"out_channels": 4, "kernel_size": 3, **keys})


def built(*layers: Layer, shape: tuple[int, ...] | None = (8, 8, 8)) -> Network:
    return build_network(layers, None, 4, shape)


def problems(*layers: Layer, shape: tuple[int, ...] | None = (8, 8, 8)) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        built(*layers, shape=shape)
    return [(problem.key, problem.message) for problem in caught.value.problems]


def only(found: list[tuple[str, str]]) -> tuple[str, str]:
    (problem,) = found
    return problem


# What is shared.


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


# Channels and shapes.


def test_channels_come_from_the_argument_the_features_or_the_columns() -> None:
    def cin(spec: VoxelSpec | None, given: int | None = None) -> int:
        return build_network([subm("a")], spec, given).layers[0].in_channels

    size = (1.0, 1.0, 1.0)
    assert cin(KITTI) == 4
    assert cin(VoxelSpec(size, columns=("x", "y", "z"), features=(FeatureColumn("x"),))) == 1
    assert cin(KITTI, 7) == 7
    assert cin(VoxelSpec(size)) == cin(None) == 0
    assert build_network([subm("a", in_channels=9)]).layers[0].parameters["a.weight"] == (4, 3, 3, 3, 9)


def test_shapes_come_from_the_range_or_the_argument_or_are_unknown() -> None:
    layers = [conv("a"), conv("b", padding=[0, 1, 1])]
    assert build_network(layers, KITTI).shapes == ((41, 1600, 1408), (21, 800, 704), (10, 400, 352))
    assert build_network(layers, None, 4, (9, 9, 9)).shapes == ((9, 9, 9), (5, 5, 5), (2, 3, 3))
    assert build_network(layers, VoxelSpec((1.0, 1.0, 1.0)), 4).shapes == (None, None, None)


def test_a_program_gives_the_shape_of_every_set_of_sites_for_an_input() -> None:
    network = built(conv("d", indice_key="k"), up("u", indice_key="k"), make("HeightCompression", "h"), shape=None)
    assert site_shapes(network.program, (7, 8, 9)) == ((7, 8, 9), (4, 4, 5), (8, 9))


def test_the_layer_whose_window_does_not_fit_is_named_and_not_its_followers() -> None:
    layers = conv("a", padding=0), conv("b", padding=0), subm("c"), conv("d", padding=0)
    key, message = only(problems(*layers, shape=(6, 9, 9)))
    assert key == "layers.b"
    assert "gives the shape [0, 1, 1] for an input of [2, 4, 4]" in message


def test_an_output_shape_of_zero_is_a_problem_of_its_layer_alone() -> None:
    key, message = only(problems(conv("a", kernel_size=7, padding=0), subm("b"), conv("c"), shape=(8, 6, 8)))
    assert key == "layers.a"
    assert message.startswith("gives the shape [1, 0, 1] for an input of [8, 6, 8]")


def test_a_side_of_more_than_an_int32_is_a_problem() -> None:
    grow = make("SparseConvTranspose3d", "t", out_channels=1, kernel_size=3, stride=1000)
    key, message = only(problems(grow, shape=(10, 10, 3_000_000)))
    assert key == "layers.t"
    assert "a side can have 2147483647 cells" in message


@given(st.lists(st.sampled_from(["subm", "conv", "pool"]), min_size=1, max_size=6), st.integers(1, 40))
def test_a_program_and_its_builder_agree_on_every_shape(kinds: list[str], side: int) -> None:
    makers = {"subm": subm, "conv": conv, "pool": lambda name: make("SparseMaxPool3d", name, kernel_size=2)}
    layers = [makers[kind](f"l{i}") for i, kind in enumerate(kinds)]
    shape = (side, side + 1, side + 2)
    network, found = lower_layers(layers, None, 4, shape)
    free = built(*layers, shape=None)
    if network is None:
        assert found and min(min(sides) for sides in site_shapes(free.program, shape)) <= 0
    else:
        assert network.shapes == site_shapes(free.program, shape)
        assert network.program == free.program


# What is not known yet.


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


# The indice_key graph.


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"kernel_size": 5}, "kernel_size is [5, 5, 5] here and [3, 3, 3] there"),
        ({"stride": 1}, "stride is [1, 1, 1] here and [2, 2, 2] there"),
        ({"padding": 0}, "padding is [0, 0, 0] here and [1, 1, 1] there"),
        ({"dilation": 2}, "dilation is [2, 2, 2] here and [1, 1, 1] there"),
    ],
)
def test_layers_that_share_a_key_need_one_geometry(other: dict[str, Any], difference: str) -> None:
    found = problems(conv("a", indice_key="k"), conv("b", input="$input", indice_key="k", **other))
    assert found == [("layers.b.indice_key", f"'k' is shared with 'a', but {difference}")]


@pytest.mark.parametrize("size", ["kernel_size", "dilation"])
def test_a_submanifold_padding_nobody_wrote_is_no_difference(size: str) -> None:
    other = {"kernel_size": 5} if size == "kernel_size" else {"dilation": 2}
    _, message = only(problems(subm("a", indice_key="k"), subm("b", indice_key="k", **other)))
    assert size in message
    assert "padding" not in message


def test_a_padding_that_follows_from_the_kernel_is_no_difference_of_its_own() -> None:
    other = conv("b", input="$input", indice_key="k", kernel_size=5, padding=2)
    _, message = only(problems(conv("a", indice_key="k"), other))
    assert message == "'k' is shared with 'a', but kernel_size is [5, 5, 5] here and [3, 3, 3] there"


def test_a_submanifold_and_a_regular_layer_cannot_share_a_key() -> None:
    key, message = only(problems(subm("a", indice_key="k"), conv("b", indice_key="k")))
    assert key == "layers.b.indice_key"
    assert message == "'k' is shared with 'a', but the type is regular here and submanifold there"


def test_layers_that_share_a_key_need_the_same_sites() -> None:
    key, message = only(problems(subm("a", indice_key="k"), conv("d"), subm("b", indice_key="k")))
    assert key == "layers.b.indice_key"
    expected = "'k' is shared with 'a', but that starts from the sites of the input and this layer from those of 'd'"
    assert message.startswith(expected)


@pytest.mark.parametrize(
    ("layers", "key"),
    [
        ([subm("a"), subm("b", indice_key="a")], "layers.b.indice_key"),
        ([subm("b", indice_key="a"), subm("a")], "layers.a.name"),
    ],
)
def test_a_layer_without_a_key_is_stored_under_its_name_which_no_key_may_be(layers: list[Layer], key: str) -> None:
    where, message = only(problems(*layers))
    assert where == key
    assert message.startswith("'a' would be the key of two rulebooks: that of 'a', which has no indice_key")


def test_a_layer_with_a_key_may_be_called_as_another_key() -> None:
    network = built(subm("a", indice_key="b"), subm("b", indice_key="c"))
    assert [keyed.key for keyed in network.program.keys] == ["b", "c"]


def test_an_inverse_layer_needs_an_earlier_key() -> None:
    found = problems(conv("d", indice_key="down1"), up("u", indice_key="down2"))
    expected = "no earlier convolution or pooling has the key 'down2'; did you mean 'down1'?"
    assert found == [("layers.u.indice_key", expected)]


def test_an_inverse_layer_needs_the_kernel_of_its_forward_layer() -> None:
    found = problems(conv("d", indice_key="k"), up("u", kernel_size=2, indice_key="k"))
    assert found == [("layers.u.kernel_size", "is [2, 2, 2], but 'd', which has the key 'k', has [3, 3, 3]")]


def test_an_inverse_layer_must_lie_on_its_forward_layers_output_sites() -> None:
    layers = [conv("d", indice_key="k"), conv("e", indice_key="l"), up("u", indice_key="k")]
    key, message = only(problems(*layers))
    assert key == "layers.u.input"
    assert message.startswith("'e' lies on the sites of 'e', but the key 'k' was made by 'd'")


def test_a_submanifold_layer_cannot_be_inverted() -> None:
    key, message = only(problems(subm("a", indice_key="k"), up("u", indice_key="k")))
    assert key == "layers.u.indice_key"
    assert message.startswith("'k' is the key of the submanifold layer 'a', which keeps its sites")


# References, joins, kernels, names.


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


def test_names_are_unique_and_plain() -> None:
    found = problems(subm("a"), subm("a"), subm("b/c"), subm("d", indice_key="k 1"), subm("e{i}"))
    assert [key for key, _ in found] == ["layers.a.name", "layers.b/c.name", "layers.d.indice_key", "layers.e{i}.name"]


def test_two_layers_cannot_own_one_parameter() -> None:
    found = problems(subm("a", norm="BatchNorm1d"), subm("a.norm"))
    expected = "makes its parameter 'a.norm.weight' one of layer 'a' too; rename one"
    assert ("layers.a.norm.name", expected) in found


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
