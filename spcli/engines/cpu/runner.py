"""A program made ready on the CPU: packed weights, and buffers that are used again frame after frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Engine, Frame, LayerParameters, Points, Want
from spcli.engines.cpu.library import aligned_empty
from spcli.engines.eager import EagerRunner
from spcli.program import Program
from spcli.sparse_tensor import SparseTensor

Rows = NDArray[np.float32]


class Arena:
    """Feature buffers by size. Memory that was written once is handed out again instead of fresh pages."""

    def __init__(self) -> None:
        self._free: list[Rows] = []
        self._used: dict[int, Rows] = {}

    def take(self, slot: int, rows: int, channels: int) -> Rows:
        """An uninitialised `[rows, channels]` for `slot`, 64-byte aligned."""
        need = max(1, rows * channels)
        fitting = [block for block in self._free if need <= block.size <= 2 * need + 4096]
        block = min(fitting, key=lambda b: b.size) if fitting else aligned_empty(need, 1).reshape(-1)
        self._free = [other for other in self._free if other is not block]
        self._used[slot] = block
        return block[: rows * channels].reshape(rows, channels)

    def give(self, slot: int) -> None:
        """Takes the buffer of `slot` back, if it came from here."""
        block = self._used.pop(slot, None)
        if block is not None:
            self._free.append(block)

    def give_all(self) -> None:
        """Takes every buffer back, at the end of a frame."""
        for slot in list(self._used):
            self.give(slot)


class CpuRunner(EagerRunner):
    """The walk with an arena."""

    def __init__(self, engine: Engine, program: Program, parameters: Mapping[str, LayerParameters], want: Want) -> None:
        super().__init__(engine, program, parameters, want)
        self._arena = Arena()

    def compute(self, scan: Points | SparseTensor) -> Frame:
        """One frame; its buffers are there again for the next."""
        try:
            return super().compute(scan)
        finally:
            self._arena.give_all()

    def allocate(self, slot: int, rows: int, channels: int) -> Rows:
        """What the caller will own is not taken from the arena: it needs no copy at the end."""
        return aligned_empty(rows, channels) if slot in self.keep else self._arena.take(slot, rows, channels)

    def release(self, slot: int) -> None:
        """Gives a buffer back to the arena."""
        self._arena.give(slot)

    def output(self, array: Rows) -> Rows:
        """The rows themselves, unless they are columns of a wider buffer."""
        return np.ascontiguousarray(array)
