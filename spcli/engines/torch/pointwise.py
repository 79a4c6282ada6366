"""What works on rows without a map, as torch operations: sums, norms, concatenation, changes of layout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spcli.engines.base import Epilogue, LayerParameters
from spcli.engines.cpu.rulebook import CpuSites, flat_rows
from spcli.engines.tensors import stored
from spcli.engines.torch.convolve import finished
from spcli.program import Activation


def add(inputs: Sequence[Tensor], activation: Activation, dtype: str, out: Tensor | None = None) -> Tensor:
    """`activation(inputs[0] + inputs[1] + ...)`, summed in float32 from the first to the last."""
    shape = inputs[0].shape
    if any(array.shape != shape for array in inputs):
        raise ValueError(f"cannot add features of shapes {[list(array.shape) for array in inputs]}")
    total = inputs[0].to(torch.float32, copy=True)
    for array in inputs[1:]:
        total += array
    return finished(total, Epilogue(activation=activation), dtype, out)


def layer_norm(
    inputs: Tensor, parameters: LayerParameters, eps: float, epilogue: Epilogue, dtype: str, out: Tensor | None = None
) -> Tensor:
    """Each row normalised over its channels in float64 (biased variance), scaled and shifted; then the epilogue.

    Ba, Kiros, Hinton: Layer Normalization, 2016.
    """
    rows = inputs.double()
    weight, bias = (
        torch.as_tensor(each, dtype=torch.float64, device=inputs.device)
        for each in (parameters.norm_weight, parameters.norm_bias)
    )
    centred = rows - rows.mean(dim=1, keepdim=True)
    deviation = torch.sqrt((centred * centred).mean(dim=1, keepdim=True) + eps)
    return finished((centred / deviation * weight + bias).float(), epilogue, dtype, out)


def concat(inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """Channels side by side; an input that already lies in its columns of `out` is not copied."""
    if out is None:
        return torch.cat(list(inputs), dim=1)
    column = 0
    for array in inputs:
        place = out[:, column : column + array.shape[1]]
        if (place.data_ptr(), place.stride()) != (array.data_ptr(), array.stride()):
            place.copy_(array)
        column += array.shape[1]
    return out


def channel_reduction(inputs: Tensor, channels: int, dtype: str) -> Tensor:
    """`[N, C]` to `[N, channels]`, sums of C / channels neighbouring columns."""
    grouped = inputs.float().reshape(len(inputs), channels, inputs.shape[1] // channels)
    return stored(grouped.sum(dim=2), dtype)


def height_compression(inputs: Tensor, sites: CpuSites, flat: CpuSites) -> Tensor:
    """`[N, C]` over 3-D sites to `[M, C * Z]` over their flattened sites, channel `c * Z + z`."""
    height, channels = sites.spatial_shape[0], inputs.shape[1]
    out = inputs.new_zeros((flat.count, channels, height))
    rows, z = (torch.from_numpy(each).to(inputs.device) for each in (flat_rows(sites), sites.indices()[:, 1].copy()))
    out[rows, :, z.long()] = inputs
    return out.reshape(flat.count, channels * height)


def to_dense(inputs: Tensor, sites: CpuSites) -> Tensor:
    """Dense float32 `[B, C, *spatial_shape]`, zero where no site is active."""
    dense = inputs.new_zeros((sites.batch_size, inputs.shape[1], *sites.spatial_shape), dtype=torch.float32)
    batch, *axes = torch.from_numpy(sites.indices()).to(inputs.device, torch.int64).unbind(dim=1)
    dense.movedim(1, -1)[(batch, *axes)] = inputs.float()
    return dense
