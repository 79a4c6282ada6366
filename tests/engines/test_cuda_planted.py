"""Kernels that are wrong on purpose, one for each kind of operation: the check of the first frame finds every one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import scene
from planted import plant
from programs import ProgramBuilder
from rehearsal import CUBE3, DOWN2, DOWN3, FIXED, cloud, tensor, with_points
from spcli.engines.base import Want
from spcli.pipeline.checking import CheckedRunner, Task
from spcli.pipeline.verdicts import kept
from spcli.program import Activation
from spcli.sparse_tensor import SparseTensor

Write = Callable[[ProgramBuilder], Any]

HUGE = (1 << 9, 1 << 15, 1 << 15)


def narrow(b: ProgramBuilder) -> None:
    b.convolve(b.build_map(0, CUBE3), 0, 8)


def strided(b: ProgramBuilder) -> None:
    b.convolve(b.build_map(0, DOWN3), 0, 8)


def inverse(b: ProgramBuilder) -> None:
    down = b.build_map(0, DOWN2)
    b.convolve(b.invert_map(down), b.convolve(down, 0, 8), 8)


# What is wrong: the kernels' module, a piece of it, what stands there instead, a network, and what the check says.
FAULTS: dict[str, tuple[str, str, str, Write, str]] = {
    "mean of a voxel": ("voxelize", "return so_far + value", "return so_far + 1.1 * value", narrow, "layer "),
    "cell of a point": ("runs", "tl.floor(steps)", "tl.ceil(steps)", narrow, "rulebook "),
    "row in a bitmap": ("rulebook", "base), at)", "base), at + 1)", narrow, "rulebook "),
    "row in keys": ("rulebook", "found += goes_on", "found -= goes_on", narrow, "rulebook "),
    "taps of a rule": ("rulebook", "* WINDOW[2][0] + tap_x", "* WINDOW[2][0] + 2 - tap_x", narrow, "rulebook "),
    "output sites": ("outputs", "& (out < size)", "& (out < size - 3)", strided, "rulebook "),
    "ends of an inverse": (
        "rulebook", "rows[None, :] + tl.zeros_like(in_rows), mask=in_rows >= 0)",
        "tl.maximum(rows[None, :] - 1, 0) + tl.zeros_like(in_rows), mask=in_rows >= 0)", inverse, "layer ",
    ),
    "taps of a block": ("tiles", "counts_ptr + tile, count)", "counts_ptr + tile, count - 1)", narrow, "layer "),
    "taps of 64 rows": ("convolve", "count = popcount(bits)", "count = popcount(bits) // 2", narrow, "layer "),
    "order of rows": ("tiles", "first + place, first + local", "first + place, first + local // 2", narrow, "layer "),
    "convolution": ("convolve", "mask = (sources >= 0)", "mask = (sources > 0)", narrow, "layer "),
    "residual": (
        "convolve", "sums += tl.load(add_ptr", "sums -= tl.load(add_ptr",
        lambda b: b.convolve(b.build_map(0, CUBE3), 0, 4, add=0), "layer ",
    ),
    "linear": (
        "convolve", "a = tl.load(x_ptr + first, mask=mask, other=0.0)",
        "a = 0.99 * tl.load(x_ptr + first, mask=mask, other=0.0)",
        lambda b: b.convolve(None, 0, 8), "layer ",
    ),
    "maximum over a window": (
        "pool", "(value < kept)", "(value > kept)", lambda b: b.pool(b.build_map(0, DOWN3), 0, "max"), "layer ",
    ),
    "mean over a window": (
        "pool", "tl.maximum(degree, 1)", "tl.maximum(degree, 2)",
        lambda b: b.pool(b.build_map(0, DOWN3), 0, "mean"), "layer ",
    ),
    "mean over a scan": (
        "pool", "result / tl.maximum(count, 1)", "result / (count + 1)",
        lambda b: b.global_pool(0, "mean"), "layer ",
    ),
    "maximum over a scan": (
        "pool", "value > result, value, result", "value < result, value, result",
        lambda b: b.global_pool(0, "max"), "layer ",
    ),
    "sum": (
        "pointwise", "value += tl.load(places(more_ptr", "value -= tl.load(places(more_ptr",
        lambda b: b.add(0, 0, activation=Activation()), "layer ",
    ),
    "layer norm": ("pointwise", "/ channels + EPS)", "/ channels + EPS + 0.1)", lambda b: b.layer_norm(0), "layer "),
    "channel reduction": (
        "pointwise", "total += tl.load(sources", "total -= tl.load(sources",
        lambda b: b.channel_reduction(0, 2), "layer ",
    ),
    "height compression": (
        "pointwise", "+ z[:, None]", "+ (height - 1 - z)[:, None]", lambda b: b.height_compression(0), "layer ",
    ),
    "dense grid": (
        "pointwise", "cell[:, None], value, mask", "cell[:, None], value + 1, mask",
        lambda b: b.to_dense(0), "layer ",
    ),
}  # fmt: skip


def case(name: str, write: Write) -> tuple[Task, Any]:
    """The network of a fault and a scan: points where the fault lies before the sites, else a tensor."""
    shape = HUGE if name == "row in keys" else (11, 32, 32)
    builder = ProgramBuilder([shape], 4)
    write(builder)
    program, scan = builder.program(), tensor(1, 150)
    if name in ("mean of a voxel", "cell of a point"):
        program, scan = with_points(builder, FIXED), cloud(3, 300)
    elif name == "row in keys":
        near = scene(1, 150, (11, 32, 32)).indices + np.array([0, 7, 9000, 9000], np.int32)
        scan = SparseTensor(scan.features, near, HUGE)
    return Task("planted", program, builder.parameters, Want(tuple(builder.layers))), scan


def in_format(cuda: Any, name: str) -> Any:
    """Rows that are not sorted, as they are in exact float32, have their taps in masks."""
    return cuda.with_dtype("float16") if name == "taps of 64 rows" else cuda


def as_on_a_device(name: str) -> AbstractContextManager[None]:
    """With the blocks of a device, where an interpreter's larger ones would go another way."""
    from spcli.engines.cuda.blocks import true_shapes

    return true_shapes(90) if name == "taps of 64 rows" else nullcontext()


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_kernel_is_found_in_the_first_frame(
    cuda: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, right, wrong, write, said = FAULTS[name]
    task, scan = case(name, write)
    plant(monkeypatch, tmp_path, module, right, wrong)
    with as_on_a_device(name):
        runner = CheckedRunner(in_format(cuda, name), task, "first")
        found = runner.result(runner.submit(scan))
    assert found.engine.label != "triton"
    (sentence,) = found.warnings
    assert sentence.startswith("the first frame of planted by the triton engine on ")
    assert f"is wrong: {said}" in sentence and " engine goes on" in sentence
    assert [stored.worst.ok for stored in kept() if stored.subject.engine == "triton"] == [False]


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_networks_are_right_where_nothing_is_planted(cuda: Any, name: str) -> None:
    task, scan = case(name, FAULTS[name][3])
    with as_on_a_device(name):
        runner = CheckedRunner(in_format(cuda, name), task, "first")
        found = runner.result(runner.submit(scan))
    assert (found.engine.label, found.warnings) == ("triton", ())
    assert found.verdict is not None and found.verdict.ok
