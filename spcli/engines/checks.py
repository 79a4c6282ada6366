"""What every engine refuses before it reads memory by a caller's numbers, in the same words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcli.errors import ConfigError, InputError, Problem
from spcli.geometry import ConvGeometry
from spcli.program import BuildMap, Program, Shape, SitesOp, fold_sites
from spcli.sparse_tensor import row_problem, rows_outside, rows_unsorted


def indices_of(indices: NDArray[np.int32], spatial_shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The indices as a C-contiguous int32 `[N, 1 + D]`.

    Raises:
        InputError: there is no grid, or they are of another shape.
    """
    ndim = len(spatial_shape)
    if not ndim:
        raise InputError(
            "the tensor has no grid, only one row per scan, as after a global pooling; give one with sites"
        )
    if ndim not in (2, 3) or indices.ndim != 2 or indices.shape[1] != 1 + ndim:
        raise InputError(f"indices have shape {list(indices.shape)}; those of {ndim} axes are [N, 1 + 2] or [N, 1 + 3]")
    return np.ascontiguousarray(indices, np.int32)


def wrong_row(indices: NDArray[np.int32], row: int, spatial_shape: tuple[int, ...], batch_size: int) -> InputError:
    """What is wrong with the first row that cannot be a site."""
    site, before = indices[row].tolist(), indices[row - 1].tolist()
    return InputError(row_problem(row, site, before, (batch_size, *spatial_shape)))


def check_indices(indices: NDArray[np.int32], spatial_shape: tuple[int, ...], batch_size: int) -> NDArray[np.int32]:
    """Canonical indices as a C-contiguous int32 `[N, 1 + D]`.

    Raises:
        InputError: they are of another shape, or a row lies outside the shape or batch or does not rise.
    """
    indices = indices_of(indices, spatial_shape)
    wrong = rows_outside(indices, spatial_shape, batch_size) | rows_unsorted(indices)
    if wrong.any():
        raise wrong_row(indices, int(wrong.argmax()), spatial_shape, batch_size)
    return indices


def out_shape_of(spatial_shape: tuple[int, ...], geometry: ConvGeometry) -> tuple[int, ...]:
    """Shape of the outputs of a convolution or pooling.

    Raises:
        ConfigError: it has an axis of 0 or less.
    """
    out_shape = geometry.out_spatial_shape(spatial_shape)
    if min(out_shape) > 0:
        return out_shape
    message = f"an input of shape {list(spatial_shape)} leaves an output of shape {list(out_shape)}"
    remedy = "use fewer strides, more padding or a larger spatial_shape_extra"
    raise ConfigError([Problem(f"{message}: kernel_size {list(geometry.kernel_size)} does not fit; {remedy}")])


def three(sizes: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    """Sizes of three axes; a 2-D grid is one plane of a 3-D grid."""
    z, y, x = (fill,) * (3 - len(sizes)) + sizes
    return z, y, x


def checked_shapes(program: Program, spatial_shape: Shape) -> tuple[Shape, ...]:
    """The shape of every sites slot where the input's sites lie in `spatial_shape`.

    Raises:
        ConfigError: one of them has an axis of 0 or less.
    """

    def after(op: SitesOp, shape: Shape) -> Shape:
        return out_shape_of(shape, op.geometry) if isinstance(op, BuildMap) else op.shape_after(shape)

    return fold_sites(program, spatial_shape, after)
