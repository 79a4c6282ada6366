"""Layers that join channels: Concat, Add, ChannelReduction."""

from __future__ import annotations

from spcli.layers.base import (
    ActivationKey,
    Channels,
    Layer,
    Lowered,
    Lowering,
    Reference,
    References,
    Rows,
    activation_of,
)
from spcli.program import AddValues, Concatenate, ReduceChannels


def _over_one_set_of_sites(net: Lowering, references: tuple[str, ...]) -> list[Rows]:
    """What the references name; all must lie over the sites of the first."""
    rows = [net.rows(reference, "inputs") for reference in references]
    for reference, other in zip(references[1:], rows[1:], strict=True):
        net.same_sites(references[0], rows[0].sites, reference, other, "inputs")
    return rows


class Concat(Layer, frozen=True, kw_only=True):
    """Channels side by side, in the order of `inputs`."""

    inputs: References

    def lower(self, net: Lowering) -> Lowered:
        """One wider value over the same sites."""
        rows = _over_one_set_of_sites(net, self.inputs)
        parts = [net.channels(part) for part in rows]
        channels = sum(parts) if all(parts) else 0
        output = net.value(rows[0].sites, channels)
        net.emit(Concatenate(tuple(part.value for part in rows), output.value))
        return Lowered(rows[0], output, channels)


class Add(Layer, frozen=True, kw_only=True):
    """Sum of `inputs`, then the activation. `defaults` do not apply."""

    inputs: References
    activation: ActivationKey = None

    def lower(self, net: Lowering) -> Lowered:
        """A sum over the same sites and as many channels."""
        rows = _over_one_set_of_sites(net, self.inputs)
        channels = next(filter(None, [net.channels(part) for part in rows]), 0)
        for reference, part in zip(self.inputs, rows, strict=True):
            net.same_channels(reference, part, channels, "inputs")
        output = net.value(rows[0].sites, channels)
        net.emit(AddValues(tuple(part.value for part in rows), output.value, activation_of(self.activation)))
        return Lowered(rows[0], output, channels)


class ChannelReduction(Layer, frozen=True, kw_only=True):
    """Sums of neighbouring channels, as in OpenPCDet's UNetV2: `[N, C]` to `[N, out_channels]`."""

    input: Reference | None = None
    out_channels: Channels

    def lower(self, net: Lowering) -> Lowered:
        """The input's channels must be a multiple of `out_channels`."""
        source = net.rows(self.input)
        channels = net.channels(source)
        if channels % self.out_channels:
            net.problem("out_channels", f"is {self.out_channels}, which does not divide the input's {channels}")
        output = net.value(source.sites, self.out_channels)
        net.emit(ReduceChannels(source.value, output.value))
        return Lowered(source, output, channels)
