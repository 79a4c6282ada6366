"""The sections of a configuration as types: their fields are the YAML keys, as those of `layers/` are."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from spcli.errors import ConfigError, Problem, suggestion
from spcli.grid import FeatureColumn, VoxelSpec, fixed_grid
from spcli.layers.base import ActivationKey, NormKey, Switch

VERSION = 1
MAX_REPEAT = 1000

_Metres = Annotated[float, Meta(gt=0)]
_Column = Annotated[str, Meta(min_length=1)]
_Cap = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Cells = Annotated[int, Meta(ge=0, le=65536)]
_Cap_or_null = Annotated[_Cap | None, Meta(description="a whole number from 1, or null for no limit")]

VoxelSize = Annotated[
    tuple[_Metres, _Metres, _Metres], Meta(description="three numbers of metres above 0 in x, y, z order")
]
Range = Annotated[
    tuple[float, float, float, float, float, float] | None,
    Meta(description="six numbers of metres, [x0, y0, z0, x1, y1, z1], or null for each scan's own range"),
]
Extra = Annotated[
    tuple[_Cells, _Cells, _Cells], Meta(description="three whole numbers from 0 in z, y, x order, such as [1, 0, 0]")
]
Columns = Annotated[
    Annotated[int, Meta(ge=3, le=7)] | tuple[_Column, ...] | None,
    Meta(description="a list of the file's column names, such as [x, y, z, intensity], or their number, 3 to 7"),
]
Reduction = Annotated[Literal["mean", "first", "max", "sum"], Meta(description="mean, first, max or sum")]
_Number = Annotated[float | None, Meta(description="a number")]


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel made from a column: `tanh(column / scale)`, or `value` where the file has no such column."""

    name: Annotated[_Column, Meta(description="a column's name")]
    scale: _Number = None
    tanh: Switch = False
    value: _Number = None


Features = Annotated[
    tuple[_Column | Feature, ...] | None,
    Meta(description="a list of column names and entries such as {name: intensity, scale: 255}"),
]


class Voxelize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `voxelize` section: how points become voxels."""

    voxel_size: VoxelSize
    point_cloud_range: Range = None
    max_points: _Cap_or_null = None
    max_voxels: _Cap_or_null = None
    reduce: Reduction = "mean"
    spatial_shape_extra: Extra = (0, 0, 0)
    columns: Columns = None
    features: Features = None

    def spec(self) -> VoxelSpec:
        """The specification engines take."""
        features = None
        if self.features is not None:
            entries = [Feature(name=entry) if isinstance(entry, str) else entry for entry in self.features]
            features = tuple(FeatureColumn(f.name, f.scale, f.tanh, f.value) for f in entries)
        return VoxelSpec(
            self.voxel_size,
            self.point_cloud_range,
            self.max_points,
            self.max_voxels,
            self.reduce,
            self.spatial_shape_extra,
            self.column_names(),
            features,
        )

    def column_names(self) -> tuple[str, ...] | None:
        """The file's columns; a bare number of them has the names that readers give."""
        if not isinstance(self.columns, int):
            return self.columns
        from spcli.readers.columns import default_names

        return default_names(self.columns)


class Defaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `defaults` section: what convolutions and Linear layers have unless they say otherwise."""

    norm: NormKey = None
    activation: ActivationKey = None
    bias: Switch = True


def check_voxelize(spec: VoxelSpec, doubtful: frozenset[str] = frozenset()) -> list[Problem]:
    """What is wrong with a specification whose types are right, but for the `doubtful` keys, which hold defaults."""
    problems = _check_columns(spec) + _check_features(spec)
    numbers = [("voxel_size", spec.voxel_size), ("point_cloud_range", spec.point_cloud_range or ())]
    infinite = [key for key, values in numbers if not all(isfinite(value) for value in values)]
    problems += [Problem("must be finite numbers", f"voxelize.{key}") for key in infinite]
    if infinite or spec.point_cloud_range is None:
        return problems
    low, high = spec.point_cloud_range[:3], spec.point_cloud_range[3:]
    empty = [axis for axis, a, b in zip("xyz", low, high, strict=True) if a >= b]
    if empty:
        message = f"is empty along {', '.join(empty)}; the order is [x0, y0, z0, x1, y1, z1]"
        return [*problems, Problem(message, "voxelize.point_cloud_range")]
    if "voxel_size" in doubtful:
        return problems
    try:
        fixed_grid(spec)
    except ConfigError as error:
        problems += error.problems
    return problems


def voxelize_warnings(spec: VoxelSpec) -> tuple[str, ...]:
    """What is allowed but seldom meant: a range that is not a whole number of voxels."""
    if spec.point_cloud_range is None:
        return ()
    low, high = spec.point_cloud_range[:3], spec.point_cloud_range[3:]
    cells = {axis: (b - a) / s for axis, a, b, s in zip("xyz", low, high, spec.voxel_size, strict=True)}
    uneven = {axis: n for axis, n in cells.items() if abs(n - round(n)) > 1e-4}
    return tuple(
        f"voxelize.point_cloud_range is {n:.4f} voxels along {axis}; the grid has {round(n)}"
        for axis, n in uneven.items()
    )


def _check_columns(spec: VoxelSpec) -> list[Problem]:
    if spec.columns is None:
        return []
    problems = []
    missing = [axis for axis in "xyz" if axis not in spec.columns]
    if missing:
        problems.append(Problem(f"lacks {', '.join(missing)}; x, y and z must be among them", "voxelize.columns"))
    twice = sorted({name for name in spec.columns if spec.columns.count(name) > 1})
    if twice:
        problems.append(Problem(f"names {', '.join(twice)} more than once", "voxelize.columns"))
    return problems


def _check_features(spec: VoxelSpec) -> list[Problem]:
    if spec.features is None:
        return []
    problems = [] if spec.features else [Problem("is empty; leave it out to use every column", "voxelize.features")]
    for feature in spec.features:
        if spec.columns is not None and feature.name not in spec.columns and feature.value is None:
            hint = suggestion(feature.name, spec.columns) or "; give it a `value` if the file lacks it"
            problems.append(Problem(f"{feature.name!r} is not among voxelize.columns{hint}", "voxelize.features"))
        if any(number is not None and not isfinite(number) for number in (feature.scale, feature.value)):
            problems.append(Problem(f"{feature.name!r} needs finite numbers", "voxelize.features"))
        if feature.scale == 0:
            problems.append(Problem(f"{feature.name!r} is divided by scale 0", "voxelize.features"))
    return problems
