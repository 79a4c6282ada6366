"""One network on one scan on a card: features checked against the CPU's first, then stages, streams and memory."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.common.reference64 import relative_l2
from benchmarks.common.rounds import rounds
from benchmarks.common.workload import Workload, macs, prepare
from benchmarks.cuda.card import Flush
from benchmarks.cuda.floors import load_of
from benchmarks.cuda.report import Check, FrameResult, Measures, Rates
from spcli.engines.base import ALLOWED_ERROR
from spcli.sparse_tensor import SparseTensor

CONTESTANTS = {"spcli": "benchmarks.cuda.ours", "spconv": "benchmarks.cuda.spconv"}
SIZES = {"float16": 2, "bfloat16": 2}
# What features may differ from the CPU's by, relative L2.
WARM_UP = 3


def frame_result(workload: Workload, given: argparse.Namespace, rates: Rates) -> FrameResult:
    """Check, then time."""
    frame = prepare(workload)
    expected = frame.outputs[workload.output]
    entered = {f"{name} {dtype}": enter(name, workload, dtype) for dtype in given.dtype for name in CONTESTANTS}
    absent = [reason for reason in entered.values() if isinstance(reason, str)]
    present = {label: one for label, one in entered.items() if not isinstance(one, str)}
    checks = [compared(label, one.output(), expected) for label, one in present.items()]
    flush = Flush() if given.cold else None
    stages = rounds({label: after(flush, one.round) for label, one in present.items()}, given.rounds, WARM_UP)
    measures = {
        label: Measures(stages[label], one.frames_a_second(given.frames), one.memory) for label, one in present.items()
    }
    floors = {
        dtype: load_of(workload.network, frame, workload.points, SIZES.get(dtype, 4)).seconds(
            rates.copy, rates.products[dtype]
        )
        for dtype in given.dtype
    }
    sizes = len(workload.points.values), len(workload.tensor.indices), len(expected.indices)
    return FrameResult(workload.name, sizes, macs(workload.layers) / 1e9, checks, measures, floors, absent)


def enter(name: str, workload: Workload, dtype: str) -> Any:
    """A contestant made ready, or the reason why it takes no part; our own errors are not caught."""
    if name == "spconv" and dtype == "bfloat16":
        return "spconv bfloat16: it has no such number format"
    if name == "spcli":
        return import_module(CONTESTANTS[name]).Contestant(workload, dtype)
    try:
        return import_module(CONTESTANTS[name]).Contestant(workload, dtype)
    except Exception as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        return f"{name} {dtype} cannot be loaded: {words[0]}"


def compared(label: str, output: tuple[np.ndarray, np.ndarray], expected: SparseTensor) -> Check:
    """A contestant's features beside the CPU's."""
    indices, features = output
    same = np.array_equal(indices, expected.indices)
    error = relative_l2(features, expected.features) if same else float("inf")
    return Check(f"{label} against spcli on the CPU", error, ALLOWED_ERROR[label.split()[1]])


def after(flush: Flush | None, one_round: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
    """The round, each time with the card's cache emptied before it where there is a `flush`."""
    if flush is None:
        return one_round

    def from_cold() -> dict[str, float]:
        flush()
        return one_round()

    return from_cold
