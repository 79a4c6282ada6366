"""Pooling on the CPU; windows in pool.cpp, whole scans here."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spcli.engines.cpu.library import address, aligned_empty, library, row_stride
from spcli.engines.cpu.rulebook import CpuMap, CpuSites

Rows = NDArray[np.float32]


def pool(inputs: Rows, source: CpuMap, reduce: str, out: Rows | None = None) -> Rows:
    """Features `[M, C]`: "max" or "mean" over each output's rules."""
    rows, channels = source.outputs.count, inputs.shape[1]
    if len(inputs) != source.inputs.count:
        raise ValueError(f"expected {source.inputs.count} rows of features, got {len(inputs)}")
    if out is None:
        out = aligned_empty(rows, channels)
    library().spcli_pool(
        address(inputs), row_stride(inputs), channels, source.handle.pointer, source.inverted, reduce == "mean",
        address(out), row_stride(out), rows,
    )  # fmt: skip
    return out


def global_pool(inputs: Rows, sites: CpuSites, reduce: str) -> Rows:
    """Features `[B, C]`: "max" or "mean" (summed in float64) over the rows of each scan; zeros for an empty scan."""
    out = np.zeros((sites.batch_size, inputs.shape[1]), np.float32)
    splits = np.searchsorted(sites.indices()[:, 0], np.arange(sites.batch_size + 1))
    for scan, (first, last) in enumerate(pairwise(splits)):
        if first < last:
            rows = inputs[first:last]
            out[scan] = rows.max(axis=0) if reduce == "max" else rows.mean(axis=0, dtype=np.float64)
    return out
