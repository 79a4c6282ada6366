"""Texts of configurations that tests are made from, and the types of the fixtures that load them."""

from __future__ import annotations

from collections.abc import Callable

from spcli.config import Config

Load = Callable[..., Config]
Problems = Callable[..., list[tuple[int | None, str, str]]]

HEAD = "version: 1\n"
LAYER = "- {name: a, type: SubMConv3d, out_channels: 4, kernel_size: 3}\n"
VOXELS = f"{HEAD}voxelize: {{voxel_size: [1, 1, 1], max_voxels: 10}}\nlayers:\n{LAYER}"
