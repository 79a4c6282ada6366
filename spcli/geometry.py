"""The pair equation of sparse convolution, in integers, written once.

A rule joins an input site and an output site through kernel index `k` (one integer per axis, `0 <= k < kernel_size`):

    in_site  = stride * out_site - padding + dilation * k        regular and submanifold convolution, pooling
    out_site = stride * in_site  - padding + dilation * k        transposed convolution

Kernel indices are numbered in raster order, the last axis fastest; that number is the *tap*. The offset people draw
on paper is centred: `k - (kernel_size - 1) // 2`. Submanifold convolutions (Graham, Engelcke, van der Maaten, 2018)
keep the input's sites, so stride is 1, kernels are odd and padding is `dilation * (kernel_size - 1) // 2` whatever a
file says, as in spconv.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod


@dataclass(frozen=True)
class ConvGeometry:
    """Sizes of a convolution or pooling window, one integer per axis in z, y, x order (2-D: y, x).

    Build submanifold ones with `submanifold_geometry`, which sets the padding.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    submanifold: bool = False
    transposed: bool = False

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.kernel_size)

    @property
    def volume(self) -> int:
        """Number of taps V."""
        return prod(self.kernel_size)

    @property
    def keeps_sites(self) -> bool:
        """Whether outputs lie on the input's sites: of a submanifold convolution, and of a window of one cell."""
        ones = (1,) * self.ndim
        single = self.kernel_size == self.stride == ones and not any((*self.padding, *self.output_padding))
        return self.submanifold or (single and not self.transposed)

    def offsets(self) -> list[tuple[int, ...]]:
        """The V centred offsets in tap order."""
        return list(product(*(range(-((k - 1) // 2), k - (k - 1) // 2) for k in self.kernel_size)))

    def out_spatial_shape(self, spatial_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the outputs for inputs of `spatial_shape`; entries can be 0 or less when a window does not fit."""
        if self.submanifold:
            return spatial_shape
        axes = zip(spatial_shape, self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        if self.transposed:
            sizes = ((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes)
            return tuple(size + extra for size, extra in zip(sizes, self.output_padding, strict=True))
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)


@dataclass(frozen=True)
class CellAxes:
    """Where cells lie among the input's: the centre of site s is at `scale * s + shift`, z, y, x.

    Both are in cells of the input, counted from the centre of its site 0. A 2-D grid uses y and x; an axis that was
    flattened has scale 0.
    """

    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)

    def after(self, geometry: ConvGeometry) -> CellAxes:
        """The cells of a window's outputs: each lies in the middle of its window."""
        scale, shift = list(self.scale), list(self.shift)
        sizes = zip(geometry.stride, geometry.padding, geometry.dilation, geometry.kernel_size, strict=True)
        for axis, (stride, padding, dilation, kernel) in enumerate(sizes, start=-geometry.ndim):
            middle = dilation * (kernel - 1) / 2 - padding
            if geometry.transposed:
                scale[axis] /= stride
                shift[axis] -= scale[axis] * middle
            else:
                shift[axis] += scale[axis] * middle
                scale[axis] *= stride
        return CellAxes(tuple(scale), tuple(shift))

    def flattened(self) -> CellAxes:
        """Without height: every cell at the bottom of the input's grid."""
        return CellAxes((0.0, *self.scale[1:]), (-0.5, *self.shift[1:]))


def submanifold_geometry(kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> ConvGeometry:
    """The geometry of a submanifold convolution; the kernel must be odd on every axis (the layers check it)."""
    ones, zeros = (1,) * len(kernel_size), (0,) * len(kernel_size)
    padding = tuple(d * (k - 1) // 2 for k, d in zip(kernel_size, dilation, strict=True))
    return ConvGeometry(kernel_size, ones, padding, dilation, zeros, submanifold=True)


def regular_geometry(
    kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], dilation: tuple[int, ...]
) -> ConvGeometry:
    """The geometry of a regular convolution or a pooling window."""
    return ConvGeometry(kernel_size, stride, padding, dilation, (0,) * len(kernel_size))
