"""Values from outside a file: `--set` and the environment."""

from __future__ import annotations

import pytest

from configurations import HEAD, LAYER, VOXELS, Load, Problems
from spcli.grid import VoxelSpec
from spcli.layers.base import BatchNorm1d


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
    words = ("THREADS", "DEVICE", "ISA", "LIBRARY_DIR", "VOXELIZE__MAX_POINTS")
    environ = {**{f"SPCLI_{word}": "1" for word in words}, "_SPCLI_COMPLETE": "bash_source", "SPCLIENT": "1"}
    assert load(VOXELS, environ=environ).warnings == ()
