"""The voxelize section: what it may say, and what is said about what it may not."""

from __future__ import annotations

import pytest

from configurations import HEAD, LAYER, VOXELS, Load, Problems
from spcli.grid import FeatureColumn


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
