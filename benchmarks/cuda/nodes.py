"""Counts what one frame of the CUDA engine starts and moves; no device is needed.

Prints one row per kernel and per operation of torch that a captured frame starts, with how often; then the nodes of its
graph, and the bytes of the copies around it. Triton's interpreter stands in for the device, and nothing is carried
out: the capacities follow from the sites that the CPU engine finds.

    python -m benchmarks.cuda.nodes --config second-kitti --scan sample_data/street_000.bin --dtype float16

An operation of torch counts as one node; a sort and a running sum are several launches on a device.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import argparse
import importlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.common.paths import SAMPLE
from benchmarks.common.workload import Workload
from spcli.config import load_config
from spcli.engines import load_engine
from spcli.engines.base import Points, Want
from spcli.engines.cuda import arrays, inputs, kernels
from spcli.engines.cuda import frame as frames
from spcli.engines.cuda.blocks import true_shapes
from spcli.engines.cuda.capacity import FrameSizes
from spcli.engines.cuda.capture import Stream, host_buffer
from spcli.engines.cuda.engine import CudaEngine
from spcli.engines.cuda.frame import CapturedFrame
from spcli.engines.cuda.inputs import examine
from spcli.engines.cuda.launch import Recording
from spcli.engines.cuda.runner import CudaRunner
from spcli.engines.tensors import STORAGE
from spcli.network import Network
from spcli.program import BuildMap, FlattenSites, Program
from spcli.weights import fold, initial_parameters

CARD = 90  # the architecture whose block shapes are taken; they decide which kernels start
MARK = "_now"  # a moment that is noted for the times of phases


@dataclass(frozen=True)
class Counts:
    """One captured frame.

    Attributes:
        steps: how often each kernel or operation is started.
        up, down: bytes of each copy to the device before it and to the host after it.
    """

    steps: Counter[str]
    up: tuple[int, ...]
    down: tuple[int, ...]

    @property
    def nodes(self) -> int:
        """Steps, except marks of time."""
        return sum(self.steps.values()) - self.steps[MARK]


class Copies:
    """Notes the bytes of copies between host memory that frames took and other memory: that is the device's."""

    def __init__(self, host: list[torch.Tensor]) -> None:
        self._host = host
        self.up: list[int] = []
        self.down: list[int] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Notes those inside."""
        copy = torch.Tensor.copy_

        def noting(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
            to_host, from_host = self._is_host(target), self._is_host(source)
            if to_host != from_host:
                (self.down if to_host else self.up).append(target.nbytes)
            return copy(target, source, non_blocking)

        with patch.object(torch.Tensor, "copy_", noting):
            yield

    def _is_host(self, tensor: torch.Tensor) -> bool:
        place = tensor.untyped_storage().data_ptr()
        return any(place == buffer.untyped_storage().data_ptr() for buffer in self._host)


def counts_of(network: Network, points: Points, dtype: str) -> Counts:
    """What a captured frame of a scan is made of, its last layer wanted; the capacities are those after this scan."""
    program, parameters = network.program, fold(network, initial_parameters(network, 0))
    host: list[torch.Tensor] = []

    def noted(*arguments: Any) -> torch.Tensor:
        host.append(host_buffer(*arguments))
        return host[-1]

    with (
        true_shapes(CARD),
        patch.object(frames, "host_buffer", noted),
        patch.object(inputs, "host_buffer", noted),
        # What a network uploads once is there after its first frame, which is not carried out here.
        patch.object(arrays, "only_outside_frames", lambda what: None),
    ):
        runner = CudaRunner(CudaEngine(dtype), program, parameters, Want((program.output,)))
        scan = examine(points, program.voxelize, runner._grid, runner._any_shape)
        captured = CapturedFrame(runner._job, scan, Stream(), sizes_of(program, points))
        recording, captured._replay = captured._replay, Recording()
        copies = Copies(host)
        with copies.noted():
            captured.start(scan)
    assert isinstance(recording, Recording)
    return Counts(Counter(recording.names), tuple(copies.up), tuple(copies.down))


def sizes_of(program: Program, points: Points) -> FrameSizes:
    """Capacities for a scan, from its sites by the CPU engine: of the points, the voxels and each list of outputs."""
    cpu = load_engine("cpu").compile(program, {}, Want(values=False))
    sites = cpu.result(cpu.submit(points)).sites
    made = [
        op.outputs
        for op in program.index_ops
        if isinstance(op, FlattenSites) or (isinstance(op, BuildMap) and not op.geometry.keeps_sites)
    ]
    return FrameSizes().grown(len(points.values), [sites[slot] for slot in (0, *made)])


def table(counts: Counts) -> Iterator[str]:
    """Lines for people."""
    for name, times in sorted(counts.steps.items(), key=lambda each: (-each[1], each[0])):
        if name != MARK:
            yield f"{times:>5}  {name}"
    kernels = sum(times for name, times in counts.steps.items() if name in kernel_names())
    yield f"{counts.nodes} nodes, {kernels} of them launches of kernels; {counts.steps[MARK]} marks of time"
    yield f"{sum(counts.up)} bytes up in {len(counts.up)} copies, {sum(counts.down)} down in {len(counts.down)}"


def kernel_names() -> set[str]:
    """Names of the engine's kernels; other steps are torch's."""
    modules = (importlib.import_module(f"{kernels.__name__}.{each.name}") for each in iter_modules(kernels.__path__))
    return {name for module in modules for name, value in vars(module).items() if hasattr(value, "arg_names")}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda.nodes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="second-kitti", help="configuration (default second-kitti)")
    parser.add_argument("--scan", default=str(SAMPLE), help="scan (default the repository's own)")
    parser.add_argument("--dtype", default="float16", choices=STORAGE, help="number format (default float16)")
    return parser.parse_args()


def main() -> None:
    """Prints the table."""
    given = arguments()
    points = Workload(given.config, given.scan, Path()).points
    network = load_config(given.config).network(len(points.features), None)
    print(*table(counts_of(network, points, given.dtype)), sep="\n")


if __name__ == "__main__":
    main()
