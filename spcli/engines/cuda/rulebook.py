"""Maps on the device: output sites, neighbour tables and their export as rules.

A table is stationary on the outputs: for each tap a row of input rows. Forward maps look every output's neighbours up
in the index of the input sites; transposed ones look every input's outputs up and enter what they find the other way
round, and so do inverted ones with the table of their source: a tap joins an input with one output at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import gcd, prod
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from spcli.engines.checks import out_shape_of, three
from spcli.engines.cuda.arrays import download, empty
from spcli.engines.cuda.capacity import Room
from spcli.engines.cuda.kernels import rulebook as kernels
from spcli.engines.cuda.launch import call, launch
from spcli.engines.cuda.sites import (
    Bitmap,
    CudaSites,
    SortedKeys,
    bitmap_words,
    block_of,
    cells_of,
    empty_keys,
    is_wide,
)
from spcli.geometry import ConvGeometry
from spcli.rulebook import Rulebook, RuleCounts

_CHUNK = 1024  # words that a program lists at a time
_MOST_BLOCKS = 4096  # each adds up the counts of those before it


@dataclass(frozen=True)
class CudaMap:
    """An executable rulebook.

    Attributes:
        geometry: of the forward convolution, also where the map is inverted.
        inputs, outputs: the sites at either end.
        table: int32 `[V, stride]`, stride >= outputs.capacity and a multiple of 128: the input row that tap k brings
            to an output row, -1 for none. Columns from `outputs.total` on are undefined.
        pairs: int32 `[V]`, rules of each tap.
        fullest: int32 `[1]`, most rules that end in one output row; of the forward map, also where it is inverted.
        inverted: whether the ends are swapped.
        tiles: what the convolutions prepared for this map, by block height; shared by the layers that use it.
    """

    geometry: ConvGeometry
    inputs: CudaSites
    outputs: CudaSites
    table: Tensor
    pairs: Tensor
    fullest: Tensor
    inverted: bool = False
    tiles: dict[Any, Any] = field(default_factory=dict, compare=False)


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


@dataclass(frozen=True)
class _Window:
    """A geometry as the kernels take it: per axis z, y, x the sizes and what follows from them."""

    axes: tuple[tuple[int, ...], ...]
    transposed: bool
    flat: bool = False

    @property
    def columns(self) -> int:
        """Pairs (kz, ky)."""
        return self.axes[0][0] * self.axes[1][0]

    @property
    def volume(self) -> int:
        """Taps."""
        return self.columns * self.axes[2][0]

    @property
    def reach(self) -> int:
        """Most outputs that one input can reach."""
        return prod(axis[-1] for axis in self.axes)


def _window(geometry: ConvGeometry) -> _Window:
    sizes = zip(
        three(geometry.kernel_size, 1),
        three(geometry.stride, 1),
        three(geometry.padding, 0),
        three(geometry.dilation, 1),
        three(geometry.output_padding, 0),
        strict=True,
    )
    return _Window(tuple(_axis(*axis, geometry.transposed) for axis in sizes), geometry.transposed)


def _axis(kernel: int, stride: int, padding: int, dilation: int, extra: int, transposed: bool) -> tuple[int, ...]:
    """One axis of WINDOW in `kernels/rulebook.py`."""
    common = gcd(stride, dilation)
    step = stride // common
    reach = kernel if transposed else -(-kernel // step)
    return kernel, stride, padding, dilation, extra, step, pow(dilation // common, -1, step), reach


_ABOVE = _Window(((1, 1, 0, 1, 0, 1, 0, 1),) * 3, transposed=False, flat=True)


def build(sites: CudaSites, geometry: ConvGeometry, room: Room) -> CudaMap:
    """The map of a convolution or pooling from `sites`.

    Raises:
        ConfigError: the output shape has an axis of 0 or less.
    """
    out_shape = out_shape_of(sites.spatial_shape, geometry)
    window = _window(geometry)
    outputs = sites if geometry.keeps_sites else _reached_sites(sites, out_shape, window, room)
    table = empty((geometry.volume, _table_stride(outputs)), torch.int32)
    counts = empty(geometry.volume + 1, torch.int32)
    call(counts.zero_)
    if geometry.transposed:
        call(table.fill_, -1)
        _find(sites, outputs, window, table, counts)
        _launch_over_table(kernels.count_fullest, table, outputs, counts)
    else:
        _find(outputs, sites, window, table, counts)
    return CudaMap(geometry, sites, outputs, table, counts[:-1], counts[-1:])


def invert(source: CudaMap) -> CudaMap:
    """The map with its ends swapped: same taps."""
    table = empty((len(source.table), _table_stride(source.inputs)), torch.int32)
    call(table.fill_, -1)
    _launch_over_table(kernels.swap_ends, source.table, source.outputs, table, table.stride(0))
    inverted = not source.inverted
    return CudaMap(source.geometry, source.outputs, source.inputs, table, source.pairs, source.fullest, inverted)


def flatten(sites: CudaSites, room: Room) -> CudaSites:
    """The 2-D sites (batch, y, x) that have at least one active z."""
    return _reached_sites(sites, sites.spatial_shape[1:], _ABOVE, room)


def flat_rows(sites: CudaSites, flat: CudaSites) -> Tensor:
    """The row of each 3-D site's flattened site, int32 `[capacity]`; -1 where an overfull `flat` left it out."""
    table = empty((1, _table_stride(sites)), torch.int32)
    _find(sites, flat, _ABOVE, table, empty(2, torch.int32))
    return table[0, : sites.capacity]


def collapse(sites: CudaSites) -> CudaSites:
    """One row a scan of the batch."""
    indices, constants = empty((sites.batch_size, 1), torch.int32), empty(4, torch.int32)
    call(torch.arange, sites.batch_size, out=indices[:, 0])
    call(constants.fill_, 1)
    call(constants[:1].fill_, sites.batch_size)
    return CudaSites((), sites.batch_size, indices, constants[:1], constants[1:])


def has_single_rules(source: CudaMap) -> bool:
    """Whether no output row has more than one rule, whatever the sites: its convolution is a GEMM for each tap."""
    window = _window(source.geometry)
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
    """The rules of a table as lists with room for so many."""
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


def _table_stride(outputs: CudaSites) -> int:
    return -(-max(outputs.capacity, 1) // 128) * 128


def _launch_over_table(kernel: Any, table: Tensor, outputs: CudaSites, *rest: Any) -> None:
    """Starts a kernel that looks at all taps of the rows of a table."""
    taps = triton.next_power_of_2(len(table))
    block = block_of(taps)
    grid = (triton.cdiv(outputs.capacity, block["ROWS"]),)
    launch(kernel, grid, table, table.stride(0), outputs.total, *rest, VOLUME=len(table), TAPS=taps, **block)


def _find(sites: CudaSites, found: CudaSites, window: _Window, table: Tensor, counts: Tensor) -> None:
    """Looks the window of every site up among `found`; a transposed window's table belongs to what is found."""
    columns = triton.next_power_of_2(window.columns)
    block = block_of(columns)
    grid = (triton.cdiv(sites.capacity, block["ROWS"]),)
    head = (sites.indices, sites.total, found.shape, found.total)
    tail = (table, table.stride(0), counts)
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
        return
    steps = found.capacity.bit_length()
    launch(kernels.find_in_keys, grid, *head, index.high, index.low, steps, *tail, WIDE=index.wide, **constants)


def _reached_sites(sites: CudaSites, out_shape: tuple[int, ...], window: _Window, room: Room) -> CudaSites:
    """The sites of `out_shape` that a window brings at least one of `sites` to, with their index."""
    most_cells = sites.most_cells and sites.most_cells * _growth(window)
    shape, total = empty(3, torch.int32), empty(1, torch.int32)
    nothing = empty((0, 1 + len(out_shape)), torch.int32)
    outputs = CudaSites(out_shape, sites.batch_size, nothing, total, shape, sites.grows, most_cells)
    words = bitmap_words(outputs)
    if words is None:
        return _sorted_outputs(sites, outputs, window, room)
    return _marked_outputs(sites, outputs, window, room, words)


def _marked_outputs(sites: CudaSites, outputs: CudaSites, window: _Window, room: Room, words: int) -> CudaSites:
    """Output sites by way of a bitmap: set bits, then list them in order."""
    block_words = _CHUNK * triton.next_power_of_2(triton.cdiv(words, _CHUNK * _MOST_BLOCKS))
    blocks, even = triton.cdiv(words, block_words), words + words % 2
    cleared = empty(even + 1 + blocks, torch.int64)
    bitmap, marked = Bitmap(cleared[:words], empty(words, torch.int32)), cleared[even:].view(torch.int32)
    call(cleared.zero_)
    _enumerate(kernels.mark_outputs, sites, outputs, window, bitmap.words, marked, BLOCK_WORDS=block_words)
    capacity = room.rows(marked[:1])
    listed = replace(outputs, indices=empty((capacity, 1 + outputs.ndim), torch.int32), made=bitmap)
    launch(
        kernels.emit_marked,
        (blocks,),
        *(bitmap.words, bitmap.base, marked, listed.shape, listed.indices, listed.total, words, capacity),
        NDIM=listed.ndim,
        BLOCK_WORDS=block_words,
        CHUNK=_CHUNK,
        num_warps=8,
    )
    return listed


def _sorted_outputs(sites: CudaSites, outputs: CudaSites, window: _Window, room: Room) -> CudaSites:
    """Output sites by way of keys: sort the keys of all that are reached, then list those that differ."""
    rows, block = max(sites.capacity, 1), block_of(1)
    count = rows * window.reach
    keys = empty_keys(count, is_wide(cells_of(outputs)))
    wide = {"WIDE": keys.wide}
    _enumerate(kernels.write_candidates, sites, outputs, window, keys.high, keys.low, rows, **wide)
    keys = _in_order(keys)
    flags, places = (empty(count, torch.int32) for _ in range(2))
    grid = (triton.cdiv(count, block["ROWS"]),)
    launch(kernels.flag_first, grid, keys.high, keys.low, flags, count, **wide, **block)
    call(torch.cumsum, flags, 0, dtype=torch.int32, out=places)
    capacity = room.rows(places[-1:])
    made = empty_keys(capacity, keys.wide)
    listed = replace(outputs, indices=empty((capacity, 1 + outputs.ndim), torch.int32), made=made)
    launch(
        kernels.emit_flagged,
        grid,
        *(keys.high, keys.low, flags, places, listed.shape, made.high, made.low, listed.indices, listed.total),
        *(count, capacity),
        NDIM=listed.ndim,
        **wide,
        **block,
    )
    return listed


def _enumerate(
    kernel: Any, sites: CudaSites, outputs: CudaSites, window: _Window, *rest: Any, **constants: Any
) -> None:
    """Starts a kernel that looks at every output that every site may reach and writes down their shape."""
    numbers = triton.next_power_of_2(window.reach)
    block = block_of(numbers)
    launch(
        kernel,
        (max(triton.cdiv(sites.capacity, block["ROWS"]), 1),),
        *(sites.indices, sites.total, sites.shape, outputs.shape, *rest),
        WINDOW=window.axes,
        TRANSPOSED=window.transposed,
        NDIM=sites.ndim,
        FLAT=window.flat,
        NUMBERS=numbers,
        **block,
        **constants,
    )


def _in_order(keys: SortedKeys) -> SortedKeys:
    """Keys in rising order; wide ones by two stable sorts, the low half first."""
    low, order = empty(len(keys.low), torch.int64), empty(len(keys.low), torch.int64)
    call(torch.sort, keys.low, stable=True, out=(low, order))
    if not keys.wide:
        return SortedKeys(low, low, wide=False)
    mixed, high, last = (empty(len(keys.low), torch.int64) for _ in range(3))
    call(torch.index_select, keys.high, 0, order, out=mixed)
    call(torch.sort, mixed, stable=True, out=(high, order))
    call(torch.index_select, low, 0, order, out=last)
    return SortedKeys(high, last, wide=True)


def _growth(window: _Window) -> int:
    """How many times as many cells the outputs' grid has at most, for any input shape."""
    most = 1
    for kernel, stride, padding, dilation, extra, *_ in window.axes:
        span = dilation * (kernel - 1)
        if window.transposed:
            most *= max(stride, span + extra + 1 - 2 * padding)
        else:
            most *= max(1, (2 * padding - span) // stride + 1)
    return most
