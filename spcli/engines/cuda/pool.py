"""Pooling on a CUDA device: windows along a map, and whole scans."""

from __future__ import annotations

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2

from spcli.engines.cuda.arrays import empty
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.kernels import pool as kernels
from spcli.engines.cuda.launch import launch
from spcli.engines.cuda.pointwise import tile
from spcli.engines.cuda.rulebook import CudaMap
from spcli.engines.cuda.sites import CudaSites
from spcli.engines.tensors import STORAGE

# How many programs share the rows of one scan, and what each takes at once; an interpreter runs them in turn.
PARTS, SCALED_PARTS = 64, 4
PART_ELEMENTS = 1024


def pool(inputs: Tensor, source: CudaMap, reduce: str, dtype: str, out: Tensor | None = None) -> Tensor:
    """Features `[M, C]`: "max" or "mean" over each output's rules; rows beyond the outputs' number are not written."""
    rows, channels = source.outputs.capacity, inputs.shape[1]
    if len(inputs) != source.inputs.capacity:
        raise ValueError(f"expected {source.inputs.capacity} rows of features, got {len(inputs)}")
    if out is None:
        out = empty((rows, channels), STORAGE[dtype])
    block = tile(rows, channels)
    launch(
        kernels.pool, (cdiv(rows, block[0]), cdiv(channels, block[1])),
        inputs, inputs.stride(0), source.table, source.table.stride(0), source.outputs.total, out, out.stride(0),
        channels, source.geometry.volume,
        MEAN=reduce == "mean", TF32=dtype == "tf32", ROWS=block[0], COLUMNS=block[1],
    )  # fmt: skip
    return out


def global_pool(inputs: Tensor, sites: CudaSites, reduce: str, dtype: str) -> Tensor:
    """Features `[B, C]`: "max" or "mean" (summed in float64) over the rows of each scan; zeros for an empty scan."""
    scans, channels = sites.batch_size, inputs.shape[1]
    columns = min(next_power_of_2(channels), 32)
    across, mean = cdiv(channels, columns), reduce == "mean"
    counts = empty(scans, torch.int32)
    share = SCALED_PARTS if scaled() else PARTS
    parts = empty((scans * share, channels), torch.float64)
    out = empty((scans, channels), STORAGE[dtype])
    launch(
        kernels.pool_parts, (scans * share, across),
        inputs, inputs.stride(0), sites.indices, sites.indices.stride(0), sites.total, counts, parts, channels,
        MEAN=mean, PARTS=share, ROWS=PART_ELEMENTS // columns, COLUMNS=columns,
    )  # fmt: skip
    launch(
        kernels.join_parts, (scans, across), parts, counts, out, channels,
        MEAN=mean, TF32=dtype == "tf32", PARTS=share, COLUMNS=columns,
    )  # fmt: skip
    return out
