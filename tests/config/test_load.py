"""A file as a whole: what it may say, and the problems that are reported with their lines."""

from __future__ import annotations

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurations import HEAD, LAYER, Load, Problems
from spcli.config import preset_path
from spcli.config.load import _Reader
from spcli.config.yaml_text import flow, parse
from spcli.errors import ConfigError
from spcli.grid import FeatureColumn, VoxelSpec
from spcli.layers.base import BatchNorm1d
from strategies import examples

QUICKSTART = Path(preset_path("quickstart")).read_text()


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


def test_the_error_gives_file_line_key_and_sentence(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"{HEAD}layers:\n{LAYER}- {{name: b, type: SubMConv3d, out_channels: 4, kernel_size: 3, stride: 2}}\n")
    assert re.search(
        r"net\.yaml: line 4, layers\.b\.stride: is \[2, 2, 2\], but a submanifold convolution has stride 1",
        str(caught.value),
    )


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


def test_a_problem_has_its_own_layers_line_where_one_name_begins_with_another(problems: Problems) -> None:
    layers = "".join(LAYER.replace("a,", f"{name},") for name in ("conv", "conv.1", "conv.1.x"))
    found = problems(f"{HEAD}layers:\n{layers.replace('size: 3', 'size: 2')}")
    keys = [(line, key) for line, key, _ in found]
    assert keys == [(3 + i, f"layers.{name}.kernel_size") for i, name in enumerate(("conv", "conv.1", "conv.1.x"))]


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


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys; from spcli.config import load_config; load_config('second-kitti', (), {});"
        "print([m for m in ('torch', 'open3d', 'safetensors', 'click', 'difflib', 'zipfile', 'tempfile',"
        " 'concurrent.futures', 'jsonschema', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
