"""Which of its ways the engine took through a program: they are compared with the CPU engine one by one."""

from __future__ import annotations

from collections.abc import Mapping

from spcli.engines.cuda.blocks import on_level
from spcli.engines.cuda.convolve import CudaPacked
from spcli.engines.cuda.sites import bitmap_words
from spcli.engines.cuda.tiles import sorts_rows
from spcli.engines.eager import Index
from spcli.program import Convolve, Program


def way_through(program: Program, index: Index, packed: Mapping[str, CudaPacked]) -> str:
    """How sites are found, "b" in a bitmap and "k" in keys, by slot; then the rows that each convolution takes at once.

    An "s" behind these has them sorted. Without `packed`, in an index phase alone, the sites are all there is.
    """
    found = "".join("k" if bitmap_words(sites) is None else "b" for sites in index.sites if sites.ndim)
    return " ".join([found, *(_rows_of(op, program, index, packed) for op in program.value_ops if packed
                              if isinstance(op, Convolve))])  # fmt: skip


def _rows_of(op: Convolve, program: Program, index: Index, packed: Mapping[str, CudaPacked]) -> str:
    layer = packed[op.parameters]
    if op.map is None:
        return str(on_level(layer.blocks, index.sites[program.values[op.input].sites].capacity).rows)
    source = index.maps[op.map]
    rows = on_level(layer.blocks, source.outputs.capacity).rows
    return f"{rows}s" if sorts_rows(source, layer.dtype) else f"{rows}"
