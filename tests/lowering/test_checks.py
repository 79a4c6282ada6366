"""What can be wrong with an indice_key and with names."""

from __future__ import annotations

from typing import Any

import pytest

from networks import built, conv, only, problems, subm, up
from spcli.layers import Layer


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


def test_names_are_unique_and_plain() -> None:
    found = problems(subm("a"), subm("a"), subm("b/c"), subm("d", indice_key="k 1"), subm("e{i}"))
    assert [key for key, _ in found] == ["layers.a.name", "layers.b/c.name", "layers.d.indice_key", "layers.e{i}.name"]


def test_two_layers_cannot_own_one_parameter() -> None:
    found = problems(subm("a", norm="BatchNorm1d"), subm("a.norm"))
    expected = "makes its parameter 'a.norm.weight' one of layer 'a' too; rename one"
    assert ("layers.a.norm.name", expected) in found
