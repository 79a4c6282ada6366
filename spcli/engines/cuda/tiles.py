"""What a convolution prepares for a map: an order of its rows, and the taps that each block of rows has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from spcli.engines.cuda import blocks
from spcli.engines.cuda.arrays import empty, upload
from spcli.engines.cuda.kernels import tiles as kernels
from spcli.engines.cuda.launch import launch
from spcli.engines.cuda.rulebook import MASKED_ROWS, CudaMap
from spcli.engines.cuda.rules import has_single_rules, rows_by_tap
from spcli.geometry import ConvGeometry


@dataclass(frozen=True)
class Tiles:
    """Blocks of `rows` output rows of a map.

    Attributes:
        order: int32 `[capacity]`, the row at each place; None where row and place are the same.
        taps: int32 `[tiles, V]`, the taps of each block in ascending order.
        counts: int32 `[tiles]`, how many there are.
        masks: int64, the taps of each 64 rows, a bit a tap; where there are masks, there are no lists.
        tiles: blocks of the map's capacity; what lies in those beyond its rows is undefined.
    """

    order: Tensor | None
    taps: Tensor | None
    counts: Tensor | None
    masks: Tensor | None
    tiles: int


def tiles_of(source: CudaMap, rows: int, dtype: str) -> Tiles:
    """The tiles of a map, made when they are first asked for."""
    if blocks.can_sort(source.geometry.volume):
        # Here, though this level may not be sorted: in a recorded frame, which has more rows to spare and may not
        # upload, the same level may be.
        tap_bits(source.geometry, str(source.table.device))
    ordered = sorts_rows(source, dtype)
    if ordered and "order" not in source.tiles:
        source.tiles["order"] = _order(source)
    if source.masks is not None and not ordered and rows % MASKED_ROWS == 0:
        return Tiles(None, None, None, source.masks, -(-source.outputs.capacity // rows))
    if (rows, ordered) not in source.tiles:
        source.tiles[rows, ordered] = _list_taps(source, rows, source.tiles["order"] if ordered else None)
    tiles: Tiles = source.tiles[rows, ordered]
    return tiles


def sorts_rows(source: CudaMap, dtype: str) -> bool:
    """Whether the rows of a map are taken in the order of the taps they have."""
    return blocks.sorts_rows(dtype, source.geometry.volume, _upwards(source), source.outputs.capacity)


def _upwards(source: CudaMap) -> bool:
    """Whether outputs are finer than inputs, so that only some taps can reach an output, whatever sites are active."""
    return source.inverted != source.geometry.transposed and max(source.geometry.stride) > 1


def _order(source: CudaMap) -> Tensor:
    """Rows by the taps they have: exactly, where no row has more than one, else within windows."""
    if has_single_rules(source):
        return rows_by_tap(source).out_rows
    order = empty(max(1, source.outputs.capacity), torch.int32)
    window = blocks.window_rows()
    launch(
        kernels.order_rows,
        (-(-source.outputs.capacity // window),),
        source.table, tap_bits(source.geometry, str(source.table.device)), source.outputs.total, order,
        source.table.stride(0), source.geometry.volume,
        WINDOW=window, CHUNK=_chunk(), COUNT=blocks.scaled(), LONG=is_long(source.table), num_warps=16,
    )  # fmt: skip
    return order


def _list_taps(source: CudaMap, rows: int, order: Tensor | None) -> Tiles:
    volume, tiles = source.geometry.volume, -(-source.outputs.capacity // rows)
    taps, counts = empty((max(1, tiles), volume), torch.int32), empty(max(1, tiles), torch.int32)
    launch(
        kernels.list_taps,
        (tiles,),
        source.table, order, source.outputs.total, taps, counts, source.table.stride(0), volume,
        ROWS=rows, CHUNK=_chunk(), LONG=is_long(source.table), num_warps=4,
    )  # fmt: skip
    return Tiles(order, taps, counts, None, tiles)


def _chunk() -> int:
    """Taps that are loaded at once."""
    return 512 if blocks.scaled() else 32


def is_long(*tensors: Tensor | None) -> bool:
    """Whether an offset into one of them may pass 2^31."""
    return any(len(tensor) * tensor.stride(0) >= 2**31 for tensor in tensors if tensor is not None)


@cache
def tap_bits(geometry: ConvGeometry, device: str) -> Tensor:
    """int32 `[V]`: the bit of each tap in the sort key. The farther from the centre, the rarer the tap and the higher
    its bit, which leaves fewer taps to a block than any other fixed order. Uploaded once, not inside a frame."""
    distance = np.abs(np.array(geometry.offsets())).sum(axis=1)
    bits = np.empty(geometry.volume, np.int32)
    bits[np.argsort(distance, kind="stable")] = np.arange(geometry.volume)
    return upload(bits)
