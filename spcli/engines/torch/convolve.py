"""Convolution over a map as torch operations: for each tap the rows it reads, a matrix product, and a sum into rows.

Within a tap no output row stands twice, so the sums have one order, and the bits are the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spcli.engines.base import Epilogue, LayerParameters
from spcli.engines.tensors import stored, weights_of
from spcli.engines.torch.rulebook import TorchMap
from spcli.program import Activation


@dataclass(frozen=True)
class TorchPacked:
    """A layer's parameters on the device.

    Attributes:
        weight: float32 `[V, Cin, Cout]`, scale folded in, each value one of `dtype`.
        shift: float32 `[Cout]`, None for 0.
        dtype: the format features are stored and multiplied in.
    """

    weight: Tensor
    shift: Tensor | None
    dtype: str


def pack(parameters: LayerParameters, dtype: str, device: torch.device) -> TorchPacked:
    """Packs weight `[Cout, *kernel_size, Cin]` with its scale and shift: the product is rounded once, to `dtype`."""
    rounded = np.ascontiguousarray(weights_of(parameters, dtype).transpose(0, 2, 1), np.float32)
    shift = None
    if parameters.shift is not None:
        shift = torch.from_numpy(np.asarray(parameters.shift, np.float64).astype(np.float32)).to(device)
    return TorchPacked(torch.from_numpy(rounded).to(device), shift, dtype)


def convolve(
    inputs: Tensor, source: TorchMap | None, packed: TorchPacked, epilogue: Epilogue, out: Tensor | None = None
) -> Tensor:
    """Features `[M, Cout]`: `activation(conv(inputs) + shift + add)`; pointwise where `source` is None.

    Raises:
        ValueError: rows or channels of the tensors do not fit the map and the parameters.
    """
    volume, in_channels, out_channels = packed.weight.shape
    rows_in, rows_out = len(inputs), len(inputs)
    if source is not None:
        rows_in, rows_out = source.inputs.count, source.outputs.count
    _require(inputs, rows_in, in_channels)
    for tensor in (out, epilogue.add):
        if tensor is not None:
            _require(tensor, rows_out, out_channels)
    if volume != (1 if source is None else source.geometry.volume):
        raise ValueError(f"a weight of {volume} taps does not fit the map")
    values = inputs.float()
    with tensor_cores(packed.dtype):
        total = values @ packed.weight[0] if source is None else _summed(values, source, packed)
    if packed.shift is not None:
        total += packed.shift
    return finished(total, epilogue, packed.dtype, out)


def _summed(values: Tensor, source: TorchMap, packed: TorchPacked) -> Tensor:
    total = values.new_zeros((source.outputs.count, packed.weight.shape[2]))
    for weight, (into, out) in zip(packed.weight, source.rules, strict=True):
        if len(into):
            total.index_add_(0, out, values.index_select(0, into) @ weight)
    return total


@contextmanager
def tensor_cores(dtype: str) -> Iterator[None]:
    """Lets products of float32 tensors run on tensor cores, except for float32 itself.

    They cut float32 to tf32, whose 11 bits hold every float16 and every bfloat16: of those the products are exact.
    """
    matmul = torch.backends.cuda.matmul
    # torch 2.9 gave the setting another name, and warns of the former.
    renamed = hasattr(matmul, "fp32_precision")
    name, on, off = ("fp32_precision", "tf32", "ieee") if renamed else ("allow_tf32", True, False)
    before = getattr(matmul, name)
    setattr(matmul, name, off if dtype == "float32" else on)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def finished(total: Tensor, epilogue: Epilogue, dtype: str, out: Tensor | None) -> Tensor:
    """float32 sums, which may be written over, with the epilogue carried out, in `out` or in a tensor of `dtype`."""
    if epilogue.add is not None:
        total += epilogue.add
    result = stored(activated(total, epilogue.activation), dtype)
    return result if out is None else out.copy_(result)


def activated(values: Tensor, activation: Activation) -> Tensor:
    """An activation of float32 values; GELU is the exact one."""
    if activation.kind == "relu":
        return torch.relu(values)
    if activation.kind == "leaky_relu":
        return torch.nn.functional.leaky_relu(values, activation.slope)
    return torch.nn.functional.gelu(values) if activation.kind == "gelu" else values


def _require(tensor: Tensor, rows: int, channels: int) -> None:
    if tuple(tensor.shape) != (rows, channels):
        raise ValueError(f"expected features of shape {(rows, channels)}, got {tuple(tensor.shape)}")
