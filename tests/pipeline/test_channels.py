"""From a file's columns to the channels of a voxel."""

from __future__ import annotations

import numpy as np
import pytest

from spcli.errors import InputError
from spcli.grid import FeatureColumn, VoxelSpec
from spcli.pipeline.channels import channel_names, engine_points
from spcli.points import PointCloud

COLUMNS = ("x", "y", "z", "intensity")
CLOUD = PointCloud(np.array([[1, 2, 3, 51], [4, 5, 6, np.inf]], np.float32), COLUMNS, "a.bin")


def spec(*features: FeatureColumn, columns=None) -> VoxelSpec:
    return VoxelSpec((1, 1, 1), features=features or None, columns=columns)


def channels(*features: FeatureColumn) -> np.ndarray:
    points = engine_points(CLOUD, spec(*features))
    return points.values[:, points.features]


def test_without_features_every_column_is_one_and_nothing_is_copied():
    points = engine_points(CLOUD, spec())
    assert (points.xyz, points.features) == ((0, 1, 2), (0, 1, 2, 3))
    assert points.values is CLOUD.values


def test_plain_features_pick_columns_in_their_order():
    points = engine_points(CLOUD, spec(FeatureColumn("intensity"), FeatureColumn("x")))
    assert points.features == (3, 0)
    assert points.values is CLOUD.values


def test_axes_are_found_by_name():
    cloud = PointCloud(np.zeros((1, 4), np.float32), ("intensity", "z", "y", "x"))
    assert engine_points(cloud, spec()).xyz == (3, 2, 1)


def test_a_scale_divides_in_float32():
    assert channels(FeatureColumn("intensity", scale=255))[0].tolist() == [np.float32(51) / np.float32(255)]


def test_a_squashed_infinity_stays_recognizable():
    squashed = channels(FeatureColumn("intensity", scale=51, tanh=True))[:, 0]
    assert squashed[0] == np.tanh(np.float32(1))
    assert np.isnan(squashed[1])


def test_a_value_stands_in_for_a_missing_column_only():
    both = channels(FeatureColumn("dt", value=7), FeatureColumn("x", value=7))
    assert both.tolist() == [[7, 1], [7, 4]]


def test_a_missing_column_without_a_value_names_the_remedy():
    with pytest.raises(InputError, match=r"a\.bin: has the columns x, y, z, intensity and no 'dt'.*value: 0"):
        channels(FeatureColumn("dt"))


def test_added_columns_keep_the_others():
    points = engine_points(CLOUD, spec(FeatureColumn("z"), FeatureColumn("intensity", scale=2)))
    assert points.features == (2, 4)
    np.testing.assert_array_equal(points.values[:, :4], CLOUD.values)
    assert points.values.flags.c_contiguous


@pytest.mark.parametrize(
    ("voxelize", "columns", "names"),
    [
        (spec(), None, None),
        (spec(columns=COLUMNS), None, COLUMNS),
        (spec(), COLUMNS, COLUMNS),
        (spec(FeatureColumn("z"), FeatureColumn("i", scale=255)), None, ("z", "i/255")),
        (spec(FeatureColumn("i", scale=0.5, tanh=True)), None, ("tanh(i/0.5)",)),
        (spec(FeatureColumn("i", scale=2, value=0), columns=COLUMNS), None, ("i",)),
        (spec(FeatureColumn("intensity", scale=2, value=0), columns=COLUMNS), None, ("intensity/2",)),
    ],
)
def test_channels_say_how_they_were_made(voxelize, columns, names):
    assert channel_names(voxelize, columns) == names
