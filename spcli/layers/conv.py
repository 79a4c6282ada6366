"""Convolutions: submanifold, regular, inverse and transposed, in two and three dimensions.

Submanifold convolution follows Graham, Engelcke and van der Maaten (2018); the inverse one restores the sites an
earlier convolution started from.
"""

from __future__ import annotations

from typing import ClassVar

from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.layers.base import KernelSize, Lowered, Lowering, Margins, Name, Steps, per_axis
from spcli.layers.weighted import Weighted


class Convolution(Weighted, frozen=True, kw_only=True):
    """A convolution that builds a rulebook of its own, or shares the one of its `indice_key`."""

    ndim: ClassVar[int]

    kernel_size: KernelSize
    stride: Steps = 1
    padding: Margins = 0
    dilation: Steps = 1
    indice_key: Name | None = None

    def geometry(self, net: Lowering) -> ConvGeometry:
        """The pair equation's sizes; problems with them go to `net`."""
        return regular_geometry(*self._sizes(net))

    def lower(self, net: Lowering) -> Lowered:
        """Build or share the map, then convolve."""
        geometry = self.geometry(net)
        source = net.rows(self.input)
        net.needs_axes(source, (self.ndim,))
        return self.finish(net, source, net.forward_map(source, geometry, self.indice_key), geometry.kernel_size)

    def _sizes(self, net: Lowering) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (
            per_axis(net, "kernel_size", self.kernel_size, self.ndim),
            per_axis(net, "stride", self.stride, self.ndim),
            per_axis(net, "padding", self.padding, self.ndim),
            per_axis(net, "dilation", self.dilation, self.ndim),
        )


class SubMConvolution(Convolution, frozen=True, kw_only=True):
    """Submanifold convolution: output sites are the input's. `padding` is accepted and ignored, as spconv does."""

    def geometry(self, net: Lowering) -> ConvGeometry:
        """Odd kernel, stride 1, centred padding."""
        kernel, stride, _, dilation = self._sizes(net)
        if any(side % 2 == 0 for side in kernel):
            net.problem("kernel_size", f"is {list(kernel)}, but a submanifold kernel must be odd on every axis")
        if any(step != 1 for step in stride):
            strided = f"SparseConv{self.ndim}d"
            net.problem("stride", f"is {list(stride)}, but a submanifold convolution has stride 1; use {strided}")
        return submanifold_geometry(kernel, dilation)


class SubMConv2d(SubMConvolution, frozen=True, kw_only=True):
    """Submanifold convolution over (y, x)."""

    ndim: ClassVar[int] = 2


class SubMConv3d(SubMConvolution, frozen=True, kw_only=True):
    """Submanifold convolution over (z, y, x)."""

    ndim: ClassVar[int] = 3


class SparseConv2d(Convolution, frozen=True, kw_only=True):
    """Regular convolution over (y, x): an output site wherever the window holds an active input site."""

    ndim: ClassVar[int] = 2


class SparseConv3d(Convolution, frozen=True, kw_only=True):
    """Regular convolution over (z, y, x): an output site wherever the window holds an active input site."""

    ndim: ClassVar[int] = 3


class TransposedConvolution(Convolution, frozen=True, kw_only=True):
    """Transposed convolution: `out = stride * in - padding + dilation * k`, sizes as in torch."""

    output_padding: Margins = 0

    def geometry(self, net: Lowering) -> ConvGeometry:
        """The equation with its ends swapped; output padding stays below stride or dilation, as torch asks."""
        kernel, stride, padding, dilation = self._sizes(net)
        extra = per_axis(net, "output_padding", self.output_padding, self.ndim)
        if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
            net.problem("output_padding", f"is {list(extra)}, but must be smaller than the stride or the dilation")
        return ConvGeometry(kernel, stride, padding, dilation, extra, transposed=True)


class SparseConvTranspose2d(TransposedConvolution, frozen=True, kw_only=True):
    """Transposed convolution over (y, x)."""

    ndim: ClassVar[int] = 2


class SparseConvTranspose3d(TransposedConvolution, frozen=True, kw_only=True):
    """Transposed convolution over (z, y, x)."""

    ndim: ClassVar[int] = 3


class InverseConvolution(Weighted, frozen=True, kw_only=True):
    """The rules of the earlier layer with this `indice_key`, ends swapped: its input sites come back."""

    ndim: ClassVar[int]

    kernel_size: KernelSize
    indice_key: Name

    def lower(self, net: Lowering) -> Lowered:
        """Swap the forward map's ends, then convolve."""
        kernel = per_axis(net, "kernel_size", self.kernel_size, self.ndim)
        source = net.rows(self.input)
        net.needs_axes(source, (self.ndim,))
        return self.finish(net, source, net.inverse_map(source, kernel, self.indice_key), kernel)


class SparseInverseConv2d(InverseConvolution, frozen=True, kw_only=True):
    """Inverse convolution over (y, x)."""

    ndim: ClassVar[int] = 2


class SparseInverseConv3d(InverseConvolution, frozen=True, kw_only=True):
    """Inverse convolution over (z, y, x)."""

    ndim: ClassVar[int] = 3
