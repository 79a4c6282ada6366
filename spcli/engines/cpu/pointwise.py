"""What works on rows without a map: sums, norms, concatenation, changes of layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Epilogue, LayerParameters
from spcli.engines.cpu.convolve import activation_code
from spcli.engines.cpu.library import address, aligned_empty, library, row_stride
from spcli.engines.cpu.rulebook import CpuSites, flat_rows
from spcli.program import Activation

Rows = NDArray[np.float32]


def add(inputs: Sequence[Rows], activation: Activation, out: Rows | None = None) -> Rows:
    """`activation(inputs[0] + inputs[1] + ...)`, summed from the first to the last."""
    rows, channels = inputs[0].shape
    if any(array.shape != (rows, channels) for array in inputs):
        raise ValueError(f"cannot add features of shapes {[array.shape for array in inputs]}")
    if out is None:
        out = aligned_empty(rows, channels)
    total = inputs[0]
    for number, array in enumerate(inputs[1:], 2):
        code = activation_code(activation) if number == len(inputs) else 0
        library().spcli_add(
            address(total), row_stride(total), address(array), row_stride(array), address(out), row_stride(out),
            rows, channels, code, activation.slope,
        )  # fmt: skip
        total = out
    return out


def layer_norm(
    inputs: Rows, parameters: LayerParameters, eps: float, epilogue: Epilogue, out: Rows | None = None
) -> Rows:
    """Each row normalised over its channels in float64 (biased variance), scaled and shifted; then the epilogue.

    Ba, Kiros, Hinton: Layer Normalization, 2016.
    """
    rows, channels = inputs.shape
    if out is None:
        out = aligned_empty(rows, channels)
    weight = np.ascontiguousarray(parameters.norm_weight, np.float32)
    bias = np.ascontiguousarray(parameters.norm_bias, np.float32)
    more = epilogue.add
    library().spcli_layer_norm(
        address(inputs), row_stride(inputs), address(weight), address(bias), eps,
        address(more), 0 if more is None else row_stride(more), address(out), row_stride(out),
        rows, channels, activation_code(epilogue.activation), epilogue.activation.slope,
    )  # fmt: skip
    return out


def concat(inputs: Sequence[Rows], out: Rows | None = None) -> Rows:
    """Channels side by side; an input that already lies in its columns of `out` is not copied."""
    if out is None:
        out = aligned_empty(len(inputs[0]), sum(array.shape[1] for array in inputs))
    column = 0
    for array in inputs:
        place = out[:, column : column + array.shape[1]]
        if address(place) != address(array) or place.strides != array.strides:
            place[...] = array
        column += array.shape[1]
    return out


def channel_reduction(inputs: Rows, channels: int) -> Rows:
    """`[N, C]` to `[N, channels]`, sums of C / channels neighbouring columns."""
    reduced: Rows = inputs.reshape(len(inputs), channels, inputs.shape[1] // channels).sum(axis=2, dtype=np.float32)
    return reduced


def height_compression(inputs: Rows, sites: CpuSites, flat: CpuSites) -> Rows:
    """`[N, C]` over 3-D sites to `[M, C * Z]` over their flattened sites, channel `c * Z + z`."""
    height, channels = sites.spatial_shape[0], inputs.shape[1]
    out = np.zeros((flat.count, channels, height), np.float32)
    out[flat_rows(sites), :, sites.indices()[:, 1]] = inputs
    return out.reshape(flat.count, channels * height)


def to_dense(inputs: Rows, sites: CpuSites) -> NDArray[np.float32]:
    """Dense `[B, C, *spatial_shape]`, zero where no site is active."""
    dense = np.zeros((sites.batch_size, inputs.shape[1], *sites.spatial_shape), np.float32)
    batch, *axes = sites.indices().T
    dense[(batch, slice(None), *axes)] = inputs
    return dense
