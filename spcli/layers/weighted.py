"""What convolutions and Linear have in common: weights and an epilogue.

In every one the order is product, bias, norm, add, activation. Batch norm folds into the product; a LayerNorm needs
whole rows and is executed on its own.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar

from spcli.layers.base import (
    ActivationKey,
    BatchNorm1d,
    Channels,
    KeyedSlots,
    Layer,
    LayerNorm,
    Lowered,
    Lowering,
    Norm,
    NormKey,
    Reference,
    Rows,
    Switch,
    activation_of,
    norm_of,
)
from spcli.program import Convolve, NormalizeRows


class Weighted(Layer, frozen=True, kw_only=True):
    """A layer with weights: what convolutions and Linear have in common."""

    takes_defaults: ClassVar[bool] = True

    input: Reference | None = None
    in_channels: Channels | None = None
    out_channels: Channels
    bias: Switch = True
    norm: NormKey = None
    add: Reference | None = None
    activation: ActivationKey = None

    def finish(self, net: Lowering, source: Rows, slots: KeyedSlots | None, kernel: tuple[int, ...]) -> Lowered:
        """Emit the product and its epilogue; a LayerNorm takes the add and the activation with it."""
        cin = net.channels(source, self.in_channels)
        sites = slots.outputs if slots else source.sites
        norm, activation = norm_of(self.norm), activation_of(self.activation)
        add = self._added(net, sites)
        output = net.value(sites, self.out_channels)
        map_slot = slots.map if slots else None
        if isinstance(norm, LayerNorm):
            rows = output
            output = net.value(sites, self.out_channels)
            net.emit(Convolve(map_slot, source.value, rows.value, self.name))
            net.emit(NormalizeRows(rows.value, output.value, self.name, norm.eps, add, activation))
        else:
            net.emit(Convolve(map_slot, source.value, output.value, self.name, add, activation))
        parameters = self._parameters(kernel, cin, norm)
        if slots is None:
            return Lowered(source, output, cin, None, 1, parameters, norm)
        return Lowered(source, output, cin, slots.key, prod(kernel), parameters, norm, slots.inverse)

    def _added(self, net: Lowering, sites: int) -> int | None:
        if self.add is None:
            return None
        rows = net.rows(self.add, "add")
        net.same_sites(self.name, sites, self.add, rows, "add")
        net.same_channels(self.add, rows, self.out_channels, "add")
        return rows.value

    def _parameters(self, kernel: tuple[int, ...], cin: int, norm: Norm | None) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_channels, *kernel, cin)}
        names = ["bias"] if self.bias else []
        if norm is not None:
            names += ["norm.weight", "norm.bias"]
            if isinstance(norm, BatchNorm1d):
                names += ["norm.running_mean", "norm.running_var"]
        return shapes | dict.fromkeys(names, (self.out_channels,))
