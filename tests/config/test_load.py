"""Configuration files: what they may say, what is said about what they may not, and the ones that are shipped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spcli.config import Config, json_schema, load_config, load_preset, preset_names, preset_path
from spcli.config.load import _Reader
from spcli.config.yaml_text import YamlError, flow, parse, parse_value
from spcli.errors import ConfigError, UsageError
from spcli.grid import FeatureColumn, VoxelSpec
from spcli.layers import LAYERS
from spcli.layers.base import BatchNorm1d, LeakyReLU
from strategies import examples

Load = Callable[..., Config]
Problems = Callable[..., list[tuple[int | None, str, str]]]

QUICKSTART = Path(preset_path("quickstart")).read_text()
HEAD = "version: 1\n"
LAYER = "- {name: a, type: SubMConv3d, out_channels: 4, kernel_size: 3}\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a text as a file, with no environment unless one is given."""

    def loaded(text: str, *sets: str, environ: dict[str, str] | None = None) -> Config:
        path = tmp_path / "net.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(str(path), sets, environ or {})

    return loaded


@pytest.fixture
def problems(load: Load) -> Problems:
    """The problems of a text as (line, key, message), in the order they are reported."""

    def found(text: str, *sets: str, environ: dict[str, str] | None = None) -> list[tuple[int | None, str, str]]:
        with pytest.raises(ConfigError) as caught:
            load(text, *sets, environ=environ)
        return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]

    return found


# What a file may say.


def test_the_example_of_the_contract_means_what_it_says(load: Load) -> None:
    config = load("""\
version: 1
name: second-kitti
voxelize: {point_cloud_range: [0, -40, -3, 70.4, 40, 1], voxel_size: [0.05, 0.05, 0.1], max_points: 5, max_voxels: null,
           reduce: mean, spatial_shape_extra: [1, 0, 0], columns: [x, y, z, intensity], features: [x, y, z, intensity]}
defaults: {norm: {type: BatchNorm1d, eps: 1e-3}, activation: ReLU, bias: false}
layers:
  - {name: conv_input, type: SubMConv3d,   out_channels: 16, kernel_size: 3, indice_key: subm1}
  - {name: conv2_down, type: SparseConv3d, out_channels: 32, kernel_size: 3, stride: 2, padding: 1, indice_key: spconv2}
  - {name: up2, type: SparseInverseConv3d, out_channels: 16, kernel_size: 3, indice_key: spconv2}
  - {name: fuse, type: Concat, inputs: [up2, conv_input]}
""")
    assert config.name == "second-kitti"
    assert config.voxelize == VoxelSpec(
        voxel_size=(0.05, 0.05, 0.1),
        point_cloud_range=(0, -40, -3, 70.4, 40, 1),
        max_points=5,
        spatial_shape_extra=(1, 0, 0),
        columns=("x", "y", "z", "intensity"),
        features=tuple(map(FeatureColumn, ("x", "y", "z", "intensity"))),
    )
    assert [layer.type for layer in config.layers] == ["SubMConv3d", "SparseConv3d", "SparseInverseConv3d", "Concat"]
    norms = [getattr(layer, "norm", None) for layer in config.layers]
    assert norms == [BatchNorm1d(0.001)] * 3 + [None]
    network = config.network()
    assert network.layers[-1].out_channels == 32
    assert network.shapes[network.layers[1].out_sites] == (21, 800, 704)


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


def test_features_can_be_scaled_squashed_or_constant(load: Load) -> None:
    config = load(f"""{HEAD}voxelize:
  voxel_size: [1, 1, 1]
  columns: [x, y, z, intensity]
  features: [x, {{name: intensity, scale: 255}}, {{name: intensity, tanh: true}}, {{name: dt, value: 0}}]
""")
    assert config.voxelize is not None
    assert config.voxelize.features == (
        FeatureColumn("x"),
        FeatureColumn("intensity", scale=255),
        FeatureColumn("intensity", tanh=True),
        FeatureColumn("dt", value=0),
    )
    assert config.layers == ()


def test_columns_may_be_a_number_with_the_names_readers_give(load: Load) -> None:
    config = load(f"{HEAD}voxelize: {{voxel_size: [1, 1, 1], columns: 6}}\nlayers:\n{LAYER}")
    assert config.voxelize is not None
    assert config.voxelize.columns == ("x", "y", "z", "intensity", "ring", "c5")
    assert config.network().in_channels == 6
    assert config.columns == 6
    again = load(config.resolved)
    assert (again.voxelize, again.columns, again.resolved) == (config.voxelize, 6, config.resolved)
    assert load(config.resolved, "voxelize.columns=[x, y, z]").columns == ("x", "y", "z")


@pytest.mark.parametrize("count", ["2", "8", "4.0", "true"])
def test_a_number_of_columns_is_from_3_to_7(problems: Problems, count: str) -> None:
    (problem,) = problems(f"{HEAD}voxelize: {{voxel_size: [1, 1, 1], columns: {count}}}\n")
    assert problem[1] == "voxelize.columns"
    assert problem[2].startswith("expected a list of the file's column names, such as [x, y, z, intensity], or their")


def test_a_feature_that_a_number_of_columns_does_not_name_is_a_problem(problems: Problems) -> None:
    (problem,) = problems(f"{HEAD}voxelize: {{voxel_size: [1, 1, 1], columns: 4, features: [x, ring]}}\n")
    assert problem[1:] == (
        "voxelize.features",
        "'ring' is not among voxelize.columns; give it a `value` if the file lacks it",
    )


def test_a_file_may_lack_the_voxelize_section(load: Load) -> None:
    config = load(f"{HEAD}layers:\n{LAYER}")
    assert config.voxelize is None
    assert config.network(7, (4, 4, 4)).layers[0].in_channels == 7


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


def test_anchors_and_merges_are_written_out(load: Load) -> None:
    config = load(f"""{HEAD}layers:
- &base {{name: a, type: SubMConv3d, out_channels: 4, kernel_size: &k [3, 1, 1]}}
- {{<<: *base, name: b, out_channels: 6}}
- {{name: c, type: SubMConv3d, out_channels: 2, kernel_size: *k}}
""")
    sizes = [(layer.name, layer.out_channels, layer.kernel_size) for layer in config.layers]  # type: ignore[attr-defined]
    assert sizes == [("a", 4, (3, 1, 1)), ("b", 6, (3, 1, 1)), ("c", 2, (3, 1, 1))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("160_000", 160000),
        (".inf", float("inf")),
        ("12:30:00", "12:30:00"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("[.05, .05, .1]", [0.05, 0.05, 0.1]),
        ("{type: LeakyReLU}", {"type": "LeakyReLU"}),
        ("9" * 50, float("9" * 50)),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=8),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), child),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_reads_back_the_same(value: Any) -> None:
    assert parse_value(flow(value)) == value


def test_small_numbers_are_written_so_that_readers_of_yaml_1_1_take_them_for_numbers() -> None:
    assert flow([1e-05, 1e-3, 2.5e-07, 1e22]) == "[1.0e-05, 0.001, 2.5e-07, 1.0e+22]"


# What is said about what it may not say: line, key, sentence.


def test_every_problem_of_a_file_is_reported_at_once(problems: Problems) -> None:
    found = problems("""\
version: 1
nmae: x
voxelize: {voxel_size: [0.1, 0.1], columns: [x, y]}
defaults: {activation: relu}
layers:
- {name: a, type: SubMConv3d, out_channels: 0, kernel_size: 3}
- {name: b, type: SubMConv3D, out_channels: 4, kernel_size: 3}
- {name: c, type: SparseConv3d, out_channels: 4, kernal_size: 3, input: nowhere}
- {name: d, type: SubMConv3d, out_channels: 4, kernel_size: 4}
- {name: e, type: Concat, inputs: [d, f]}
""")
    assert found == [
        (2, "nmae", "unknown key 'nmae'; did you mean 'name'?"),
        (3, "voxelize.columns", "lacks z; x, y and z must be among them"),
        (3, "voxelize.voxel_size", "expected three numbers of metres above 0 in x, y, z order, got [0.1, 0.1]"),
        (
            4,
            "defaults.activation",
            "expected ReLU, LeakyReLU, GELU, {type: LeakyReLU, slope: 0.1}, or null, got 'relu'; did you mean 'ReLU'?",
        ),
        (6, "layers.a.out_channels", "expected a whole number from 1 to 65536, got 0"),
        (7, "layers.b.type", "unknown layer type 'SubMConv3D'; did you mean 'SubMConv3d'?"),
        (8, "layers.c", "lacks kernel_size"),
        (8, "layers.c.input", "no earlier layer is called 'nowhere'"),
        (8, "layers.c.kernal_size", "unknown key 'kernal_size'; did you mean 'kernel_size'?"),
        (
            9,
            "layers.d.kernel_size",
            "is [4, 4, 4], but a submanifold kernel must be odd on every axis",
        ),
        (10, "layers.e.inputs", "no earlier layer is called 'f'"),
    ]


def test_a_wrong_key_of_the_voxelize_section_hides_nothing_of_the_section(problems: Problems) -> None:
    found = problems(f"""{HEAD}voxelize:
  voxel_size: [1, 1, 1]
  max_point: 2
  reduce: 3
  point_cloud_range: [0, 0, 0, -1, 1, 1]
  columns: [x, y]
""")
    assert found == [
        (4, "voxelize.max_point", "unknown key 'max_point'; did you mean 'max_points'?"),
        (5, "voxelize.reduce", "expected mean, first, max or sum, got 3"),
        (6, "voxelize.point_cloud_range", "is empty along x; the order is [x0, y0, z0, x1, y1, z1]"),
        (7, "voxelize.columns", "lacks z; x, y and z must be among them"),
    ]


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


def test_a_wrong_value_does_not_hide_that_others_do_not_fit(problems: Problems) -> None:
    """Neither in the same layer, nor in those behind it, nor in the network over a voxelize section."""
    found = problems(f"""{HEAD}voxelize: {{voxel_size: [1, 1, 1], columns: 4, max_points: 0}}
layers:
- {{name: a, type: SubMConv3d, out_channels: 8, kernel_size: 3, in_channels: 5, bias: 2}}
- {{name: b, type: Linear, out_channels: 8, in_channels: 9}}
""")
    assert [key for _, key, _ in found] == [
        "voxelize.max_points",
        "layers.a.bias",
        "layers.a.in_channels",
        "layers.b.in_channels",
    ]


@pytest.mark.parametrize(
    ("layer", "key"),
    [
        ("type: SubMConv3d, out_channels: 0, kernel_size: 3", "out_channels"),
        ("type: SubMConv3d, out_channels: 8, kernel_size: 9, indice_key: k", "kernel_size"),
        ("type: SubMConv3d, out_channels: 8, kernel_size: 3, dilations: 2, indice_key: k", "dilations"),
        ("type: SubMConv3d, out_channels: 8, kernel_size: 3, dilation: 0, indice_key: k", "dilation"),
        ("type: SparseConv3d, out_channels: 8, kernel_size: 3, strides: 2, indice_key: k", "strides"),
        ("type: SparseConv3d, out_channels: 8, kernel_size: 3, indice_key: [k]", "indice_key"),
        ("type: SparseConvTranspose3d, out_channels: 8, kernel_size: 3, stride: 0, output_padding: 1", "stride"),
        ("type: SparseInverseConv3d, out_channels: 8, kernel_size: 3, indice_key: 5", "indice_key"),
        ("type: ChannelReduction, out_channels: 0", "out_channels"),
        ("type: Linear, out_channels: 8, add: 7", "add"),
        ("type: Linear, out_channels: x, add: down", "out_channels"),
        ("type: Linear, out_channels: 8, inputs: first", "inputs"),
        ("type: Concat, inputs: [first]", "inputs"),
        ("type: Add, inputs: first", "inputs"),
        ("type: SparseMaxPool3d, kernel_size: 3, input: 4", "input"),
    ],
)
def test_what_follows_from_a_wrong_value_is_not_reported(problems: Problems, layer: str, key: str) -> None:
    (problem,) = problems(f"""{HEAD}voxelize: {{voxel_size: [1, 1, 1], columns: 4}}
layers:
- {{name: first, type: SubMConv3d, out_channels: 8, kernel_size: 3, dilation: 2, indice_key: k}}
- {{name: down, type: SparseConv3d, out_channels: 8, kernel_size: 3, stride: 2, padding: 1, indice_key: down}}
- {{name: wrong, {layer}}}
- {{name: after, type: Linear, in_channels: 8, out_channels: 8, add: wrong}}
- {{name: other, type: SubMConv3d, input: wrong, out_channels: 8, kernel_size: 5, indice_key: of_wrong}}
- {{name: both, type: Add, inputs: [wrong, other]}}
- {{name: up, type: SparseInverseConv3d, input: other, out_channels: 8, kernel_size: 3, indice_key: down}}
""")
    assert problem[:2] == (6, f"layers.wrong.{key}")


def test_what_follows_from_a_wrong_grid_is_not_reported(problems: Problems) -> None:
    """A window that is wider than the grid that a stand-in for the voxel size would give."""
    layers = "- {name: a, type: SparseConv3d, out_channels: 8, kernel_size: 7}\n- {name: h, type: HeightCompression}\n"
    layers += "- {name: b, type: SparseConv2d, out_channels: 8, kernel_size: 3}\n"
    for voxels in ("voxel_size: 0.1, point_cloud_range: [0, 0, 0, 2, 2, 2]", "voxel_size: [1, 1, 1], ranges: 5"):
        (problem,) = problems(f"{HEAD}voxelize: {{{voxels}, columns: 4}}\nlayers:\n{layers}")
        assert problem[0] == 2


def test_faults_inside_features_are_named_entry_by_entry(problems: Problems) -> None:
    found = problems(f"""{HEAD}voxelize:
  voxel_size: [1, 1, 1]
  features:
  - x
  - {{name: y, scal: 2}}
  - {{name: z, scale: large,
     tanh: 1}}
  - {{value: 0}}
  - 7
  - ""
""")
    expected = "expected a column's name or an entry such as {name: intensity, scale: 255}"
    assert found == [
        (6, "voxelize.features[1].scal", "unknown key 'scal'; did you mean 'scale'?"),
        (7, "voxelize.features[2].scale", "expected a number, got 'large'"),
        (8, "voxelize.features[2].tanh", "expected true or false, got 1"),
        (9, "voxelize.features[3]", "lacks name"),
        (10, "voxelize.features[4]", f"{expected}, got 7"),
        (11, "voxelize.features[5]", f"{expected}, got ''"),
    ]
    entry = "voxelize.features=[x, {name: y, scal: 2}]"
    (problem,) = problems(VOXELS, entry)
    message = f"unknown key 'scal'; did you mean 'scale'? (--set {entry})"
    assert problem == (None, "voxelize.features[1].scal", message)


def test_the_error_gives_file_line_key_and_sentence(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"{HEAD}layers:\n{LAYER}- {{name: b, type: SubMConv3d, out_channels: 4, kernel_size: 3, stride: 2}}\n")
    assert re.search(
        r"net\.yaml: line 4, layers\.b\.stride: is \[2, 2, 2\], but a submanifold convolution has stride 1",
        str(caught.value),
    )


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


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("", None, "", "is empty; a configuration has the keys version, name, voxelize, defaults, layers"),
        ("- a\n", None, "", "holds [a]; a configuration has the keys"),
        (f"layers:\n{LAYER}", None, "version", "is missing; begin the file with version: 1"),
        (f"version: 2\nlayers:\n{LAYER}", 1, "version", "is 2, but this spcli reads version 1"),
        (f"version: true\nlayers:\n{LAYER}", 1, "version", "is true, but this spcli reads version 1"),
        (f"{HEAD}name: [a]\nlayers:\n{LAYER}", 2, "name", "expected a name, got [a]"),
        (f"{HEAD}name: x\n", None, "layers", "holds neither layers nor a voxelize section; add one"),
        (f"{HEAD}layers: all\n", 2, "layers", "expected a list of layers, got 'all'"),
        (f"{HEAD}layers:\n- conv\n", 3, "layers[0]", "expected a layer such as {name: conv1, type: SubMConv3d"),
        (f"{HEAD}layers:\n{LAYER}- {{name: b, out_channels: 4}}\n", 4, "layers.b", "lacks type, such as SubMConv3d"),
        (f"{HEAD}layers:\n- {{type: ToDense}}\n", 3, "layers[0]", "lacks name"),
        (f"{HEAD}layers:\n- {{name: r, type: ReLU}}\n", 3, "layers.r.type", "ReLU is no layer; set activation of"),
        (f"{HEAD}layers:\n- {{name: r, type: BatchNorm1d}}\n", 3, "layers.r.type", "BatchNorm1d is no layer; set norm"),
        (
            f"{HEAD}layers:\n- {{name: r, type: Foo}}\n",
            3,
            "layers.r.type",
            "unknown layer type 'Foo'; there are",
        ),
        (
            f"{HEAD}layers:\n- {{name: r, type: [a]}}\n",
            3,
            "layers.r.type",
            "unknown layer type [a]; there are SubMConv2d",
        ),
        (
            f"{HEAD}layers:\n{LAYER}- {{name: a/b, type: ToDense}}\n",
            4,
            "layers.a/b.name",
            "is 'a/b', but may hold only",
        ),
        (
            f"{HEAD}layers:\n- {{name: a, type: Concat, inputs: [b]}}\n",
            3,
            "layers.a.inputs",
            "expected a list of two or",
        ),
        (f"{HEAD}defaults: none\nlayers:\n{LAYER}", 2, "defaults", "expected keys and values, got 'none'"),
        (
            f"{HEAD}defaults: {{stride: 2}}\nlayers:\n{LAYER}",
            2,
            "defaults.stride",
            "unknown key 'stride'; defaults takes",
        ),
    ],
)
def test_files_that_are_wrong_as_a_whole(
    problems: Problems, text: str, line: int | None, key: str, message: str
) -> None:
    (problem,) = problems(text)
    assert problem[:2] == (line, key)
    assert problem[2].startswith(message)


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        ({"voxel_size": "[0.1, 0, 0.1]"}, "voxel_size", "expected three numbers of metres above 0"),
        ({"voxel_size": "0.1"}, "voxel_size", "expected three numbers of metres above 0"),
        ({"voxel_size": "[.inf, 1, 1]"}, "voxel_size", "must be finite numbers"),
        ({"point_cloud_range": "[0, 0, 0, 1, 1]"}, "point_cloud_range", "expected six numbers of metres"),
        ({"point_cloud_range": "[0, 0, 0, 9, 0, -9]"}, "point_cloud_range", "is empty along y, z; the order is"),
        ({"point_cloud_range": "[0, 0, 0, .nan, 9, 9]"}, "point_cloud_range", "must be finite numbers"),
        ({"point_cloud_range": "[0, 0, 0, 0.1, 9, 9]"}, "point_cloud_range", "gives a grid of [0.0, 9.0, 9.0] cells"),
        ({"point_cloud_range": "[0, 0, 0, 9e9, 9, 9]"}, "point_cloud_range", "gives a grid of [9000000000.0, 9.0"),
        ({"max_points": "0"}, "max_points", "expected a whole number from 1, or null for no limit, got 0"),
        ({"max_voxels": "1.5"}, "max_voxels", "expected a whole number from 1, or null for no limit, got 1.5"),
        ({"reduce": "median"}, "reduce", "expected mean, first, max or sum, got 'median'"),
        ({"spatial_shape_extra": "1"}, "spatial_shape_extra", "expected three whole numbers from 0 in z, y, x order"),
        ({"spatial_shape_extra": "[1, 0, -1]"}, "spatial_shape_extra", "expected three whole numbers from 0"),
        ({"columns": "2"}, "columns", "expected a list of the file's column names"),
        ({"columns": "[x, y, i]"}, "columns", "lacks z; x, y and z must be among them"),
        ({"columns": "[x, y, z, i, i]"}, "columns", "names i more than once"),
        ({"features": "[]"}, "features", "is empty; leave it out to use every column"),
        ({"columns": "[x, y, z, ring]", "features": "[rin]"}, "features", "'rin' is not among voxelize.columns; did"),
        ({"columns": "[x, y, z]", "features": "[dt]"}, "features", "'dt' is not among voxelize.columns; give it a"),
        ({"features": "[{name: x, scale: 0}]"}, "features", "'x' is divided by scale 0"),
        ({"features": "[{name: x, value: .inf}]"}, "features", "'x' needs finite numbers"),
        ({"features": "intensity"}, "features", "expected a list of column names and entries such as"),
        ({"max_point": "5"}, "max_point", "unknown key 'max_point'; did you mean 'max_points'?"),
    ],
)
def test_the_voxelize_section_is_checked(problems: Problems, keys: dict[str, str], key: str, message: str) -> None:
    lines = "".join(f"  {name}: {text}\n" for name, text in {"voxel_size": "[1, 1, 1]", **keys}.items())
    place = 3 + list({"voxel_size": "", **keys}).index(key)
    (problem,) = problems(f"{HEAD}voxelize:\n{lines}")
    assert problem[:2] == (place, f"voxelize.{key}")
    assert problem[2].startswith(message)


def test_a_voxelize_section_needs_a_voxel_size(problems: Problems) -> None:
    assert problems(f"{HEAD}voxelize: {{reduce: mean}}\n") == [(2, "voxelize", "lacks voxel_size")]


def test_a_range_of_no_whole_number_of_voxels_is_warned_of(load: Load) -> None:
    config = load(f"{HEAD}voxelize: {{voxel_size: [0.3, 1, 1], point_cloud_range: [0, 0, 0, 1, 2, 3]}}\n")
    assert config.warnings == ("voxelize.point_cloud_range is 3.3333 voxels along x; the grid has 3",)


def test_duplicate_keys_name_both_lines(problems: Problems) -> None:
    text = f"{HEAD}layers:\n- name: a\n  type: ToDense\n  name: b\nname: x\nname: y\n"
    expected = "stands twice, first on line {}; keep one"
    assert problems(text) == [(5, "name", expected.format(3)), (7, "name", expected.format(6))]


def test_duplicate_layer_names_name_both_lines(problems: Problems) -> None:
    found = problems(f"{HEAD}layers:\n{LAYER}{LAYER}- {{name: b, type: Linear, out_channels: 4, add: a}}\n")
    assert found == [(4, "layers[1].name", "is 'a', as that of the layer on line 3; rename one")]


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


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1\nb: 2\n", 2, "is not valid YAML: while parsing a flow sequence"),
        ("a:\n\t- b\n", 2, "is not valid YAML: while scanning for the next token found character"),
        ("a: 'x\n", 2, "is not valid YAML: while scanning a quoted scalar"),
        ("a: \x01\n", None, "is not valid YAML: unacceptable character"),
        ("a: 1\n---\nb: 2\n", 2, "holds more than one YAML document; keep one"),
        ("a: !!python/name:os.system x\n", 1, "the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
        ("a: !!timestamp 2001-01-01\n", 1, "the tag"),
        ("a: *b\n", 1, "the alias *b names no anchor before it"),
        ("a: &b\n  - *b\n", 2, "the alias *b stands inside what it names"),
        ("? [a]\n: 1\n", 1, "has a key that is not a single word"),
        ("a: {<<: 5}\n", 1, "'<<' merges mappings; give it an alias of one"),
        ("[" * 300_000, 1, "is nested more than 16 levels deep"),
        ("{a: " * 1000, 1, "is nested more than 16 levels deep"),
    ],
)
def test_text_that_is_no_plain_yaml_is_refused_with_its_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse(text)
    assert caught.value.problem.line == line
    assert caught.value.problem.message.startswith(message)


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(YamlError, match="holds more than 100000 values"):
        parse("\n".join(lines))
    chain = ["a0: &a0 [1]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000)]
    with pytest.raises(YamlError, match="nested more than 16"):
        parse("\n".join(chain))


def test_files_that_are_not_text_or_too_large_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 3\); give a configuration file"):
        load_config(str(path))
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="is larger than 1000000 bytes"):
        load_config(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(str(tmp_path))


def test_a_byte_order_mark_is_passed_over(load: Load) -> None:
    assert load(f"\ufeff{HEAD}layers:\n{LAYER}").layers[0].name == "a"


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`,? \n\t~0.e<$"), max_size=60))
def test_no_text_gives_anything_but_data_or_a_yaml_error(text: str) -> None:
    try:
        json.dumps(parse(text).data)
    except YamlError as error:
        assert error.problem.message


def test_the_pure_python_parser_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = Path(preset_path("spunet-scannet")).read_text()
    with_c = parse(text)
    monkeypatch.setattr("spcli.config.yaml_text._LOADER", yaml.SafeLoader)
    in_python = parse(text)
    assert (in_python.data, in_python.lines) == (with_c.data, with_c.lines)


JUNK = st.sampled_from(
    [None, True, 0, -1, 7, 1.5, float("nan"), "", "a", "$in", "$input", [], [1, 2, 3], {}, {"type": []}]
)


@examples(200)
@given(st.data())
def test_a_file_with_anything_wrong_in_it_gives_a_configuration_or_a_config_error(data: st.DataObject) -> None:
    root = parse(QUICKSTART).data
    for _ in range(data.draw(st.integers(1, 3))):
        _spoil(root, data)
    try:
        _Reader("x.yaml").read(flow(root), (), {})
    except ConfigError as error:
        assert all(problem.message for problem in error.problems)


def _spoil(root: Any, data: st.DataObject) -> None:
    """Put junk somewhere, rename a key, or take a value away."""
    node = root
    while True:
        keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        node = node[key]
    action = data.draw(st.sampled_from(["junk", "take", "copy"]))
    if action == "junk":
        node[key] = deepcopy(data.draw(JUNK))
    elif action == "take":
        del node[key]
    elif isinstance(node, list):
        node.append(node[key])
    else:
        node["other"] = node[key]


# Values from outside.

VOXELS = f"{HEAD}voxelize: {{voxel_size: [1, 1, 1], max_voxels: 10}}\nlayers:\n{LAYER}"


def test_set_wins_over_the_environment_which_wins_over_the_file(load: Load) -> None:
    def cap(*sets: str, **environ: str) -> int | None:
        spec = load(VOXELS, *sets, environ=environ).voxelize
        assert spec is not None
        return spec.max_voxels

    assert cap() == 10
    assert cap(SPCLI_VOXELIZE__MAX_VOXELS="20") == 20
    assert cap("voxelize.max_voxels=30", SPCLI_VOXELIZE__MAX_VOXELS="20") == 30
    assert cap("voxelize.max_voxels=30", "voxelize.max_voxels=null") is None


def test_set_reaches_every_section(load: Load) -> None:
    sets = [
        "name=other",
        "voxelize.voxel_size=[.05, .05, .1]",
        "voxelize.point_cloud_range=[0,0,0,1,1,1]",
        "defaults.norm=BatchNorm1d",
        "defaults.norm.eps=1e-3",
        "layers.a.out_channels=32",
        "layers.a.norm.eps=1e-4",
    ]
    config = load(VOXELS, *sets)
    assert config.name == "other"
    assert config.voxelize is not None
    assert config.voxelize.voxel_size == (0.05, 0.05, 0.1)
    (layer,) = config.layers
    assert (layer.out_channels, layer.norm) == (32, BatchNorm1d(1e-4))  # type: ignore[attr-defined]


def test_set_can_make_a_section(load: Load) -> None:
    config = load(f"{HEAD}layers:\n{LAYER}", "voxelize.voxel_size=[1, 1, 1]", "defaults.activation=GELU")
    assert config.voxelize == VoxelSpec((1.0, 1.0, 1.0))
    assert config.layers[0].activation == "GELU"  # type: ignore[attr-defined]


def test_set_reaches_one_iteration_of_a_repeat_and_names_with_points(load: Load) -> None:
    text = f"""{HEAD}layers:
- repeat: 2
  layers: [{{name: "conv.{{i}}", type: SubMConv3d, out_channels: 4, kernel_size: 3}}]
- {{name: conv, type: Linear, out_channels: 4}}
"""
    config = load(text, "layers.conv.1.out_channels=8", "layers.conv.bias=false")
    assert [layer.out_channels for layer in config.layers] == [4, 8, 4]  # type: ignore[attr-defined]
    assert config.layers[2].bias is False  # type: ignore[attr-defined]


def test_set_changes_one_layers_default_and_not_the_others(load: Load) -> None:
    layers = LAYER + LAYER.replace("a,", "b,")
    config = load(
        f"{HEAD}defaults: {{norm: {{type: BatchNorm1d, eps: 1e-3}}}}\nlayers:\n{layers}", "layers.a.norm.eps=1"
    )
    assert [layer.norm.eps for layer in config.layers] == [1, 0.001]  # type: ignore[attr-defined]


def test_a_problem_has_its_own_layers_line_where_one_name_begins_with_another(problems: Problems) -> None:
    layers = "".join(LAYER.replace("a,", f"{name},") for name in ("conv", "conv.1", "conv.1.x"))
    found = problems(f"{HEAD}layers:\n{layers.replace('size: 3', 'size: 2')}")
    keys = [(line, key) for line, key, _ in found]
    assert keys == [(3 + i, f"layers.{name}.kernel_size") for i, name in enumerate(("conv", "conv.1", "conv.1.x"))]


def test_layers_in_the_environment_are_in_capitals(load: Load) -> None:
    text = f"{HEAD}layers:\n- {{name: conv2.down-a, type: SparseConv3d, out_channels: 4, kernel_size: 3}}\n"
    config = load(text, environ={"SPCLI_LAYERS__CONV2_DOWN_A__OUT_CHANNELS": "8", "SPCLI_THREADS": "x", "HOME": "/"})
    assert config.layers[0].out_channels == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("entry", "key", "message"),
    [
        ("voxelize.max_voxel=3", "voxelize.max_voxel", "unknown key 'max_voxel'; did you mean 'max_voxels'?"),
        ("voxelise.max_voxels=3", "voxelise.max_voxels", "there is no section 'voxelise'; did you mean 'voxelize'?"),
        ("version=1", "version", "there is no section 'version'"),
        (
            "voxelize.max_voxels=many",
            "voxelize.max_voxels",
            "expected a whole number from 1, or null for no limit, got",
        ),
        ("voxelize.max_voxels=[1", "voxelize.max_voxels", "is not valid YAML"),
        ("voxelize.voxel_size.x=1", "voxelize.voxel_size.x", "voxelize.voxel_size has no keys below it"),
        ("layers.b.bias=true", "layers.b.bias", "does not lead to a layer; write layers.NAME.KEY"),
        ("layers.a=1", "layers.a", "does not lead to a layer; write layers.NAME.KEY"),
        ("layers.a.kernel_size=2", "layers.a.kernel_size", "is [2, 2, 2], but a submanifold kernel must be odd"),
        ("layers.a.out_chanels=2", "layers.a.out_chanels", "unknown key 'out_chanels'; did you mean 'out_channels'?"),
    ],
)
def test_a_wrong_set_is_blamed_by_name_and_has_no_line(problems: Problems, entry: str, key: str, message: str) -> None:
    (problem,) = problems(VOXELS, entry)
    assert problem[:2] == (None, key)
    assert problem[2].startswith(message)
    assert problem[2].endswith(f"(--set {entry})")


def test_a_set_without_a_value_is_a_problem(problems: Problems) -> None:
    assert problems(VOXELS, "name") == [(None, "", "--set 'name' has no '='; write --set KEY=VALUE")]


def test_a_wrong_variable_is_blamed_by_name(problems: Problems) -> None:
    (problem,) = problems(VOXELS, environ={"SPCLI_VOXELIZE__MAX_VOXELS": "-1"})
    assert problem[1] == "voxelize.max_voxels"
    assert problem[2].endswith("got -1 (SPCLI_VOXELIZE__MAX_VOXELS)")
    (problem,) = problems(VOXELS, environ={"SPCLI_VOXELISE__MAX_VOXELS": "1"})
    assert problem[2] == "there is no section 'voxelise'; did you mean 'voxelize'? (SPCLI_VOXELISE__MAX_VOXELS)"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SPCLI_VOXELIZE_MAX_POINTS", "; did you mean 'SPCLI_VOXELIZE__MAX_POINTS'?"),
        ("SPCLI_DEFAULTS_NORM", "; did you mean 'SPCLI_DEFAULTS__NORM'?"),
        ("SPCLI_FOO", "; two underscores stand for the point of a key, as in SPCLI_VOXELIZE__MAX_POINTS"),
        ("SPCLI_THREAD", "; did you mean 'SPCLI_THREADS'?"),
        ("SPCLI_LAYERS_A_BIAS", "; two underscores stand for the point of a key, as in"),
    ],
)
def test_a_variable_that_is_no_setting_is_warned_of(load: Load, variable: str, meant: str) -> None:
    (warning,) = load(VOXELS, environ={variable: "1"}).warnings
    assert warning.startswith(f"{variable} is no setting and changes nothing{meant}")


def test_known_variables_are_not_warned_of(load: Load) -> None:
    words = ("THREADS", "DEVICE", "ISA", "LIBRARY_DIR", "EXAMPLES", "VOXELIZE__MAX_POINTS")
    environ = {**{f"SPCLI_{word}": "1" for word in words}, "_SPCLI_COMPLETE": "bash_source", "SPCLIENT": "1"}
    assert load(VOXELS, environ=environ).warnings == ()


# The resolved text, and what is known only from a scan.


@pytest.mark.parametrize("name", preset_names())
def test_the_resolved_text_loads_to_the_same_configuration(load: Load, name: str) -> None:
    config = load_preset(name, (), {})
    again = load(config.resolved)
    assert (again.name, again.voxelize, again.layers) == (config.name, config.voxelize, config.layers)
    assert (again.resolved, again.digest) == (config.resolved, config.digest)


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


def test_a_scan_that_does_not_fit_is_reported_with_the_line(load: Load) -> None:
    config = load(f"""{HEAD}layers:
- {{name: a, type: SubMConv3d, in_channels: 4,
   out_channels: 4, kernel_size: 3}}
- {{name: b, type: SparseConv3d, out_channels: 4, kernel_size: 7}}
""")
    with pytest.raises(ConfigError) as caught:
        config.network(5, (6, 9, 9))
    found = [(problem.line, problem.key) for problem in caught.value.problems]
    assert found == [(3, "layers.a.in_channels"), (5, "layers.b")]


# The JSON Schema.


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, of the extra [test], is not installed")
    return jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("name", preset_names())
def test_shipped_files_and_their_resolved_texts_satisfy_the_schema(validator: Any, name: str) -> None:
    validator.validate(parse(Path(preset_path(name)).read_text()).data)
    validator.validate(parse(load_preset(name, (), {}).resolved).data)
    validator.validate(parse(load_preset(name, ["voxelize.columns=5", "voxelize.features=null"], {}).resolved).data)


@pytest.mark.parametrize(
    "text",
    [
        "name: x",
        "{version: 2}",
        "{version: 1, nmae: x}",
        "{version: 1, layers: [{name: a, type: SubMConv3D, out_channels: 4, kernel_size: 3}]}",
        "{version: 1, layers: [{name: a, type: SubMConv3d, out_channels: 4, kernel_size: 8}]}",
        "{version: 1, layers: [{name: a, type: SubMConv3d, out_channels: 4}]}",
        "{version: 1, layers: [{name: a/b, type: ToDense}]}",
        "{version: 1, layers: [{name: a, type: Linear, out_channels: 4, norm: BatchNorm}]}",
        "{version: 1, layers: [{repeat: 0, layers: [{name: a, type: ToDense}]}]}",
        "{version: 1, voxelize: {voxel_size: [1, 1]}}",
        "{version: 1, voxelize: {voxel_size: [1, 1, 1], columns: 8}}",
        "{version: 1, defaults: {stride: 2}}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(validator: Any, load: Load, text: str) -> None:
    assert not validator.is_valid(parse(text).data)
    with pytest.raises(ConfigError):
        load(text)


def test_the_schema_is_plain_json_and_knows_every_layer_type() -> None:
    schema = json.loads(json.dumps(json_schema(), allow_nan=False))
    assert set(LAYERS) <= set(schema["$defs"])
    assert schema["$defs"]["SparseConv3d"]["properties"]["stride"]["default"] == 1
    references = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert references <= set(schema["$defs"])


# The shipped files.


def parameters_of(name: str, in_channels: int | None = None) -> int:
    layers = load_preset(name, (), {}).network(in_channels).layers
    sizes = {parameter: prod(shape) for layer in layers for parameter, shape in layer.parameters.items()}
    return sum(size for parameter, size in sizes.items() if ".running_" not in parameter)


def test_presets_are_the_ones_promised() -> None:
    assert preset_names() == (
        "centerpoint-nuscenes",
        "centerpoint-waymo",
        "minkunet-semantickitti",
        "quickstart",
        "second-kitti",
        "spunet-scannet",
    )


@pytest.mark.parametrize(
    ("name", "in_channels", "parameters"),
    [
        ("second-kitti", 4, 711_872),  # conventions of OpenPCDet's VoxelBackBone8x
        ("centerpoint-nuscenes", 5, 2_695_312),  # VoxelResBackBone8x
        ("centerpoint-waymo", 5, 2_695_312),
        ("minkunet-semantickitti", 4, 21_723_315),
        ("spunet-scannet", 6, 39_157_844),
        ("quickstart", 4, 92_136),
    ],
)
def test_presets_have_their_published_number_of_trainable_parameters(
    name: str, in_channels: int, parameters: int
) -> None:
    assert load_preset(name, (), {}).network().in_channels == in_channels
    assert parameters_of(name) == parameters


@pytest.mark.parametrize("name", preset_names())
def test_presets_warn_of_nothing_and_say_what_they_are(name: str) -> None:
    assert load_preset(name, (), {}).warnings == ()
    assert Path(preset_path(name)).read_text().startswith("# ")


def test_seconds_keys_shapes_and_voxels_are_those_of_the_reference() -> None:
    config = load_preset("second-kitti", (), {})
    network = config.network()
    keys = ["subm1", "spconv2", "subm2", "spconv3", "subm3", "spconv4", "subm4", "spconv_down2"]
    assert [keyed.key for keyed in network.program.keys] == keys
    assert network.shapes == ((41, 1600, 1408), (21, 800, 704), (11, 400, 352), (5, 200, 176), (2, 200, 176))
    assert config.voxelize is not None
    assert (config.voxelize.max_points, config.voxelize.max_voxels) == (5, None)


def test_centerpoints_grid_is_41_1440_1440() -> None:
    shapes = load_preset("centerpoint-nuscenes", (), {}).network().shapes
    assert shapes == ((41, 1440, 1440), (21, 720, 720), (11, 360, 360), (5, 180, 180), (2, 180, 180))


@pytest.mark.parametrize("name", ["minkunet-semantickitti", "spunet-scannet"])
@given(st.integers(0, 200))
def test_the_u_nets_spare_cells_keep_the_last_site_at_every_level(name: str, last: int) -> None:
    config = load_preset(name, (), {})
    assert config.voxelize is not None
    side = last + 1 + config.voxelize.spatial_shape_extra[0]
    for level in range(5):
        assert last >> level < side
        side //= 2


@pytest.mark.parametrize("name", ["minkunet-semantickitti", "spunet-scannet"])
def test_the_u_nets_end_on_the_sites_of_the_input(name: str) -> None:
    network = load_preset(name, (), {}).network()
    assert network.layers[-1].out_sites == 0
    assert sum(layer.inverse for layer in network.layers) == 4


def test_an_unknown_preset_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no preset 'second-kiti'; did you mean 'second-kitti'\?"):
        load_preset("second-kiti")
    with pytest.raises(UsageError, match="there is no such file and no such preset; did you mean 'quickstart'"):
        load_config("quickstat")
    with pytest.raises(UsageError, match="there is no such file and no such preset; presets are centerpoint-nuscenes"):
        load_config(str(tmp_path / "nothing"))


def test_a_presets_name_stands_for_its_file() -> None:
    assert load_config("quickstart", (), {}).source == preset_path("quickstart")


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys; from spcli.config import load_config; load_config('second-kitti', (), {});"
        "print([m for m in ('torch', 'open3d', 'safetensors', 'click', 'difflib', 'zipfile', 'tempfile',"
        " 'concurrent.futures', 'jsonschema', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The developer's own SPCLI_* variables change nothing here."""
    import os

    for name in [name for name in os.environ if name.startswith("SPCLI_") and "__" in name]:
        monkeypatch.delenv(name)
    yield
