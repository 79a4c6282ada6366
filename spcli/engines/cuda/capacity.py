"""How many rows a list is given whose length only the device knows.

Outside a graph the host waits for the length and allocates exactly that. Inside one nothing may wait: capacities are
fixed when the graph is captured, kernels stop at them, and the true lengths are looked at once a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from spcli.engines.cuda.launch import only_outside_frames


class Room(Protocol):
    """Gives capacities, in the order in which a frame's lists are made."""

    totals: list[Tensor]

    def rows(self, total: Tensor) -> int:
        """Rows to allocate for a list whose true length will stand in `total` (int32 `[1]`, on the device)."""


class ExactRoom:
    """Waits for the device and gives exactly what is needed."""

    def __init__(self) -> None:
        self.totals: list[Tensor] = []

    def rows(self, total: Tensor) -> int:
        """The length itself; synchronises."""
        only_outside_frames("the length of a list")
        return int(total.item())


class FixedRoom:
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


class LearningRoom(ExactRoom):
    """Gives exactly what is needed and remembers it, to decide capacities from."""

    def rows(self, total: Tensor) -> int:
        """The length itself; synchronises."""
        self.totals.append(total)
        return super().rows(total)
