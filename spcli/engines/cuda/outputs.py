"""Output sites on the device: what a window reaches, listed by way of a bitmap or of sorted keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod
from typing import Any

import torch
import triton

from spcli.engines.checks import three
from spcli.engines.cuda.arrays import empty, zeroed
from spcli.engines.cuda.blocks import scaled
from spcli.engines.cuda.capacity import Capacity
from spcli.engines.cuda.kernels import outputs as kernels
from spcli.engines.cuda.launch import call, launch
from spcli.engines.cuda.sites import Bitmap, CudaSites, bitmap_words, block_of, check_cells, empty_keys
from spcli.geometry import ConvGeometry

_CHUNK, _SCALED_CHUNK = 128, 1024  # words that a program lists at a time; an interpreter pays by program
_MOST_BLOCKS = 4096  # each adds up the counts of those before it


@dataclass(frozen=True)
class Window:
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


def window_of(geometry: ConvGeometry) -> Window:
    """A geometry with what the kernels need to know of it."""
    sizes = zip(
        three(geometry.kernel_size, 1),
        three(geometry.stride, 1),
        three(geometry.padding, 0),
        three(geometry.dilation, 1),
        three(geometry.output_padding, 0),
        strict=True,
    )
    return Window(tuple(_axis(*axis, geometry.transposed) for axis in sizes), geometry.transposed)


def _axis(kernel: int, stride: int, padding: int, dilation: int, extra: int, transposed: bool) -> tuple[int, ...]:
    """One axis of WINDOW in `kernels/outputs.py`."""
    common = gcd(stride, dilation)
    step = stride // common
    reach = kernel if transposed else -(-kernel // step)
    return kernel, stride, padding, dilation, extra, step, pow(dilation // common, -1, step), reach


FROM_ABOVE = Window(((1, 1, 0, 1, 0, 1, 0, 1),) * 3, transposed=False, flat=True)


def reached_sites(sites: CudaSites, out_shape: tuple[int, ...], window: Window, capacity: Capacity) -> CudaSites:
    """The sites of `out_shape` that a window brings at least one of `sites` to, with their index.

    Raises:
        ConfigError: the grid has more cells than a key can number.
    """
    check_cells(out_shape, sites.batch_size)
    shape, total = empty(3, torch.int32), empty(1, torch.int32)
    nothing = empty((0, 1 + len(out_shape)), torch.int32)
    outputs = CudaSites(out_shape, sites.batch_size, nothing, total, shape, sites.grows)
    words = bitmap_words(outputs)
    if words is None:
        return _sorted_outputs(sites, outputs, window, capacity)
    return _marked_outputs(sites, outputs, window, capacity, words)


def _marked_outputs(sites: CudaSites, outputs: CudaSites, window: Window, capacity: Capacity, words: int) -> CudaSites:
    """Output sites by way of a bitmap: set bits, then list them in order."""
    chunk = _SCALED_CHUNK if scaled() else _CHUNK
    block_words = chunk * triton.next_power_of_2(triton.cdiv(words, chunk * _MOST_BLOCKS))
    blocks, even = triton.cdiv(words, block_words), words + words % 2
    cleared = zeroed(even + 1 + blocks, torch.int64)
    bitmap, marked = Bitmap(cleared[:words], empty(words, torch.int32)), cleared[even:].view(torch.int32)
    _enumerate(kernels.mark_outputs, sites, outputs, window, bitmap.words, marked, BLOCK_WORDS=block_words)
    length = capacity.rows(marked[:1])
    listed = replace(outputs, indices=empty((length, 1 + outputs.ndim), torch.int32), made=bitmap)
    launch(
        kernels.emit_marked,
        (blocks,),
        *(
            bitmap.words.view(torch.int16),
            bitmap.base,
            marked,
            listed.shape,
            listed.indices,
            listed.total,
            words,
            length,
        ),
        NDIM=listed.ndim,
        BLOCK_WORDS=block_words,
        CHUNK=chunk,
        num_warps=4,
    )
    return listed


def _sorted_outputs(sites: CudaSites, outputs: CudaSites, window: Window, capacity: Capacity) -> CudaSites:
    """Output sites by way of keys: sort the keys of all that are reached, then list those that differ."""
    rows, block = max(sites.capacity, 1), block_of(1)
    count = rows * window.reach
    unsorted, found, order = (empty(count, torch.int64) for _ in range(3))
    _enumerate(kernels.write_candidates, sites, outputs, window, unsorted, rows)
    call(torch.sort, unsorted, stable=True, out=(found, order))
    flags, places = (empty(count, torch.int32) for _ in range(2))
    grid = (triton.cdiv(count, block["ROWS"]),)
    launch(kernels.flag_first, grid, found, flags, count, **block)
    call(torch.cumsum, flags, 0, dtype=torch.int32, out=places)
    length = capacity.rows(places[-1:])
    made = empty_keys(length)
    listed = replace(outputs, indices=empty((length, 1 + outputs.ndim), torch.int32), made=made)
    launch(
        kernels.emit_flagged,
        grid,
        *(found, flags, places, listed.shape, made.keys, listed.indices, listed.total, count, length),
        NDIM=listed.ndim,
        **block,
    )
    return listed


def _enumerate(kernel: Any, sites: CudaSites, outputs: CudaSites, window: Window, *rest: Any, **constants: Any) -> None:
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
