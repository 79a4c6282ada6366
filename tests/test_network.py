"""The channels and shapes of a network: given, from the range, or from each input."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from networks import KITTI, built, conv, make, only, problems, subm, up
from spcli.grid import FeatureColumn, VoxelSpec
from spcli.lowering import build_network, lower_layers
from spcli.program import site_shapes


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
