"""Convolution over a map on the CPU; the work is in convolve.cpp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Epilogue, LayerParameters
from spcli.engines.cpu.library import Handle, address, aligned_empty, library, row_stride
from spcli.engines.cpu.rulebook import CpuMap
from spcli.program import Activation

Rows = NDArray[np.float32]

_ACTIVATIONS = {"none": 0, "relu": 1, "leaky_relu": 2, "gelu": 3}


@dataclass(frozen=True)
class CpuPacked:
    """Weights in the kernel's order, scale folded in, and the shift."""

    handle: Handle
    in_channels: int
    out_channels: int
    volume: int


def pack(parameters: LayerParameters) -> CpuPacked:
    """Packs weight `[Cout, *kernel_size, Cin]` with its scale and shift."""
    assert parameters.weight is not None
    weight = np.ascontiguousarray(parameters.weight, np.float32)
    scale = None if parameters.scale is None else np.ascontiguousarray(parameters.scale, np.float64)
    shift = None if parameters.shift is None else np.ascontiguousarray(parameters.shift, np.float64)
    out_channels, in_channels = weight.shape[0], weight.shape[-1]
    volume = int(np.prod(weight.shape[1:-1], dtype=np.int64))
    pointer = library().spcli_pack(address(weight), address(scale), address(shift), volume, in_channels, out_channels)
    return CpuPacked(Handle(pointer, library().spcli_packed_free), in_channels, out_channels, volume)


def activation_code(activation: Activation) -> int:
    """The number by which C++ knows an activation."""
    return _ACTIVATIONS[activation.kind]


def convolve(
    inputs: Rows, source: CpuMap | None, packed: CpuPacked, epilogue: Epilogue, out: Rows | None = None
) -> Rows:
    """Features `[M, Cout]`: `activation(conv(inputs) + shift + add)`; pointwise where `source` is None.

    Raises:
        ValueError: rows or channels of the arrays do not fit the map and the parameters.
    """
    rows_in, rows_out = (len(inputs), len(inputs)) if source is None else (source.inputs.count, source.outputs.count)
    if out is None:
        out = aligned_empty(rows_out, packed.out_channels)
    add = epilogue.add
    _require(inputs, rows_in, packed.in_channels)
    _require(out, rows_out, packed.out_channels)
    if add is not None:
        _require(add, rows_out, packed.out_channels)
    if packed.volume != (1 if source is None else source.geometry.volume):
        raise ValueError(f"a weight of {packed.volume} taps does not fit the map")
    library().spcli_convolve(
        address(inputs), row_stride(inputs),
        None if source is None else source.handle.pointer, source is not None and source.inverted,
        packed.handle.pointer, address(out), row_stride(out), rows_out,
        address(add), 0 if add is None else row_stride(add),
        activation_code(epilogue.activation), epilogue.activation.slope,
    )  # fmt: skip
    return out


def _require(array: Rows, rows: int, channels: int) -> None:
    if array.shape != (rows, channels):
        raise ValueError(f"expected features of shape {(rows, channels)}, got {array.shape}")
