"""How many rows a list is given whose length only the device knows.

Outside a graph the host waits for the length and allocates exactly that. Inside one nothing may wait: capacities are
fixed when the graph is captured, kernels stop at them, and the true lengths are looked at once a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from spcli.engines.base import Engine
from spcli.engines.cuda.launch import only_outside_frames


class Capacity(Protocol):
    """Gives capacities, in the order in which a frame's lists are made."""

    def rows(self, total: Tensor) -> int:
        """Rows to allocate for a list whose true length will stand in `total` (int32 `[1]`, on the device)."""


class CapacityEngine(Engine, Protocol):
    """An engine whose capacities can be chosen: what the runner and its frames need of the CUDA engine."""

    def with_capacity(self, capacity: Capacity) -> Engine:
        """This engine with other capacities."""


class ExactCapacity:
    """Waits for the device and gives exactly what is needed."""

    def rows(self, total: Tensor) -> int:
        """The length itself; synchronises."""
        only_outside_frames("the length of a list")
        return int(total.item())


class LearnedCapacity(ExactCapacity):
    """Gives exactly what is needed and remembers it, to decide capacities from.

    Attributes:
        lengths: of each list, in order.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def rows(self, total: Tensor) -> int:
        """The length itself; synchronises."""
        self.lengths.append(super().rows(total))
        return self.lengths[-1]


class FixedCapacity:
    """Gives capacities decided before, and keeps the true lengths for the check after the frame.

    Attributes:
        totals: the true length of each list, on the device, in order.
    """

    def __init__(self, capacities: Sequence[int]) -> None:
        self._capacities = tuple(capacities)
        self.totals: list[Tensor] = []

    def rows(self, total: Tensor) -> int:
        """The next capacity."""
        self.totals.append(total)
        return self._capacities[len(self.totals) - 1]


def bucket(rows: int) -> int:
    """A capacity for a list of `rows`: a tenth more, rounded up to one of four sizes in each octave."""
    wanted = max(64, rows + rows // 10)
    step = 1 << max(wanted.bit_length() - 3, 0)
    return -(-wanted // step) * step


@dataclass(frozen=True)
class FrameSizes:
    """Capacities for one kind of input: of the input itself, and of the lists made from it in order."""

    rows: int = 0
    lists: tuple[int, ...] = ()

    def grown(self, rows: int, lists: Sequence[int]) -> FrameSizes:
        """Sizes that hold these lengths, larger where there was too little."""
        known = self.lists or (-1,) * len(lists)
        return FrameSizes(
            bucket(rows) if rows > self.rows else self.rows,
            tuple(bucket(need) if need > have else have for need, have in zip(lists, known, strict=True)),
        )

    def hold(self, other: FrameSizes) -> bool:
        """Whether nothing in `other` is larger."""
        return other.rows <= self.rows and all(need <= have for need, have in zip(other.lists, self.lists, strict=True))
