"""Convolution over a map on the device, and Linear layers, which have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spcli.engines.base import Epilogue, LayerParameters
from spcli.engines.cuda.arrays import empty
from spcli.engines.cuda.blocks import Blocks, blocks_for, on_level
from spcli.engines.cuda.kernels import convolve as kernels
from spcli.engines.cuda.launch import INTERPRETED, device, launch
from spcli.engines.cuda.rulebook import CudaMap
from spcli.engines.cuda.tiles import is_long, tiles_of
from spcli.engines.tensors import STORAGE, weights_of


@dataclass(frozen=True)
class CudaPacked:
    """A layer's parameters as the kernels read them.

    Attributes:
        weight: `[V, columns, channels]` in the storage format, scale folded in, padded with zeros: columns to whole
            blocks of outputs, channels to whole steps of a dot.
        shift: float32 `[columns]`.
        in_channels, out_channels, volume: true sizes.
        dtype: the format features are stored and multiplied in.
        blocks: how the layer is cut, except on small levels.
    """

    weight: Tensor
    shift: Tensor
    in_channels: int
    out_channels: int
    volume: int
    dtype: str
    blocks: Blocks


def pack(parameters: LayerParameters, dtype: str) -> CudaPacked:
    """Packs weight `[Cout, *kernel_size, Cin]` with its scale and shift: the product is rounded once, to `dtype`."""
    weight = weights_of(parameters, dtype)
    volume, out_channels, in_channels = weight.shape
    blocks = blocks_for(dtype, in_channels, out_channels, volume)
    columns, channels = (-(-size // step) * step for size, step in (
        (out_channels, blocks.columns), (in_channels, blocks.depth)))  # fmt: skip
    packed = torch.zeros((volume, columns, channels), dtype=STORAGE[dtype])
    packed[:, :out_channels, :in_channels] = torch.from_numpy(weight)
    shift = torch.zeros(columns, dtype=torch.float32)
    if parameters.shift is not None:
        shift[:out_channels] = torch.from_numpy(np.asarray(parameters.shift, np.float64).astype(np.float32))
    return CudaPacked(packed.to(device()), shift.to(device()), in_channels, out_channels, volume, dtype, blocks)


def convolve(
    inputs: Tensor, source: CudaMap | None, packed: CudaPacked, epilogue: Epilogue, out: Tensor | None = None
) -> Tensor:
    """Features `[M, Cout]`: `activation(conv(inputs) + shift + add)`; pointwise where `source` is None.

    Raises:
        ValueError: rows, channels or formats of the tensors do not fit the map and the parameters.
    """
    rows_in, rows_out = len(inputs), len(inputs)
    if source is not None:
        rows_in, rows_out = source.inputs.capacity, source.outputs.capacity
    if out is None:
        out = empty((rows_out, packed.out_channels), STORAGE[packed.dtype])
    _require(inputs, rows_in, packed.in_channels, packed.dtype)
    _require(out, rows_out, packed.out_channels, packed.dtype)
    if epilogue.add is not None:
        _require(epilogue.add, rows_out, packed.out_channels, packed.dtype)
    if packed.volume != (1 if source is None else source.geometry.volume):
        raise ValueError(f"a weight of {packed.volume} taps does not fit the map")
    if source is None:
        _launch_linear(inputs, packed, epilogue, out)
    else:
        _launch_convolve(inputs, source, packed, epilogue, out)
    return out


def _require(tensor: Tensor, rows: int, channels: int, dtype: str) -> None:
    if tuple(tensor.shape) != (rows, channels):
        raise ValueError(f"expected features of shape {(rows, channels)}, got {tuple(tensor.shape)}")
    apart = rows > 0 and channels > 1 and tensor.stride(1) != 1
    if tensor.dtype != STORAGE[dtype] or apart:
        raise ValueError(f"expected {dtype} features whose channels lie side by side")


def _launch_convolve(inputs: Tensor, source: CudaMap, packed: CudaPacked, epilogue: Epilogue, out: Tensor) -> None:
    blocks, add = on_level(packed.blocks, source.outputs.capacity), epilogue.add
    tiles = tiles_of(source, blocks.rows, packed.dtype)
    column_blocks = packed.weight.shape[1] // blocks.columns
    launch(
        kernels.convolve,
        (tiles.tiles * column_blocks,),
        inputs, source.table, tiles.order, tiles.taps, tiles.counts, tiles.masks, source.outputs.total,
        packed.weight, packed.shift, add, out, source.table.stride(0) // 128, packed.volume,
        _units(inputs), _units(add), _units(out), column_blocks, epilogue.activation.slope,
        TAPS=blocks.taps, LONG=is_long(inputs, source.table, add, out),
        **_constants(inputs, packed, blocks, epilogue, out),
    )  # fmt: skip


def _launch_linear(inputs: Tensor, packed: CudaPacked, epilogue: Epilogue, out: Tensor) -> None:
    blocks, add = on_level(packed.blocks, len(inputs)), epilogue.add
    column_blocks = packed.weight.shape[1] // blocks.columns
    launch(
        kernels.linear,
        (-(-len(inputs) // blocks.rows) * column_blocks,),
        inputs, packed.weight, packed.shift, add, out, len(inputs), packed.weight.shape[2] // blocks.depth,
        _units(inputs), _units(add), _units(out), column_blocks, epilogue.activation.slope,
        LONG=is_long(inputs, add, out), **_constants(inputs, packed, blocks, epilogue, out) | {"num_stages": 3},
    )  # fmt: skip


def _constants(inputs: Tensor, packed: CudaPacked, blocks: Blocks, epilogue: Epilogue, out: Tensor) -> dict[str, Any]:
    """What both kernels are compiled for."""
    return {
        "ROWS": blocks.rows,
        "COLUMNS": blocks.columns,
        "DEPTH": blocks.depth,
        "BLOCKS": packed.weight.shape[2] // blocks.depth,
        "X_UNIT": _unit(inputs),
        "ADD_UNIT": _unit(epilogue.add),
        "OUT_UNIT": _unit(out),
        "IN_CHANNELS": packed.in_channels % packed.weight.shape[2],
        "OUT_CHANNELS": packed.out_channels % packed.weight.shape[1],
        "ACTIVATION": epilogue.activation.kind,
        "PRECISION": "tf32" if packed.dtype == "tf32" else "ieee",
        "UPCAST": INTERPRETED and packed.dtype == "bfloat16",
        "num_warps": blocks.warps,
        "num_stages": blocks.stages,
    }


def _unit(tensor: Tensor | None) -> int:
    """The largest power of two, up to 16 bytes, that divides the distance of two rows."""
    if tensor is None:
        return 1
    stride = tensor.stride(0)
    return max(1, min(stride & -stride, 16 // tensor.element_size()))


def _units(tensor: Tensor | None) -> int:
    """The distance of two rows in units."""
    return 0 if tensor is None else tensor.stride(0) // _unit(tensor)
