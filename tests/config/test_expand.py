"""Repeats: layers written once that stand for several."""

from __future__ import annotations

import pytest

from configurations import HEAD, LAYER, Load, Problems


def test_repeats_count_from_0_and_know_the_layer_before_the_iteration(load: Load) -> None:
    config = load(f"""{HEAD}layers:
- {{name: stem, type: SubMConv3d, out_channels: 4, kernel_size: 3, indice_key: k}}
- repeat: 2
  layers:
  - {{name: "b{{i}}_1", type: SubMConv3d, out_channels: 4, kernel_size: 3, indice_key: k}}
  - {{name: "b{{i}}_2", type: SubMConv3d, out_channels: 4, kernel_size: 3, indice_key: k, add: $in}}
- {{name: all, type: Concat, inputs: [stem, b0_2, b1_2]}}
""")
    adds = {layer.name: getattr(layer, "add", None) for layer in config.layers}
    assert adds == {"stem": None, "b0_1": None, "b0_2": "stem", "b1_1": None, "b1_2": "b0_2", "all": None}


def test_a_repeat_at_the_beginning_starts_from_the_input(load: Load) -> None:
    text = f"{HEAD}layers:\n- repeat: 1\n  layers:\n  - {{name: a, type: Add, inputs: [$in, $in]}}\n"
    assert load(text).layers[0].inputs == ("$input", "$input")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("entry", "line", "message"),
    [
        ("{repeat: 0, layers: [{name: a, type: ToDense}]}", 3, "repeat needs a whole number from 1 to 1000"),
        ("{repeat: 1001, layers: [{name: a, type: ToDense}]}", 3, "repeat needs a whole number from 1 to 1000"),
        ("{repeat: two, layers: [{name: a, type: ToDense}]}", 3, "repeat needs a whole number from 1 to 1000"),
        ("{repeat: 2}", 3, "a repeat needs a list of layers under the key layers"),
        ("{repeat: 2, layers: []}", 3, "a repeat needs a list of layers under the key layers"),
        ("{repeat: 2, layers: [{name: a, type: ToDense}], times: 2}", 3, "unknown key 'times'; a repeat takes repeat"),
        ("{repeat: 2, layers: [{repeat: 2, layers: []}]}", 3, "a repeat cannot hold another repeat"),
    ],
)
def test_repeats_are_checked(problems: Problems, entry: str, line: int, message: str) -> None:
    found = problems(f"{HEAD}layers:\n- {entry}\n{LAYER}")
    assert found[0][:2] == (line, "layers[0]")
    assert found[0][2].startswith(message)


def test_a_fault_in_a_repeated_layer_is_reported_once_with_its_line(problems: Problems) -> None:
    found = problems(f"""{HEAD}layers:
- repeat: 3
  layers:
  - {{name: "a{{i}}", type: SubMConv3d, out_channels: 4, kernel_size: 3}}
  - {{name: "b{{i}}", type: SubMConv3d, out_channels: 4,
      kernel_size: 2}}
""")
    expected = "is [2, 2, 2], but a submanifold kernel must be odd on every axis"
    assert found == [(7, "layers.b0.kernel_size", expected)]


def test_repeats_cannot_blow_up(problems: Problems) -> None:
    repeat = "- {repeat: 1000, layers: [" + ", ".join(["{name: a, type: ToDense}"] * 11) + "]}\n"
    found = problems(f"{HEAD}layers:\n{repeat}")
    assert ("layers", "are more than 10000 with repeats written out") in [problem[1:] for problem in found]
