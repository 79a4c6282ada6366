"""What works on rows without a map on a CUDA device: sums, norms, concatenation, changes of layout.

Sums, norms and concatenations know no number of sites: they work on all rows that are allocated, and what they make
of rows beyond the sites is never looked at.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2

from spcli.engines.base import Epilogue, LayerParameters
from spcli.engines.cuda import arrays, rulebook
from spcli.engines.cuda.arrays import empty, zeroed
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.kernels import pointwise as kernels
from spcli.engines.cuda.launch import call, launch
from spcli.engines.cuda.sites import CudaSites
from spcli.engines.tensors import STORAGE
from spcli.program import NO_ACTIVATION, Activation

# Elements of one program's block: 16 a thread, 8 where each has an address of its own or is a float64. An interpreter
# pays by operation instead.
ELEMENTS, FEWER_ELEMENTS, SCALED_ELEMENTS = 2048, 1024, 1 << 17
MOST_COLUMNS = 64


def tile(rows: int, channels: int, elements: int = ELEMENTS) -> tuple[int, int]:
    """Rows and columns of one program's block; no result depends on them."""
    columns = min(next_power_of_2(channels), MOST_COLUMNS)
    return _rows_at_once(rows, columns, elements), columns


def _rows_at_once(rows: int, columns: int, elements: int) -> int:
    most = max((SCALED_ELEMENTS if scaled() else elements) // columns, 1)
    whole: int = next_power_of_2(max(rows, 1))
    return min(whole, most) if scaled() else most


def add(inputs: Sequence[Tensor], activation: Activation, dtype: str, out: Tensor | None = None) -> Tensor:
    """`activation(inputs[0] + inputs[1] + ...)`, summed in float32 from the first to the last."""
    rows, channels = inputs[0].shape
    if any(array.shape != (rows, channels) for array in inputs):
        raise ValueError(f"cannot add features of shapes {[list(array.shape) for array in inputs]}")
    if out is None:
        out = empty((rows, channels), STORAGE[dtype])
    total, *others = inputs
    if len(others) > 1:
        between = empty((rows, channels), torch.float32)
        for array in others[:-1]:
            _add(total, array, NO_ACTIVATION, "float32", between)
            total = between
    _add(total, others[-1] if others else None, activation, dtype, out)
    return out


def _add(inputs: Tensor, more: Tensor | None, activation: Activation, dtype: str, out: Tensor) -> None:
    rows, channels = inputs.shape
    block = tile(rows, channels)
    launch(
        kernels.add, (cdiv(rows, block[0]), cdiv(channels, block[1])),
        inputs, inputs.stride(0), more, 0 if more is None else more.stride(0), out, out.stride(0),
        rows, channels, activation.slope,
        ACTIVATION=activation.kind, TF32=dtype == "tf32", ROWS=block[0], COLUMNS=block[1],
    )  # fmt: skip


def layer_norm(
    inputs: Tensor, parameters: LayerParameters, eps: float, epilogue: Epilogue, dtype: str, out: Tensor | None = None
) -> Tensor:
    """Each row normalised over its channels in float64 (biased variance), scaled and shifted; then the epilogue.

    Ba, Kiros, Hinton: Layer Normalization, 2016.
    """
    rows, channels = inputs.shape
    if out is None:
        out = empty((rows, channels), STORAGE[dtype])
    weight, bias = _on_device(parameters)
    more, activation = epilogue.add, epilogue.activation
    # A row is one program's, whatever its length.
    columns = next_power_of_2(channels)
    at_once = _rows_at_once(rows, columns, FEWER_ELEMENTS)
    launch(
        kernels.layer_norm, (cdiv(rows, at_once),),
        inputs, inputs.stride(0), weight, bias, more, 0 if more is None else more.stride(0), out, out.stride(0),
        rows, channels, activation.slope,
        EPS=eps, ACTIVATION=activation.kind, TF32=dtype == "tf32", ROWS=at_once, COLUMNS=columns,
        num_warps=4 if columns <= 1024 else 16,
    )  # fmt: skip
    return out


_uploaded: dict[int, tuple[Tensor, Tensor]] = {}


def _on_device(parameters: LayerParameters) -> tuple[Tensor, Tensor]:
    """Weight and bias of a norm, uploaded once and kept as long as `parameters` live: a graph may not upload."""
    key = id(parameters)
    if key not in _uploaded:
        assert parameters.norm_weight is not None and parameters.norm_bias is not None
        _uploaded[key] = arrays.upload(parameters.norm_weight), arrays.upload(parameters.norm_bias)
        weakref.finalize(parameters, _uploaded.pop, key, None)
    return _uploaded[key]


def concat(inputs: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """Channels side by side; an input that already lies in its columns of `out` is not copied."""
    if out is None:
        out = empty((len(inputs[0]), sum(array.shape[1] for array in inputs)), inputs[0].dtype)
    column = 0
    for array in inputs:
        place = out[:, column : column + array.shape[1]]
        if (place.data_ptr(), place.stride()) != (array.data_ptr(), array.stride()):
            call(place.copy_, array)
        column += array.shape[1]
    return out


def channel_reduction(inputs: Tensor, channels: int, dtype: str) -> Tensor:
    """`[N, C]` to `[N, channels]`, sums of C / channels neighbouring columns."""
    rows = len(inputs)
    out = empty((rows, channels), STORAGE[dtype])
    block = tile(rows, channels, FEWER_ELEMENTS)
    launch(
        kernels.channel_reduction, (cdiv(rows, block[0]), cdiv(channels, block[1])),
        inputs, inputs.stride(0), out, out.stride(0), rows, channels, inputs.shape[1] // channels,
        TF32=dtype == "tf32", ROWS=block[0], COLUMNS=block[1],
    )  # fmt: skip
    return out


def height_compression(inputs: Tensor, sites: CudaSites, flat: CudaSites) -> Tensor:
    """`[N, C]` over 3-D sites to `[M, C * Z]` over their flattened sites, channel `c * Z + z`."""
    height, channels = sites.spatial_shape[0], inputs.shape[1]
    out = zeroed((flat.capacity, channels * height), inputs.dtype)
    block = tile(sites.capacity, channels, FEWER_ELEMENTS)
    launch(
        kernels.height_compression, (cdiv(sites.capacity, block[0]), cdiv(channels, block[1])),
        inputs, inputs.stride(0), sites.indices, rulebook.flat_rows(sites, flat), sites.total, out, flat.capacity,
        channels, height, ROWS=block[0], COLUMNS=block[1],
    )  # fmt: skip
    return out


def to_dense(inputs: Tensor, sites: CudaSites) -> Tensor:
    """Dense float32 `[B, C, *spatial_shape]`, zero where no site is active."""
    channels = inputs.shape[1]
    out = zeroed((sites.batch_size, channels, *sites.spatial_shape), torch.float32)
    block = tile(sites.capacity, channels, FEWER_ELEMENTS)
    launch(
        kernels.to_dense, (cdiv(sites.capacity, block[0]), cdiv(channels, block[1])),
        inputs, inputs.stride(0), sites.indices, sites.shape, sites.total, out, channels,
        AXES=sites.ndim, ROWS=block[0], COLUMNS=block[1],
    )  # fmt: skip
    return out
