"""From a file's columns to the channels of a voxel, before points are reduced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Points
from spcli.errors import InputError
from spcli.grid import FeatureColumn, VoxelSpec
from spcli.points import PointCloud


def engine_points(cloud: PointCloud, spec: VoxelSpec) -> Points:
    """The points with a column for every channel of `spec`.

    A channel that is a column as it stands costs nothing; a scaled, squashed or constant one is appended as a new
    float32 column.

    Raises:
        InputError: a channel is made from a column the scan lacks and has no `value` to stand in.
    """
    wanted = spec.features if spec.features is not None else tuple(map(FeatureColumn, cloud.columns))
    numbers: list[int] = []
    derived: list[NDArray[np.float32]] = []
    for feature in wanted:
        if feature.name in cloud.columns and feature.scale is None and not feature.tanh:
            numbers.append(cloud.columns.index(feature.name))
        else:
            numbers.append(len(cloud.columns) + len(derived))
            derived.append(_derived(cloud, feature))
    values = np.column_stack([cloud.values, *derived]) if derived else cloud.values
    x, y, z = (cloud.columns.index(axis) for axis in "xyz")
    return Points(np.ascontiguousarray(values, np.float32), (x, y, z), tuple(numbers))


def _derived(cloud: PointCloud, feature: FeatureColumn) -> NDArray[np.float32]:
    if feature.name not in cloud.columns:
        if feature.value is None:
            raise InputError(
                f"{cloud.source}: has the columns {', '.join(cloud.columns)} and no {feature.name!r}; name its columns "
                f"with --columns, or give the feature a constant: {{name: {feature.name}, value: 0}}"
            )
        return np.full(len(cloud.values), feature.value, np.float32)
    column = cloud.values[:, cloud.columns.index(feature.name)]
    if not feature.tanh:
        return _scaled(column, feature.scale)
    # tanh makes infinity a 1; the point must stay recognizable as non-finite.
    squashed = np.tanh(_scaled(column, feature.scale))
    return np.where(np.isfinite(column), squashed, np.float32(np.nan))


def _scaled(column: NDArray[np.float32], scale: float | None) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return column if scale is None else column / np.float32(scale)


def channel_names(spec: VoxelSpec, columns: tuple[str, ...] | None = None) -> tuple[str, ...] | None:
    """What each channel of a voxel is: `x`, `intensity/255`, `tanh(intensity)`; None while the columns are unknown.

    `columns` are those of a scan that was read; without them those of `spec` count.
    """
    columns = columns or spec.columns
    if spec.features is None:
        return columns
    return tuple(_label(feature, columns or ()) for feature in spec.features)


def _label(feature: FeatureColumn, columns: tuple[str, ...]) -> str:
    if feature.value is not None and columns and feature.name not in columns:
        return feature.name
    label = feature.name if feature.scale is None else f"{feature.name}/{feature.scale:g}"
    return f"tanh({label})" if feature.tanh else label
