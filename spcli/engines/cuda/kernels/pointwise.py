"""What works on rows without a map: sums, layer norm, changes of layout."""

import triton
import triton.language as tl

from spcli.engines.cuda.kernels.common import activate, round_tf32


@triton.jit
def places(base_ptr, stride, rows, columns):
    """Where `[rows, columns]` of features lie whose rows are `stride` apart; their product may pass 2**31."""
    return base_ptr + rows.to(tl.int64)[:, None] * stride + columns[None, :]


@triton.jit(do_not_specialize=["rows"])
def add(
    in_ptr, in_stride, more_ptr, more_stride, out_ptr, out_stride, rows, channels, slope,
    ACTIVATION: tl.constexpr, TF32: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = activation(in + more), or of `in` alone where there is no more; `out` may be `in`."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < channels)[None, :]
    value = tl.load(places(in_ptr, in_stride, row, column), mask=inside, other=0.0).to(tl.float32)
    if more_ptr is not None:
        value += tl.load(places(more_ptr, more_stride, row, column), mask=inside, other=0.0).to(tl.float32)
    value = activate(value, slope, ACTIVATION)
    if TF32:
        value = round_tf32(value)
    tl.store(places(out_ptr, out_stride, row, column), value, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def layer_norm(
    in_ptr, in_stride, weight_ptr, bias_ptr, more_ptr, more_stride, out_ptr, out_stride, rows, channels, slope,
    EPS: tl.constexpr, ACTIVATION: tl.constexpr, TF32: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = activation(weight * (in - mean) / sqrt(variance + EPS) + bias + more) over each row, norm in float64."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    wanted = column < channels
    inside = (row < rows)[:, None] & wanted[None, :]
    value = tl.load(places(in_ptr, in_stride, row, column), mask=inside, other=0.0).to(tl.float32).to(tl.float64)
    mean = tl.sum(value, axis=1) / channels
    value = tl.where(inside, value - mean[:, None], 0.0)
    factor = 1.0 / tl.sqrt(tl.sum(value * value, axis=1) / channels + EPS)
    weight = tl.load(weight_ptr + column, mask=wanted, other=0.0).to(tl.float64)
    bias = tl.load(bias_ptr + column, mask=wanted, other=0.0).to(tl.float64)
    result = (value * factor[:, None] * weight[None, :] + bias[None, :]).to(tl.float32)
    if more_ptr is not None:
        result += tl.load(places(more_ptr, more_stride, row, column), mask=inside, other=0.0).to(tl.float32)
    result = activate(result, slope, ACTIVATION)
    if TF32:
        result = round_tf32(result)
    tl.store(places(out_ptr, out_stride, row, column), result, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def channel_reduction(
    in_ptr, in_stride, out_ptr, out_stride, rows, channels, group,
    TF32: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out `[rows, channels]`: column c is the sum of the input's columns from `c * group` to `(c + 1) * group - 1`."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < channels)[None, :]
    sources = places(in_ptr, in_stride, row, column * group)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for member in range(group):
        total += tl.load(sources + member, mask=inside, other=0.0).to(tl.float32)
    if TF32:
        total = round_tf32(total)
    tl.store(places(out_ptr, out_stride, row, column), total, mask=inside)


@triton.jit(do_not_specialize=["capacity"])
def height_compression(
    in_ptr, in_stride, indices_ptr, flat_ptr, total_ptr, out_ptr, capacity, channels, height,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Into zeros `[capacity, channels * height]`: input row at height z to columns `c * height + z` of its flat site.

    `indices` are those of 3-D sites, four numbers per row; `flat` holds each site's flat row.
    """
    total = tl.load(total_ptr)
    first = tl.program_id(0) * ROWS
    if first >= total:
        return
    row = first + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    flat = tl.load(flat_ptr + row, mask=row < total, other=-1)
    z = tl.load(indices_ptr + row.to(tl.int64) * 4 + 1, mask=row < total, other=0)
    # A list of flat sites that was cut at its capacity has rows beyond it.
    inside = ((flat >= 0) & (flat < capacity))[:, None] & (column < channels)[None, :]
    value = tl.load(places(in_ptr, in_stride, row, column), mask=inside, other=0.0)
    targets = out_ptr + flat.to(tl.int64)[:, None] * channels * height + column[None, :] * height + z[:, None]
    tl.store(targets, value, mask=inside)


@triton.jit
def to_dense(
    in_ptr, in_stride, indices_ptr, shape_ptr, total_ptr, out_ptr, channels,
    AXES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Into zeros `[B, channels, *shape]`: each input row to its site; `shape` is z, y, x whatever `AXES`."""
    total = tl.load(total_ptr)
    first = tl.program_id(0) * ROWS
    if first >= total:
        return
    row = first + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    site = indices_ptr + row.to(tl.int64) * (1 + AXES)
    plane = tl.load(site, mask=row < total, other=0).to(tl.int64)[:, None] * channels + column[None, :]
    cell = tl.zeros([ROWS], tl.int64)
    cells = tl.load(total_ptr).to(tl.int64) * 0 + 1
    for axis in tl.static_range(AXES):
        size = tl.load(shape_ptr + (3 - AXES + axis))
        cell = cell * size + tl.load(site + 1 + axis, mask=row < total, other=0)
        cells *= size
    inside = (row < total)[:, None] & (column < channels)[None, :]
    value = tl.load(places(in_ptr, in_stride, row, column), mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + plane * cells + cell[:, None], value, mask=inside)
