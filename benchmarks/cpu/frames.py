"""Voxelization, rulebooks, convolution and whole network of one workload, with the features checked first."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from benchmarks.common.pages import Check
from benchmarks.common.reference64 import output64, relative_l2
from benchmarks.common.rounds import rounds
from benchmarks.common.workload import Workload, macs, prepare
from benchmarks.cpu.workers import Entry, Worker
from spcli.engines.cpu.library import cpu_flags
from spcli.weights import fold

# What the features of a configuration may differ from a float64 evaluation by, and from spconv's.
BACKBONE_ERROR, UNET_ERROR, PEER_ERROR = 2e-6, 5e-6, 1e-5
WARM_UP = 2


@dataclass(frozen=True)
class FrameReport:
    """What one workload gave.

    Attributes:
        name: configuration and scan.
        voxels, outputs: active sites in and out.
        gmac: exact multiply-adds in billions.
        checks: comparisons of features.
        medians: seconds by contestant and stage.
        absent: contestants that could not take part, with the reason.
    """

    name: str
    voxels: int
    outputs: int
    gmac: float
    checks: list[Check]
    medians: dict[str, dict[str, float]]
    absent: list[str]


def entries() -> list[Entry]:
    """spcli on one and on all threads, its AVX2 build, and the peers."""
    threads = len(os.sched_getaffinity(0))
    counts = sorted({1, threads})
    found = [Entry(f"spcli {n}T", "ours", n) for n in counts]
    if "avx512bw" in cpu_flags():
        found.append(Entry(f"spcli AVX2 {threads}T", "ours", threads, {"SPCLI_ISA": "v3"}))
    floors = [Entry(f"floor {n}T", "floors", n) for n in counts]
    return [*found, Entry("spconv 1T", "spconv"), *floors]


def frame_report(workload: Workload, count: int) -> FrameReport:
    """Check, then time."""
    frame = prepare(workload)
    network, tensor = workload.network, workload.tensor
    ours = frame.outputs[workload.output]
    expected = output64(network, fold(network, workload.parameters), frame, tensor)
    allowed = UNET_ERROR if "unet" in workload.config else BACKBONE_ERROR
    checks = [Check("spcli against float64", relative_l2(ours.features, expected), allowed)]
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(entry, workload)) for entry in _wanted(workload)]
        absent = [worker.refusal for worker in workers if worker.refusal]
        present = [worker for worker in workers if not worker.refusal]
        for worker in present:
            if worker.entry.module == "spconv":
                indices, features = worker.output()
                np.testing.assert_array_equal(indices, ours.indices)
                checks.append(Check("spconv against float64", relative_l2(features, expected), PEER_ERROR))
                checks.append(Check("spcli against spconv", relative_l2(ours.features, features), PEER_ERROR))
        medians = rounds({worker.entry.label: worker.round for worker in present}, count, WARM_UP)
    layers = workload.layers
    return FrameReport(
        workload.name, len(tensor.indices), len(ours.indices), macs(layers) / 1e9, checks, medians, absent
    )


def _wanted(workload: Workload) -> list[Entry]:
    """The numpy voxelizer knows fixed ranges only."""
    fixed = "second" in workload.config
    return [*entries(), Entry("numpy 1T", "numpy_voxelizer")] if fixed else entries()
