"""The configurations that are shipped: their names, sizes, grids and resolved texts."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurations import Load
from spcli.config import load_config, load_preset, preset_names, preset_path
from spcli.errors import UsageError


@pytest.mark.parametrize("name", preset_names())
def test_the_resolved_text_loads_to_the_same_configuration(load: Load, name: str) -> None:
    config = load_preset(name, (), {})
    again = load(config.resolved)
    assert (again.name, again.voxelize, again.layers) == (config.name, config.voxelize, config.layers)
    assert (again.resolved, again.digest) == (config.resolved, config.digest)


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
