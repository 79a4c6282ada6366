"""Pooling as torch operations: windows along a map, and whole scans."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from spcli.engines.base import Epilogue
from spcli.engines.cpu.rulebook import CpuSites
from spcli.engines.tensors import STORAGE, stored
from spcli.engines.torch.convolve import finished
from spcli.engines.torch.rulebook import TorchMap


def pool(inputs: Tensor, source: TorchMap, reduce: str, dtype: str, out: Tensor | None = None) -> Tensor:
    """Features `[M, C]`: "max" or "mean" over each output's rules."""
    rows, channels = source.outputs.count, inputs.shape[1]
    if len(inputs) != source.inputs.count:
        raise ValueError(f"expected {source.inputs.count} rows of features, got {len(inputs)}")
    values = inputs.float()
    result = _mean(values, source) if reduce == "mean" else _largest(values, source, rows, channels)
    return finished(result, Epilogue(), dtype, out)


def _mean(values: Tensor, source: TorchMap) -> Tensor:
    rows, channels = source.outputs.count, values.shape[1]
    total, rules = values.new_zeros((rows, channels)), values.new_zeros(rows)
    for into, out in source.rules:
        total.index_add_(0, out, values.index_select(0, into))
        rules.index_add_(0, out, rules.new_ones(len(out)))
    return total / rules.clamp_(min=1)[:, None]


def _largest(values: Tensor, source: TorchMap, rows: int, channels: int) -> Tensor:
    result = values.new_full((rows, channels), -torch.inf)
    for into, out in source.rules:
        result.index_copy_(0, out, torch.maximum(result.index_select(0, out), values.index_select(0, into)))
    return result


def global_pool(inputs: Tensor, sites: CpuSites, reduce: str, dtype: str) -> Tensor:
    """Features `[B, C]`: "max" or "mean" (summed in float64) over the rows of each scan; zeros for an empty scan."""
    out = inputs.new_zeros((sites.batch_size, inputs.shape[1]), dtype=STORAGE[dtype])
    splits = np.searchsorted(sites.indices()[:, 0], np.arange(sites.batch_size + 1))
    for scan, (first, last) in enumerate(pairwise(splits.tolist())):
        if first < last:
            rows = inputs[first:last]
            whole = rows.float().amax(dim=0) if reduce == "max" else rows.double().mean(dim=0).float()
            out[scan] = stored(whole, dtype)
    return out
