"""Pooling over the active sites of a window, and over whole scans."""

from __future__ import annotations

from typing import ClassVar, Literal

from spcli.geometry import regular_geometry
from spcli.layers.base import KernelSize, Layer, Lowered, Lowering, Margins, Name, Reference, Steps, per_axis
from spcli.program import GlobalPool, GlobalSites, Pool

Reduce = Literal["max", "mean"]


class Pooling(Layer, frozen=True, kw_only=True):
    """Maximum or mean over the active sites of each window; `stride` is the kernel's size unless given."""

    ndim: ClassVar[int]
    reduce: ClassVar[Reduce]

    input: Reference | None = None
    kernel_size: KernelSize
    stride: Steps | None = None
    padding: Margins = 0
    dilation: Steps = 1
    indice_key: Name | None = None

    def lower(self, net: Lowering) -> Lowered:
        """Build or share the map, then pool."""
        kernel = per_axis(net, "kernel_size", self.kernel_size, self.ndim)
        stride = kernel if self.stride is None else per_axis(net, "stride", self.stride, self.ndim)
        padding = per_axis(net, "padding", self.padding, self.ndim)
        geometry = regular_geometry(kernel, stride, padding, per_axis(net, "dilation", self.dilation, self.ndim))
        source = net.rows(self.input)
        net.needs_axes(source, (self.ndim,))
        slots = net.forward_map(source, geometry, self.indice_key)
        channels = net.channels(source)
        output = net.value(slots.outputs, channels)
        net.emit(Pool(slots.map, source.value, output.value, self.reduce))
        return Lowered(source, output, channels, slots.key, geometry.volume)


class SparseMaxPool2d(Pooling, frozen=True, kw_only=True):
    """Maximum over (y, x) windows."""

    ndim: ClassVar[int] = 2
    reduce: ClassVar[Reduce] = "max"


class SparseMaxPool3d(Pooling, frozen=True, kw_only=True):
    """Maximum over (z, y, x) windows."""

    ndim: ClassVar[int] = 3
    reduce: ClassVar[Reduce] = "max"


class SparseAvgPool2d(Pooling, frozen=True, kw_only=True):
    """Mean over (y, x) windows, divided by the number of active sites."""

    ndim: ClassVar[int] = 2
    reduce: ClassVar[Reduce] = "mean"


class SparseAvgPool3d(Pooling, frozen=True, kw_only=True):
    """Mean over (z, y, x) windows, divided by the number of active sites."""

    ndim: ClassVar[int] = 3
    reduce: ClassVar[Reduce] = "mean"


class GlobalPooling(Layer, frozen=True, kw_only=True):
    """Maximum or mean over all active sites of each scan: one row per scan, indices `[B, 1]`."""

    reduce: ClassVar[Reduce]

    input: Reference | None = None

    def lower(self, net: Lowering) -> Lowered:
        """One row per scan."""
        source = net.rows(self.input)
        net.needs_axes(source, (2, 3))
        channels = net.channels(source)
        output = net.value(net.derived(source, GlobalSites), channels)
        net.emit(GlobalPool(source.value, output.value, self.reduce))
        return Lowered(source, output, channels)


class SparseGlobalMaxPool(GlobalPooling, frozen=True, kw_only=True):
    """Maximum over each scan."""

    reduce: ClassVar[Reduce] = "max"


class SparseGlobalAvgPool(GlobalPooling, frozen=True, kw_only=True):
    """Mean over each scan."""

    reduce: ClassVar[Reduce] = "mean"
