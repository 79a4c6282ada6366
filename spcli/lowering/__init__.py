"""Layers in order to a network: shapes, channels, the indice_key graph, and the program engines execute.

Everything that can be known before a scan is read is checked here, and all problems are reported at once. What is
not known yet (the channels of a file without named columns, the shape of a data-dependent grid) flows through as
unknown; the same layers are then lowered again once it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from spcli.errors import ConfigError, Problem
from spcli.grid import VoxelSpec, fixed_grid
from spcli.layers.base import Layer
from spcli.lowering.builder import NetworkBuilder, Unreadable
from spcli.lowering.checks import SitesEntry
from spcli.network import Network
from spcli.program import Shape

__all__ = ["Unreadable", "build_network", "lower_layers"]


def build_network(
    layers: Sequence[Layer],
    voxelize: VoxelSpec | None = None,
    in_channels: int | None = None,
    spatial_shape: Shape | None = None,
) -> Network:
    """Check `layers` and lower them to a program.

    Args:
        layers: the layers, in order.
        voxelize: how points become the input; None where inputs are tensors.
        in_channels: channels of the input; None takes them from `voxelize` where its columns or features say.
        spatial_shape: shape of the input (z, y, x); None takes it from the range of `voxelize` where it has one.

    Raises:
        ConfigError: carries every problem found.
    """
    network, problems = lower_layers(layers, voxelize, in_channels, spatial_shape)
    if network is None:
        raise ConfigError(problems)
    return network


def lower_layers(
    layers: Sequence[Layer | Unreadable],
    voxelize: VoxelSpec | None = None,
    in_channels: int | None = None,
    spatial_shape: Shape | None = None,
) -> tuple[Network | None, list[Problem]]:
    """As `build_network`, but returns the problems, and tolerates layers that could not be read."""
    if not layers:
        return None, [Problem("has no layers; a network needs at least one", "layers")]
    try:
        shape = spatial_shape or _shape_of(voxelize)
    except ConfigError as error:
        return None, list(error.problems)
    ndim = len(shape) if shape else 3 if voxelize else None
    lowering = NetworkBuilder(layers, SitesEntry(ndim, shape, "the input"), in_channels or _channels_of(voxelize))
    for layer in layers:
        lowering.take(layer)
    if any(isinstance(layer, Unreadable) for layer in layers):
        return None, lowering.problems
    if voxelize is not None and not lowering.problems:
        lowering.check_heights()
    return (None, lowering.problems) if lowering.problems else (lowering.network(voxelize), [])


def _channels_of(voxelize: VoxelSpec | None) -> int:
    if voxelize is None:
        return 0
    return len(voxelize.features or voxelize.columns or ())


def _shape_of(voxelize: VoxelSpec | None) -> Shape | None:
    if voxelize is None or voxelize.point_cloud_range is None:
        return None
    return fixed_grid(voxelize).spatial_shape
