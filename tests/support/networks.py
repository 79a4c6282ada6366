"""Small networks: layers in one line each, and the problems of a list of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spcli.errors import ConfigError
from spcli.grid import VoxelSpec
from spcli.layers import LAYERS, Layer
from spcli.lowering import build_network
from spcli.network import Network

KITTI = VoxelSpec(
    (0.05, 0.05, 0.1),
    (0, -40, -3, 70.4, 40, 1),
    spatial_shape_extra=(1, 0, 0),
    columns=("x", "y", "z", "intensity"),
)


def make(kind: str, name: str, **keys: Any) -> Layer:
    return msgspec.convert({"type": kind, "name": name, **keys}, LAYERS[kind])


def subm(name: str, **keys: Any) -> Layer:
    return make("SubMConv3d", name, **{"out_channels": 4, "kernel_size": 3, **keys})


def conv(name: str, **keys: Any) -> Layer:
    return make("SparseConv3d", name, **{"out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1, **keys})


def up(name: str, **keys: Any) -> Layer:
    return make("SparseInverseConv3d", name, **{"out_channels": 4, "kernel_size": 3, **keys})


def built(*layers: Layer, shape: tuple[int, ...] | None = (8, 8, 8)) -> Network:
    return build_network(layers, None, 4, shape)


def problems(*layers: Layer, shape: tuple[int, ...] | None = (8, 8, 8)) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        built(*layers, shape=shape)
    return [(problem.key, problem.message) for problem in caught.value.problems]


def only(found: list[tuple[str, str]]) -> tuple[str, str]:
    (problem,) = found
    return problem
