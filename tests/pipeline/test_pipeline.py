"""The library: one scan at a time gives values, and the values agree with what the commands write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spcli
from spcli.config import read_config
from spcli.engines import load_engine
from spcli.engines.base import Want
from spcli.errors import CheckpointError, ConfigError, DeviceError, InputError, UsageError
from spcli.grid import VoxelSpec
from spcli.pipeline.parameters import Weights
from spcli.pipeline.run import run, voxelize
from spcli.pipeline.session import Session
from spcli.points import PointCloud
from spcli.sparse_tensor import SparseTensor

NETWORK = """\
version: 1
voxelize: {voxel_size: [1, 1, 1], point_cloud_range: [0, 0, 0, 4, 3, 2]}
layers:
  - {name: a, type: SubMConv3d, out_channels: 3, kernel_size: 3, indice_key: k}
  - {name: b, type: SparseConv3d, out_channels: 2, kernel_size: 2, stride: 2}
"""
POINTS = [[0.5, 0.5, 0.5, 1], [3.5, 2.5, 1.5, 2], [3.4, 2.4, 1.4, 4]]
CLOUD = PointCloud(np.array(POINTS, np.float32), ("x", "y", "z", "i"))


@pytest.fixture
def config():
    return read_config(NETWORK)


def test_the_package_itself_imports_next_to_nothing():
    code = "import sys; import spcli; print([m for m in ('numpy', 'click', 'yaml', 'msgspec') if m in sys.modules])"
    root = Path(spcli.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", spcli.__all__)
def test_every_public_name_is_there(name):
    assert getattr(spcli, name) is not None
    assert name in dir(spcli)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        spcli.nonsense  # noqa: B018


def test_points_become_voxels():
    scan = voxelize(CLOUD, VoxelSpec((1, 1, 1), (0, 0, 0, 4, 3, 2)), point_map=True)
    assert scan.tensor.indices.tolist() == [[0, 0, 0, 0], [0, 1, 2, 3]]
    assert scan.num_points.tolist() == [1, 2]
    assert scan.point_rows.tolist() == [0, 1, 1]
    np.testing.assert_allclose(scan.tensor.features[1], [3.45, 2.45, 1.45, 3], rtol=1e-6)


def test_hard_voxels_need_a_cap():
    with pytest.raises(UsageError, match="max_points"):
        voxelize(CLOUD, VoxelSpec((1, 1, 1)), hard=True)


def test_a_run_brings_back_features_rulebooks_and_statistics(config):
    result = run(config, CLOUD)
    # Windows of two cells: the third row of cells is in none.
    assert result.features.indices.tolist() == [[0, 0, 0, 0]]
    assert result.features.features.shape == (1, 2)
    assert set(result.rulebooks) == {"k", "b"}
    assert result.stats["points"]["read"] == 3
    assert result.network.in_channels == 4


def test_a_path_points_and_their_tensor_give_the_same_features(config, tmp_path):
    np.save(tmp_path / "a.npy", CLOUD.values)
    tensor = voxelize(CLOUD, config.voxelize).tensor
    path = str(tmp_path / "a.npy")
    results = [run(config, scan) for scan in (path, CLOUD, tensor, spcli.read(path))]
    assert len({result.features.features.tobytes() for result in results}) == 1
    assert results[2].stats["points"] is None


def test_a_wish_for_maps_alone_computes_no_features(config):
    result = run(config, CLOUD, want=Want(rulebooks=True, values=False))
    assert result.frame.outputs == {}
    assert len(result.rulebooks["k"].in_rows) == 2


def test_seeds_give_other_weights(config):
    one, other = (run(config, CLOUD, weights=Weights(seed=seed)).features.features for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_a_voxelized_file_is_no_scan_to_voxelize(config, tmp_path):
    tensor = voxelize(CLOUD, config.voxelize).tensor
    np.savez(tmp_path / "a.npz", indices=tensor.indices, features=tensor.features, spatial_shape=[2, 3, 4])
    with pytest.raises(InputError, match="voxelized already"):
        voxelize(str(tmp_path / "a.npz"), config.voxelize)


def test_points_need_to_know_how_to_become_voxels():
    config = read_config(NETWORK.replace("voxelize: {", "# {"))
    with pytest.raises(ConfigError, match="holds points"):
        run(config, CLOUD)


def test_a_data_dependent_range_gives_each_scan_its_shape():
    config = read_config(NETWORK.replace(", point_cloud_range: [0, 0, 0, 4, 3, 2]", ""))
    wide = PointCloud(CLOUD.values * np.float32([3, 1, 1, 1]), CLOUD.columns)
    shapes = [run(config, cloud).stats["layers"][0]["in_spatial_shape"] for cloud in (CLOUD, wide)]
    assert shapes == [[2, 3, 4], [2, 3, 10]]


def test_the_height_of_a_scans_own_grid_counts_in_its_statistics():
    text = NETWORK.replace(", point_cloud_range: [0, 0, 0, 4, 3, 2]", "")
    config = read_config(text + "  - {name: c, type: HeightCompression, input: a}\n")
    tall = PointCloud(CLOUD.values * np.float32([1, 1, 4, 1]), CLOUD.columns)
    channels = [run(config, cloud).stats["layers"][2]["out_channels"] for cloud in (CLOUD, tall)]
    assert channels == [3 * 2, 3 * 5]


def test_inputs_of_several_shapes_are_prepared_once(monkeypatch):
    config = read_config("\n".join(line for line in NETWORK.splitlines() if "voxelize" not in line))
    engine = load_engine("cpu")
    compiled = []

    class Counting(type(engine)):
        def compile(self, program, *rest):
            compiled.append(program)
            return super().compile(program, *rest)

    session = Session(config, device=Counting(), want=Want(("b",)))
    for side, channels in ((4, 2), (6, 2), (4, 3), (6, 3)):
        tensor = SparseTensor(np.ones((1, channels), np.float32), np.zeros((1, 4), np.int32), (side,) * 3)
        result = session.run(tensor)
        assert result.features.spatial_shape == (side // 2,) * 3
    assert len(compiled) == 2


def test_a_tensor_of_another_shape_than_the_range_is_refused(config):
    with pytest.raises(InputError, match=r"spatial shape is \[9, 3, 4\], but the configuration's is \[2, 3, 4\]"):
        run(config, SparseTensor(np.ones((1, 4), np.float32), np.zeros((1, 4), np.int32), (9, 3, 4)))


def rows(*sites: list[int], features: type = np.float32, indices: type = np.int32) -> SparseTensor:
    """Sites of the fixture's grid with the features 1, 2, ... in four channels."""
    values = np.repeat(np.arange(1, len(sites) + 1, dtype=features)[:, None], 4, axis=1)
    return SparseTensor(values, np.array(sites, indices).reshape(-1, 4), (2, 3, 4))


def test_a_tensor_whose_rows_are_unsorted_is_sorted_and_that_is_said(config):
    one, other = [0, 0, 0, 1], [0, 1, 2, 3]
    tensor = rows(one, other)
    given = SparseTensor(tensor.features[::-1], tensor.indices[::-1], tensor.spatial_shape)
    straight, turned = run(config, tensor, want=Want(("a",))), run(config, given, want=Want(("a",)))
    np.testing.assert_array_equal(turned.frame.outputs["a"].features, straight.frame.outputs["a"].features)
    assert "have been sorted" in turned.warnings[0]
    assert not any("sorted" in warning for warning in straight.warnings)


def test_a_tensor_of_other_number_types_is_converted(config):
    sites = [0, 0, 0, 1], [0, 1, 2, 3]
    results = [run(config, rows(*sites)), run(config, rows(*sites, features=np.float64, indices=np.int64))]
    assert len({result.features.features.tobytes() for result in results}) == 1


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (rows([0, 0, 0, 0], [0, -1, 0, 0]), r"row 1 is at \[0, -1, 0, 0\], outside"),
        (rows([0, 2, 0, 0]), "row 0 is at .*outside batch_size 1 and spatial_shape"),
        (rows([1, 0, 0, 0]), "outside batch_size 1"),
        (rows([0, 2**32, 0, 0], indices=np.int64), "outside batch_size 1"),
        (rows([0, 0, 0, 1], [0, 0, 0, 1]), "row 1 repeats the site"),
        (rows([0, 0, 0, 1], features=complex), "complex128"),
        (SparseTensor(np.ones((2, 4), np.float32), np.zeros((1, 4), np.int32), (2, 3, 4)), r"not \[1, C\]"),
        (SparseTensor(np.ones((1, 4), np.float32), np.zeros((1, 3), np.int32), (2, 3, 4)), r"\[N, 1 \+ D\]"),
        (SparseTensor(np.ones((1, 4), np.float32), np.zeros((1, 4), np.int32), (2, 3, 4), 0), "batch_size is 0"),
    ],
    ids=["negative", "beyond", "batch", "wide", "twice", "complex", "rows", "axes", "no batch"],
)
def test_a_tensor_that_cannot_be_used_is_a_sentence(config, tensor, message):
    with pytest.raises(InputError, match=message):
        run(config, tensor)


def test_a_convolution_of_one_cell_keeps_its_sites_and_is_still_no_submanifold_one(config):
    config = read_config(
        NETWORK.replace("kernel_size: 2, stride: 2", "kernel_size: 1") + "  - {name: c, type: Concat, inputs: [a, b]}\n"
    )
    result = run(config, CLOUD)
    book = result.rulebooks["b"]
    assert not book.geometry.submanifold
    assert book.in_rows.tolist() == book.out_rows.tolist() == [0, 1]
    assert result.features.features.shape == (2, 5)


def test_features_that_are_not_finite_are_warned_of_with_their_number(config):
    assert not any("finite" in warning for warning in run(config, CLOUD).warnings)
    values = CLOUD.values.copy()
    values[:, 3] = 3e38
    result = run(config, PointCloud(values, CLOUD.columns), weights={
        name: np.full_like(array, 9) for name, array in spcli.initial_parameters(config.network(4, None), 0).items()
    })  # fmt: skip
    wrong = int((~np.isfinite(result.features.features)).sum())
    told = [warning for warning in result.warnings if "not finite" in warning]
    assert wrong and told[0].startswith(f"{wrong} values of b are not finite")


def test_a_scan_without_points_names_the_first_of_many_empty_layers():
    more = "".join(f"  - {{name: c{i}, type: Linear, out_channels: 2}}\n" for i in range(8))
    warnings = run(read_config(NETWORK + more), PointCloud(CLOUD.values[:0], CLOUD.columns)).warnings
    assert warnings[-1] == "no active output site in layers a and 9 more"


def test_weights_are_a_file_arrays_a_seed_or_their_description(config, tmp_path):
    network = config.network(4, (2, 3, 4))
    arrays = spcli.initial_parameters(network, 3)
    spcli.save_weights(str(tmp_path / "w.npz"), arrays)
    doubles = {name: array.astype(np.float64) for name, array in arrays.items()}
    given = [str(tmp_path / "w.npz"), tmp_path / "w.npz", arrays, doubles, 3, Weights(seed=3)]
    assert len({run(config, CLOUD, weights=weights).features.features.tobytes() for weights in given}) == 1
    with pytest.raises(CheckpointError, match=r"the arrays does not fit the network: 1 missing \(a\.weight\)"):
        run(config, CLOUD, weights={name: array for name, array in arrays.items() if name != "a.weight"})


def test_layers_and_rulebooks_say_what_comes_back(config):
    result = run(config, CLOUD, layers=("a",), rulebooks=False)
    assert list(result.outputs) == ["b", "a"]
    assert result.rulebooks == {}
    with pytest.raises(UsageError, match="there is no layer 'z'; there are a, b"):
        run(config, CLOUD, layers=("z",))


def test_a_path_object_and_an_array_are_scans(config, tmp_path):
    np.save(tmp_path / "a.npy", CLOUD.values)
    results = [run(config, scan) for scan in (CLOUD, tmp_path / "a.npy", CLOUD.values, CLOUD.values.astype(np.float64))]
    assert len({result.features.features.tobytes() for result in results}) == 1
    swapped = CLOUD.values[:, [1, 0, 2, 3]]
    tensor = voxelize(swapped, config.voxelize, columns=("y", "x", "z", "i")).tensor
    assert tensor.indices.tolist() == voxelize(CLOUD, config.voxelize).tensor.indices.tolist()


@pytest.mark.parametrize(
    ("key", "value"),
    [("reduce", "median"), ("max_points", 0), ("max_voxels", 1.5), ("spatial_shape_extra", (-1, 0, 0)),
     ("voxel_size", (0, 1, 1)), ("voxel_size", (1, 1)), ("point_cloud_range", (0, 0, 0, 0, 1, 1))],
)  # fmt: skip
def test_a_specification_made_by_hand_is_checked(key, value):
    spec = {"voxel_size": (1, 1, 1), key: value}
    with pytest.raises(ConfigError, match=f"voxelize.{key}: (is|expected) "):
        voxelize(CLOUD, VoxelSpec(**spec))


def test_an_engine_that_is_not_there_is_a_sentence():
    with pytest.raises(DeviceError, match="there is no engine 'tpu' in this version of spcli; there are: cpu"):
        load_engine("tpu")


def test_rulebooks_come_back_from_their_dump(config, tmp_path):
    result = run(config, CLOUD)
    spcli.write_rulebooks(str(tmp_path / "a.npz"), result.network.program.keys, result.rulebooks, {})
    found = spcli.load_rulebooks(tmp_path / "a.npz")
    assert list(found) == ["k", "b"]
    np.testing.assert_array_equal(found["k"].in_rows, result.rulebooks["k"].in_rows)
    with pytest.raises(InputError, match="cannot be read"):
        spcli.load_rulebooks(tmp_path / "none.npz")


def test_a_number_of_columns_in_the_configuration_reaches_the_reader(tmp_path):
    config = read_config(NETWORK.replace("voxelize: {", "voxelize: {columns: 5, "))
    path = tmp_path / "scan.bin"
    # The steps between points speak for 4 columns: names would be refused, a number is obeyed.
    steps = np.linspace(0, 3, 400, dtype=np.float32)
    np.stack([steps, steps, steps, np.full(400, 9, np.float32)], axis=1).tofile(path)
    assert run(config, path).frame.scan.points.read == 320
