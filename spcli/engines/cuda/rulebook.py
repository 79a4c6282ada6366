"""Maps on the device: neighbour tables over output sites.

A table is stationary on the outputs: for each tap a row of input rows. Forward maps look every output's neighbours up
in the index of the input sites; transposed ones look every input's outputs up and enter what they find the other way
round, and so do inverted ones with the table of their source: a tap joins an input with one output at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import triton
from torch import Tensor

from spcli.engines.checks import out_shape_of
from spcli.engines.cuda.arrays import empty, zeroed
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.capacity import Capacity
from spcli.engines.cuda.kernels import rulebook as kernels
from spcli.engines.cuda.launch import call, launch
from spcli.engines.cuda.outputs import FROM_ABOVE, Window, reached_sites, window_of
from spcli.engines.cuda.sites import Bitmap, CudaSites, block_of
from spcli.geometry import ConvGeometry

MASKED_ROWS = 64


@dataclass(frozen=True)
class CudaMap:
    """An executable rulebook.

    Attributes:
        geometry: of the forward convolution, also where the map is inverted.
        inputs, outputs: the sites at either end.
        table: int32 `[V, stride]`, stride >= outputs.capacity and a multiple of 128: the input row that tap k brings
            to an output row, -1 for none, and in the columns from `outputs.total` to the next multiple of 16. Those
            behind are undefined.
        pairs: int32 `[V]`, rules of each tap.
        fullest: int32 `[1]`, most rules that end in one output row; of the forward map, also where it is inverted.
        inverted: whether the ends are swapped.
        masks: int64 `[stride / 64]`, the taps that each 64 output rows have, a bit a tap; undefined beyond the rows.
            None where there are more taps than bits, or the table was not looked up from the outputs.
        tiles: what the convolutions prepared for this map, by block height; shared by the layers that use it.
    """

    geometry: ConvGeometry
    inputs: CudaSites
    outputs: CudaSites
    table: Tensor
    pairs: Tensor
    fullest: Tensor
    inverted: bool = False
    masks: Tensor | None = None
    tiles: dict[Any, Any] = field(default_factory=dict, compare=False)


def build(sites: CudaSites, geometry: ConvGeometry, capacity: Capacity) -> CudaMap:
    """The map of a convolution or pooling from `sites`.

    Raises:
        ConfigError: the output shape has an axis of 0 or less, or more cells than a key can number.
    """
    out_shape = out_shape_of(sites.spatial_shape, geometry)
    window = window_of(geometry)
    outputs = sites if geometry.keeps_sites else reached_sites(sites, out_shape, window, capacity)
    table = empty((geometry.volume, _table_stride(outputs)), torch.int32)
    counts = zeroed(geometry.volume + 1, torch.int32)
    masks = None
    if geometry.transposed:
        call(table.fill_, -1)
        _find(sites, outputs, window, table, counts)
        _launch_over_table(kernels.count_fullest, table, outputs, counts)
    else:
        if has_masks(window):
            masks = empty(table.stride(0) // MASKED_ROWS, torch.int64)
        _find(outputs, sites, window, table, counts, masks)
    return CudaMap(geometry, sites, outputs, table, counts[:-1], counts[-1:], masks=masks)


def has_masks(window: Window) -> bool:
    """Whether blocks that look a window up can tell which taps their rows have, 64 rows and 64 taps to a word."""
    rows = block_of(triton.next_power_of_2(window.columns))["ROWS"]
    return 1 < window.volume <= 64 and rows % MASKED_ROWS == 0 and not scaled()


def invert(source: CudaMap) -> CudaMap:
    """The map with its ends swapped: same taps."""
    table = empty((len(source.table), _table_stride(source.inputs)), torch.int32)
    call(table.fill_, -1)
    _launch_over_table(kernels.swap_ends, source.table, source.outputs, table, table.stride(0))
    inverted = not source.inverted
    return CudaMap(source.geometry, source.outputs, source.inputs, table, source.pairs, source.fullest, inverted)


def flatten(sites: CudaSites, capacity: Capacity) -> CudaSites:
    """The 2-D sites (batch, y, x) that have at least one active z."""
    return reached_sites(sites, sites.spatial_shape[1:], FROM_ABOVE, capacity)


def flat_rows(sites: CudaSites, flat: CudaSites) -> Tensor:
    """The row of each 3-D site's flattened site, int32 `[capacity]`; -1 where an overfull `flat` left it out."""
    table = empty((1, _table_stride(sites)), torch.int32)
    _find(sites, flat, FROM_ABOVE, table, empty(2, torch.int32))
    return table[0, : sites.capacity]


def collapse(sites: CudaSites) -> CudaSites:
    """One row per scan of the batch."""
    indices, constants = empty((sites.batch_size, 1), torch.int32), empty(4, torch.int32)
    call(torch.arange, sites.batch_size, out=indices[:, 0])
    call(constants.fill_, 1)
    call(constants[:1].fill_, sites.batch_size)
    return CudaSites((), sites.batch_size, indices, constants[:1], constants[1:])


def _table_stride(outputs: CudaSites) -> int:
    return -(-max(outputs.capacity, 1) // 128) * 128


def _launch_over_table(kernel: Any, table: Tensor, outputs: CudaSites, *rest: Any) -> None:
    """Starts a kernel that looks at all taps of the rows of a table."""
    taps = triton.next_power_of_2(len(table))
    block = block_of(taps)
    grid = (triton.cdiv(outputs.capacity, block["ROWS"]),)
    launch(kernel, grid, table, table.stride(0), outputs.total, *rest, VOLUME=len(table), TAPS=taps, **block)


def _find(
    sites: CudaSites, found: CudaSites, window: Window, table: Tensor, counts: Tensor, masks: Tensor | None = None
) -> None:
    """Looks the window of every site up among `found`; a transposed window's table belongs to what is found."""
    columns = triton.next_power_of_2(window.columns)
    block = block_of(columns)
    grid = (triton.cdiv(sites.capacity, block["ROWS"]),)
    head = (sites.indices, sites.total, found.shape, found.total)
    tail = (table, table.stride(0), counts, masks)
    constants: dict[str, Any] = {
        "WINDOW": window.axes,
        "SCATTER": window.transposed,
        "NDIM": sites.ndim,
        "FLAT": window.flat,
        "COLUMNS": columns,
        **block,
    }
    index = found.index
    if isinstance(index, Bitmap):
        launch(kernels.find_in_bitmap, grid, *head, index.words, index.base, *tail, **constants)
    else:
        steps = found.capacity.bit_length()
        launch(kernels.find_in_keys, grid, *head, index.keys, steps, *tail, **constants)
