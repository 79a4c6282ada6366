"""Layers that change what the rows stand for: HeightCompression to 2-D sites, ToDense to an array."""

from __future__ import annotations

from spcli.layers.base import Layer, Lowered, Lowering, Reference
from spcli.program import CompressHeight, FlattenSites, MakeDense


class HeightCompression(Layer, frozen=True, kw_only=True):
    """3-D sites to their (y, x) columns, channel `c * Z + z`: OpenPCDet's bird's-eye view, kept sparse."""

    input: Reference | None = None

    def lower(self, net: Lowering) -> Lowered:
        """`C * Z` channels over the flattened sites."""
        source = net.rows(self.input)
        net.needs_axes(source, (3,))
        channels = net.channels(source)
        output = net.value(net.derived(source, FlattenSites), channels * net.height(source))
        net.emit(CompressHeight(source.value, output.value))
        return Lowered(source, output, channels)


class ToDense(Layer, frozen=True, kw_only=True):
    """A dense array `[B, C, Z, Y, X]` (2-D: `[B, C, Y, X]`), zero where no site is active; an output only."""

    input: Reference | None = None

    def lower(self, net: Lowering) -> Lowered:
        """The same sites, written out."""
        source = net.rows(self.input)
        net.needs_axes(source, (2, 3))
        channels = net.channels(source)
        output = net.value(source.sites, channels, dense=True)
        net.emit(MakeDense(source.value, output.value))
        return Lowered(source, output, channels)
