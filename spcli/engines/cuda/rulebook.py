"""Maps on the device: output sites, neighbour tables and their export as rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spcli.engines.cuda.sites import CudaSites
from spcli.geometry import ConvGeometry


@dataclass(frozen=True)
class CudaMap:
    """An executable rulebook.

    Attributes:
        geometry: of the forward convolution, also where the map is inverted.
        inputs, outputs: the sites at either end.
        table: int32 `[V, stride]`, stride >= outputs.capacity and a multiple of 128: the input row that tap k brings
            to an output row, -1 for none. Columns from `outputs.total` on are undefined.
        pairs: int32 `[V]`, rules of each tap.
        fullest: int32 `[1]`, most rules that end in one output row.
        inverted: whether the ends are swapped.
        tiles: what the convolutions prepared for this map, by block height; shared by the layers that use it.
    """

    geometry: ConvGeometry
    inputs: CudaSites
    outputs: CudaSites
    table: Tensor
    pairs: Tensor
    fullest: Tensor
    inverted: bool = False
    tiles: dict[Any, Any] = field(default_factory=dict, compare=False)
