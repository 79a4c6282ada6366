"""Block shapes: one fixed table by number format, channels and architecture; nothing is tuned at run time.

Block shapes decide the order of sums, so a table that is fixed gives the same bits in every run. Under the interpreter
a step costs the same whatever its size: there blocks are larger, and only tests that ask for it see the true ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import triton

from spcli.engines.cuda.launch import INTERPRETED

# Architectures whose programs may use more than 99 KB of shared memory.
ROOMY = (80, 90, 100)
NARROW = 16
# Bits of the key that row orders are sorted by; a larger kernel's rows stay in their order.
ORDERED_TAPS = 50


@dataclass(frozen=True)
class Blocks:
    """How a convolution is cut.

    Attributes:
        rows, columns: outputs of one program.
        depth: input channels of one tap in one dot.
        taps: taps in one dot; more than 1 only where depth is all there are.
        warps, stages: of the launch.
    """

    rows: int
    columns: int
    depth: int
    taps: int
    warps: int
    stages: int


# By number format ("half" is float16 and bfloat16): output channels up to, then rows, columns, warps.
_SHAPES = {
    "half": ((16, (64, 16, 2)), (32, (128, 32, 4)), (64, (128, 64, 8)), (None, (128, 128, 8))),
    "tf32": ((16, (64, 16, 2)), (32, (64, 32, 4)), (64, (64, 64, 4)), (None, (64, 128, 8))),
    "float32": ((16, (64, 16, 4)), (32, (64, 32, 8)), (None, (64, 64, 8))),
}

# What a convolution takes that must not use the tensor cores of a warp group (WGMMA): with fewer than four warps it
# gets those of a warp (MMA).
_NO_GROUP_ROWS, _NO_GROUP_WARPS = 64, 2
_FENCED_COPIES = (3, 7, 1)

# Rows of a block in exact float32.
_EXACT_ROWS = 64
# Multiprocessors where no device says how many it has: those of an A100 and an H100.
_PROCESSORS = {80: 108, 90: 132}

# What a rule for sorting rows is told: number format, taps, whether outputs are finer than inputs, rows of capacity.
SortRule = Callable[[str, int, bool, int], bool]

_true_shapes = not INTERPRETED
_architecture: int | None = None
_triton_version: str = triton.__version__
_processors: int | None = None
_sort_rule: SortRule | None = None


@contextmanager
def true_shapes(
    architecture: int, triton_version: str = triton.__version__, processors: int | None = None
) -> Iterator[None]:
    """Block shapes as on a device of that architecture, whatever runs them: for tests and the compile table."""
    global _true_shapes, _architecture, _triton_version, _processors
    before = _true_shapes, _architecture, _triton_version, _processors
    _true_shapes, _architecture, _triton_version, _processors = True, architecture, triton_version, processors
    try:
        yield
    finally:
        _true_shapes, _architecture, _triton_version, _processors = before


@contextmanager
def sorted_rows(rule: SortRule) -> Iterator[None]:
    """Rows are sorted where `rule` says so, and where they can be: for benchmarks.

    A graph that was captured before keeps what it was captured with.
    """
    global _sort_rule
    before, _sort_rule = _sort_rule, rule
    try:
        yield
    finally:
        _sort_rule = before


def scaled() -> bool:
    """Whether blocks may be larger than a device could hold, because an interpreter runs them."""
    return not _true_shapes


def architecture() -> int:
    """Ten times the compute capability of the current device; 90 where there is none."""
    if _architecture is not None:
        return _architecture
    if INTERPRETED:
        return 90
    major, minor = torch.cuda.get_device_capability()
    return 10 * int(major) + int(minor)


def processors() -> int:
    """Multiprocessors of the current device."""
    if _processors is not None:
        return _processors
    if INTERPRETED or _architecture is not None:
        return _PROCESSORS.get(architecture(), _PROCESSORS[90])
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count)


def fences_copies(triton_version: str) -> bool:
    """Whether this Triton puts a fence between a copy to shared memory and the warp group's product that reads it.

    The two see memory through different proxies; without the fence the product may read what was there before.
    """
    numbers = [int(digits) for digits in re.findall(r"\d+", triton_version)[:3]]
    return tuple(numbers) >= _FENCED_COPIES


def _avoids_groups(kind: str, narrow: bool) -> bool:
    """Whether a layer's products must be those of a warp.

    A narrow layer's rows reach the product in registers, which assemblers before that of CUDA 13.3 may reuse before a
    warp group has read them.
    """
    return kind != "float32" and (narrow or (architecture() == 90 and not fences_copies(_triton_version)))


def blocks_for(dtype: str, in_channels: int, out_channels: int, volume: int) -> Blocks:
    """The table's line for a layer; `volume` is its number of taps."""
    if scaled():
        return _scaled(in_channels, out_channels, volume)
    kind = {"float16": "half", "bfloat16": "half"}.get(dtype, dtype)
    rows, columns, warps = next(shape for most, shape in _SHAPES[kind] if most is None or out_channels <= most)
    narrow = in_channels <= NARROW and volume > 1
    if _avoids_groups(kind, narrow):
        rows, columns, warps = _NO_GROUP_ROWS, min(columns, 32 if narrow else 64), _NO_GROUP_WARPS
    # Five stages fetch the rows of two steps ahead of the dot, three those of one.
    stages = 5 if architecture() in ROOMY else 3
    if narrow:
        depth = max(4, _power_of_two(in_channels))
        return Blocks(rows, columns, depth, 32 // depth, warps, stages)
    depth = 64 if kind == "half" and _padded(in_channels, 64) == _padded(in_channels, 32) else 32
    return Blocks(rows, columns, depth, 1, warps, stages)


def _scaled(in_channels: int, out_channels: int, volume: int) -> Blocks:
    depth = max(4, _power_of_two(in_channels))
    taps = 1 if volume == 1 else min(max(1, 512 // depth), _power_of_two(volume))
    return Blocks(512, max(16, _power_of_two(out_channels)), max(depth, 16 // taps), taps, 1, 1)


def on_level(shape: Blocks, capacity: int) -> Blocks:
    """The shape on a level of so many rows: 64 of them at once where larger blocks would leave processors idle.

    Only layers with one tap in a dot have larger blocks, so that the bits are the same.
    """
    few = -(-capacity // shape.rows) < processors()
    return _halved(shape) if few and not scaled() else shape


def _halved(shape: Blocks) -> Blocks:
    """With blocks of at most 64 rows; a warp group, where there is one, stays whole."""
    return replace(shape, rows=64, warps=max(shape.warps // 2, 4)) if shape.rows > 64 else shape


def describe(shape: Blocks) -> str:
    """A shape in one line, as "128x64x64, 1 tap, 8 warps, 5 stages (64 rows on small levels)".

    The three numbers are rows and columns of outputs, and input channels of one tap in a product.
    """
    small = "" if scaled() or _halved(shape) == shape else f" ({_halved(shape).rows} rows on small levels)"
    taps, stages = (f"{number} {noun}{'s' * (number > 1)}" for number, noun in (
        (shape.taps, "tap"), (shape.stages, "stage")))  # fmt: skip
    warps = f"{shape.warps} warp{'s' * (shape.warps > 1)}"
    return f"{shape.rows}x{shape.columns}x{shape.depth}, {taps}, {warps}, {stages}{small}"


def can_sort(volume: int) -> bool:
    """Whether rows of a map with so many taps can be sorted at all."""
    return 1 < volume <= ORDERED_TAPS


def sorts_rows(dtype: str, volume: int, upwards: bool, capacity: int) -> bool:
    """Whether a map's rows are taken in the order of the taps they have; `capacity` is that of its outputs.

    It costs two or three launches a map. Upwards, where an output's taps follow from its place alone, a block is left
    with the taps of one place; elsewhere it pays where the products bound the time, as in exact float32 on levels that
    have more blocks than there are processors. With fewer, the fullest block bounds it, sorted or not.
    """
    if not can_sort(volume):
        return False
    if _sort_rule is not None:
        return _sort_rule(dtype, volume, upwards, capacity)
    many = scaled() or capacity > _EXACT_ROWS * processors()
    return upwards or (dtype == "float32" and many)


def window_rows() -> int:
    """Rows that are sorted together: more leave fewer products, and fewer programs that sort."""
    return 1024 if scaled() else 512


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _padded(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
