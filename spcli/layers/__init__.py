"""The table of layer types: a configuration's `type` to the class. A new type is one file and one line here."""

from __future__ import annotations

from spcli.layers.base import BEFORE, BatchNorm1d, Layer, LayerNorm, Norm
from spcli.layers.conv import (
    SparseConv2d,
    SparseConv3d,
    SparseConvTranspose2d,
    SparseConvTranspose3d,
    SparseInverseConv2d,
    SparseInverseConv3d,
    SubMConv2d,
    SubMConv3d,
)
from spcli.layers.dense import HeightCompression, ToDense
from spcli.layers.join import Add, ChannelReduction, Concat
from spcli.layers.linear import Linear
from spcli.layers.pool import (
    SparseAvgPool2d,
    SparseAvgPool3d,
    SparseGlobalAvgPool,
    SparseGlobalMaxPool,
    SparseMaxPool2d,
    SparseMaxPool3d,
)

__all__ = ["BEFORE", "LAYERS", "BatchNorm1d", "Layer", "LayerNorm", "Norm"]

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        SubMConv2d,
        SubMConv3d,
        SparseConv2d,
        SparseConv3d,
        SparseInverseConv2d,
        SparseInverseConv3d,
        SparseConvTranspose2d,
        SparseConvTranspose3d,
        SparseMaxPool2d,
        SparseMaxPool3d,
        SparseAvgPool2d,
        SparseAvgPool3d,
        Linear,
        Concat,
        Add,
        ChannelReduction,
        HeightCompression,
        ToDense,
        SparseGlobalMaxPool,
        SparseGlobalAvgPool,
    )
}
