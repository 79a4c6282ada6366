"""The keys of a layer and of its defaults: what they may hold, and what is said about what they may not."""

from __future__ import annotations

import pytest

from configurations import HEAD, LAYER, Load, Problems
from spcli.layers.base import BatchNorm1d, LeakyReLU


def test_a_layers_own_keys_win_over_defaults(load: Load) -> None:
    config = load(f"""{HEAD}defaults: {{norm: BatchNorm1d, activation: ReLU, bias: false}}
layers:
- {{name: a, type: SubMConv3d, out_channels: 4, kernel_size: 3, norm: null, activation: GELU, bias: true}}
- {{name: b, type: Linear, out_channels: 4, activation: {{type: LeakyReLU, slope: 0.2}}}}
- {{name: c, type: Add, inputs: [a, b]}}
""")
    a, b, c = (layer.__class__.__name__ and layer for layer in config.layers)
    assert (a.norm, a.activation, a.bias) == (None, "GELU", True)  # type: ignore[attr-defined]
    assert (b.norm, b.activation, b.bias) == (BatchNorm1d(), LeakyReLU(0.2), False)  # type: ignore[attr-defined]
    assert c.activation is None  # type: ignore[attr-defined]


def test_a_wrong_key_of_a_layer_hides_nothing_of_the_layer(problems: Problems) -> None:
    layer = "- {name: a b, type: SubMConv3d, out_channel: 4, kernel_size: 2, stride: 2, padding: -1, add: c}\n"
    found = problems(f"{HEAD}layers:\n{layer}")
    assert [(key, message.partition(",")[0]) for _, key, message in found] == [
        ("layers.a b", "lacks out_channels"),
        ("layers.a b.add", "no earlier layer is called 'c'"),
        ("layers.a b.kernel_size", "is [2"),
        ("layers.a b.name", "is 'a b'"),
        ("layers.a b.out_channel", "unknown key 'out_channel'; did you mean 'out_channels'?"),
        ("layers.a b.padding", "expected a whole number from 0 to 32767"),
        ("layers.a b.stride", "is [2"),
    ]


def test_layers_without_a_usable_name_are_checked_too(problems: Problems) -> None:
    wrong = "type: SubMConv3d, out_channels: 4, kernel_size: 2"
    found = problems(f"{HEAD}layers:\n{LAYER}- {{name: 5, {wrong}}}\n- {{{wrong}}}\n- {{name: a, {wrong}}}\n")
    assert [(line, key) for line, key, _ in found] == [
        (4, "layers[1].kernel_size"),
        (4, "layers[1].name"),
        (5, "layers[2]"),
        (5, "layers[2].kernel_size"),
        (6, "layers[3].kernel_size"),
        (6, "layers[3].name"),
    ]


@pytest.mark.parametrize(
    ("value", "line", "message"),
    [
        ("out_channels: 4.5", 3, "expected a whole number from 1 to 65536, got 4.5"),
        ("out_channels: four", 3, "expected a whole number from 1 to 65536, got 'four'"),
        ("out_channels: true", 3, "expected a whole number from 1 to 65536, got true"),
        ("bias: yes", 3, "expected true or false, got 'yes'"),
        ("bias: 0", 3, "expected true or false, got 0"),
        ("stride: 0", 3, "expected a whole number from 1 to 32767, or a list of them in z, y, x order"),
        ("padding: [1, 1, 1, 1]", 3, "expected a whole number from 0 to 32767, or a list of them"),
        ("kernel_size: 8", 3, "expected a whole number from 1 to 7, or a list of them"),
        ("kernel_size: [3, 9, 3]", 3, "expected a whole number from 1 to 7, or a list of them"),
        ("add: [a]", 3, "expected the name of an earlier layer, or $input for the network's input, got [a]"),
        ("indice_key: 5", 3, "expected a name of letters, digits, '_', '.' and '-', got 5"),
        ("norm: BatchNorm", 3, "expected BatchNorm1d, LayerNorm, one of them with eps"),
        ("activation: Swish", 3, "expected ReLU, LeakyReLU, GELU"),
        (
            "norm: {type: BatchNorm1d, eps: small}",
            3,
            "expected a number above 0 and at most 1, such as 1e-3, got 'small'",
        ),
        ("norm: {type: BatchNorm1d, eps: 2}", 3, "expected a number above 0 and at most 1, such as 1e-3, got 2"),
        ("norm: {type: BatchNorm1d, epsilon: 1}", 3, "unknown key 'epsilon'; did you mean 'eps'?"),
        ("norm: {eps: 1e-3}", 3, "expected type to be BatchNorm1d or LayerNorm, but it is missing"),
        ("norm: {type: Batchnorm1d}", 3, "expected type to be BatchNorm1d or LayerNorm, got 'Batchnorm1d'; did you"),
        ("activation: {type: LeakyReLU, slope: steep}", 3, "expected a number, such as 0.01, got 'steep'"),
        ("groups: 2", 3, "unknown key 'groups'; SubMConv3d takes name, input"),
    ],
)
def test_a_wrong_value_says_what_was_expected(problems: Problems, value: str, line: int, message: str) -> None:
    keys = {"name": "b", "type": "SubMConv3d", "out_channels": "4", "kernel_size": "3"}
    key, _, text = value.partition(": ")
    layer = ", ".join(f"{name}: {content}" for name, content in {**keys, key: text}.items())
    (problem,) = problems(f"{HEAD}layers:\n- {{{layer}}}\n")
    assert problem[0] == line
    assert problem[1].startswith(f"layers.b.{key}")
    assert problem[2].startswith(message)


def test_duplicate_layer_names_name_both_lines(problems: Problems) -> None:
    found = problems(f"{HEAD}layers:\n{LAYER}{LAYER}- {{name: b, type: Linear, out_channels: 4, add: a}}\n")
    assert found == [(4, "layers[1].name", "is 'a', as that of the layer on line 3; rename one")]


def test_equal_meanings_have_equal_resolved_texts(load: Load) -> None:
    short = "{name: a, type: Linear, out_channels: 4, norm: BatchNorm1d, activation: LeakyReLU}"
    norm, activation = "{eps: 0.00001, type: BatchNorm1d}", "{slope: 0.01, type: LeakyReLU}"
    long = f"{{type: Linear, name: a, activation: {activation}, norm: {norm}, out_channels: 4}}"
    texts = {load(f"{HEAD}layers:\n- {layer}\n").resolved for layer in (short, long)}
    assert len(texts) == 1


@pytest.mark.parametrize("key", ["norm", "activation"])
def test_none_undoes_a_default_as_null_does(load: Load, key: str) -> None:
    head = f"{HEAD}defaults: {{norm: BatchNorm1d, activation: ReLU}}\nlayers:\n"
    layer = "- {name: a, type: Linear, out_channels: 4, "
    texts = {load(f"{head}{layer}{key}: {word}}}\n").resolved for word in ("none", "null")}
    assert len(texts) == 1
    assert f"{key}:" not in texts.pop()


def test_a_default_may_be_none(load: Load) -> None:
    config = load(f"{HEAD}defaults: {{norm: none}}\nlayers:\n{LAYER}")
    assert config.layers[0].norm is None  # type: ignore[attr-defined]
