"""Linear: the same product for every row, a 1x1 convolution without rules."""

from __future__ import annotations

from spcli.layers.base import Lowered, Lowering
from spcli.layers.weighted import Weighted


class Linear(Weighted, frozen=True, kw_only=True):
    """`W x + b` for each row, over any sites."""

    def lower(self, net: Lowering) -> Lowered:
        """A product without a map."""
        return self.finish(net, net.rows(self.input), None, ())
