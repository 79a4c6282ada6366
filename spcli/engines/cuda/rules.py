"""The rules of a map on the device as lists, by tap and then by output row, and their export to the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
from torch import Tensor

from spcli.engines.cuda.arrays import download, empty
from spcli.engines.cuda.kernels import rules as kernels
from spcli.engines.cuda.launch import call, launch
from spcli.engines.cuda.outputs import window_of
from spcli.engines.cuda.rulebook import CudaMap
from spcli.engines.cuda.sites import block_of
from spcli.rulebook import Rulebook, RuleCounts


@dataclass(frozen=True)
class RuleList:
    """Rules on the device, by tap and then by output row.

    Attributes:
        in_rows, out_rows: int32 `[capacity]`, the rows each rule joins.
        starts: the rules of tap k are `starts[k]:starts[k + 1]`.
    """

    in_rows: Tensor
    out_rows: Tensor
    starts: Tensor


def has_single_rules(source: CudaMap) -> bool:
    """Whether no output row has more than one rule, whatever the sites: its convolution is a GEMM for each tap."""
    window = window_of(source.geometry)
    if source.inverted == source.geometry.transposed:
        return window.volume == 1
    return all(-(-axis[0] // axis[5]) == 1 for axis in window.axes)


def rows_by_tap(source: CudaMap) -> RuleList:
    """All output rows of a map with single rules, each once, ordered by tap; rows of a tap rise.

    Nothing waits: the lists are `[max(outputs.capacity, 1)]` long, `starts` is int32 `[V + 2]`. The rows that no rule
    reaches stand behind those of the last tap, at `starts[V]:starts[V + 1]`, with input row -1; `starts[V + 1]` is the
    number of output rows.
    """
    return _listed(source, source.outputs.capacity, rest=True, starts=torch.int32)


def rule_counts(source: CudaMap, fullest: bool = True) -> RuleCounts:
    """Sizes of a forward map; synchronises."""
    return RuleCounts(
        source.inputs.count(),
        source.outputs.count(),
        source.inputs.spatial_shape,
        source.outputs.spatial_shape,
        source.inputs.batch_size,
        tuple(download(source.pairs).tolist()),
        int(source.fullest.item()) if fullest else 0,
    )


def rulebook(source: CudaMap) -> Rulebook:
    """The canonical rules of a map, on the host; synchronises."""
    splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(download(source.pairs), dtype=np.int64)])
    rules = _listed(source, int(splits[-1]), rest=False, starts=torch.int64)
    in_indices = source.inputs.host_indices()
    return Rulebook(
        source.geometry,
        in_indices,
        in_indices if source.outputs is source.inputs else source.outputs.host_indices(),
        download(rules.in_rows, int(splits[-1])),
        download(rules.out_rows, int(splits[-1])),
        splits,
        source.inputs.spatial_shape,
        source.outputs.spatial_shape,
        source.inputs.batch_size,
    )


def _listed(source: CudaMap, capacity: int, rest: bool, starts: torch.dtype) -> RuleList:
    """The rules of a table as lists of a capacity."""
    volume, lists = source.geometry.volume, source.geometry.volume + rest
    taps = triton.next_power_of_2(lists)
    block = block_of(taps)
    tiles = max(triton.cdiv(source.outputs.capacity, block["ROWS"]), 1)
    sizes, ends = empty(lists * tiles, torch.int32), empty(lists * tiles, torch.int64)
    in_rows, out_rows = (empty(max(capacity, 1), torch.int32) for _ in range(2))
    listed = RuleList(in_rows, out_rows, empty(lists + 1, starts))
    table = (source.table, source.table.stride(0), source.outputs.total)
    constants = {"VOLUME": volume, "REST": rest, "TAPS": taps, **block}
    launch(kernels.count_rules, (tiles,), *table, sizes, **constants)
    call(torch.cumsum, sizes, 0, out=ends)
    launch(
        kernels.write_rules,
        (tiles,),
        *(*table, sizes, ends, listed.in_rows, listed.out_rows, listed.starts, capacity),
        **constants,
    )
    return listed
