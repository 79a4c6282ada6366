"""Whole frames of the compiled kernels on the simulator, compared with the CPU engine's.

    python tests/ptxsim/run.py frame PRESET:DTYPE:SCAN[:thin=N] ... [--then full,empty,street0] [--once] [--cc 80]

PRESET is a preset or a file. SCAN is one of the names below, `empty`, or a file. Every frame must have the CPU engine's
sites, counts and rulebooks bit for bit, features within the bound of its number format, and no message.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import door
import numpy as np
import sim
from simulator import ROOT, SHARED

from spcli.config import load_config
from spcli.engines import load_engine
from spcli.engines.base import Frame, Points, Want
from spcli.engines.cuda.blocks import true_shapes
from spcli.engines.cuda.engine import CudaEngine
from spcli.pipeline.channels import engine_points
from spcli.readers import read
from spcli.weights import fold, initial_parameters

BOUNDS = {"float32": 1e-5, "tf32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}
SCANS = {
    "kitti": SHARED / "data" / "kitti_000008_front.bin",
    "full": SHARED / "data" / "kitti_000000_full.bin",
    "nuscenes": SHARED / "data" / "nuscenes_single_sweep.bin",
    "ouster": SHARED / "data" / "ouster_os1_128.bin",
    "street0": ROOT / "sample_data" / "street_000.bin",
    "street1": ROOT / "sample_data" / "street_001.bin",
}
ARRAYS = ("in_indices", "out_indices", "in_rows", "out_rows", "pair_splits")


@dataclass(frozen=True)
class Spec:
    """What is run first: a network in a number format on every `thin`-th point of a scan."""

    network: str
    dtype: str
    scan: str
    thin: int = 1


@dataclass(frozen=True)
class Work:
    """What the simulator has carried out so far."""

    launches: int
    instructions: int
    simulating: float
    compiling: float

    def since(self, before: Work) -> str:
        """What was added, in words."""
        return (
            f"{self.launches - before.launches} launches, {self.instructions - before.instructions:,} warp instructions"
            f" in {self.simulating - before.simulating:.1f} s, compiling {self.compiling - before.compiling:.1f} s"
        )


def work() -> Work:
    """Until now."""
    log = sim.LOG
    return Work(log.launches, sum(row["instructions"] for row in log.stats.values()), log.seconds, log.compile)


def unexpected() -> list[str]:
    """Messages of the simulator that are not by design."""
    return [
        f"{key[0]} {key[1]} {key[2]}: {text}" for key, (_, text) in sim.LOG.messages.items() if not sim.expected(key)
    ]


def scan_of(name: str, config: Any, thin: int, first: int) -> Points:
    """The points of a scan as the network's voxels want them."""
    if name == "empty":
        channels = len(config.voxelize.features or "xyzi")
        return Points(np.zeros((0, channels), np.float32), (0, 1, 2), tuple(range(channels)))
    points = engine_points(read(str(SCANS.get(name, name)), config.columns).content, config.voxelize)
    return Points(np.ascontiguousarray(points.values[first::thin]), points.xyz, points.features)


def differences(want: Frame, got: Frame) -> list[str]:
    """What must be equal and is not."""
    names = ("sites", "shapes", "scan")
    found = [
        f"{name}: {getattr(got, name)}, not {getattr(want, name)}"
        for name in names
        if getattr(got, name) != getattr(want, name)
    ]
    found += [f"rule counts {key}" for key in want.counts if want.counts[key] != got.counts.get(key)]
    for key, book in want.rulebooks.items():
        other = got.rulebooks[key]
        for name in ARRAYS:
            a, b = getattr(book, name), getattr(other, name)
            if a.dtype != b.dtype or not np.array_equal(a, b):
                found.append(f"rulebook {key}: {name}")
    for layer, tensor in want.outputs.items():
        if not np.array_equal(tensor.indices, got.outputs[layer].indices):
            found.append(f"layer {layer}: indices")
    return found


def error_of(want: np.ndarray, got: np.ndarray) -> float:
    """Relative L2; the largest value where all should be 0."""
    if want.shape != got.shape:
        return np.inf
    a, b = want.astype(np.float64), got.astype(np.float64)
    norm = np.linalg.norm(a)
    return float(np.linalg.norm(a - b) / norm) if norm else float(np.abs(b).max(initial=0))


def compare(name: str, dtype: str, want: Frame, got: Frame) -> list[str]:
    """Prints one line, and returns what is wrong."""
    wrong = differences(want, got)
    errors = {layer: error_of(tensor.features, got.outputs[layer].features) for layer, tensor in want.outputs.items()}
    wrong += [f"layer {layer}: error {error:.2e}" for layer, error in errors.items() if not error <= BOUNDS[dtype]]
    rules = sum(len(book.in_rows) for book in want.rulebooks.values())
    print(
        f"{name}: sites {got.sites}, {len(want.rulebooks)} rulebooks with {rules} rules, {len(errors)} layers, worst"
        f" relative L2 {max(errors.values()):.2e} (bound {BOUNDS[dtype]:.0e}):",
        "DIFFERS: " + "; ".join(wrong) if wrong else "equal",
        flush=True,
    )
    return wrong


def run(spec: Spec, asked: argparse.Namespace) -> list[str]:
    """The first scan, recorded and played again, then the others on the same runner; what is wrong."""
    config = load_config(spec.network)
    network = config.network()
    parameters = fold(network, initial_parameters(network, 0))
    want = Want(tuple(network.program.layers) if asked.layers else (network.program.output,), rulebooks=True)
    frames = [(spec.scan, 0)] * (1 if asked.once else 2) + [
        (name, 1 % spec.thin) for name in asked.then.split(",") if name
    ]
    cpu = load_engine("cpu").compile(network.program, parameters, want)
    wrong = []
    with true_shapes(sim.S.capability):
        cuda = CudaEngine(spec.dtype).compile(network.program, parameters, want, graph=not asked.no_graph)
        for number, (name, first) in enumerate(frames):
            points = scan_of(name, config, spec.thin, first)
            before, begin = work(), time.perf_counter()
            got = cuda.result(cuda.submit(points))
            spent = time.perf_counter() - begin
            title = f"sm_{sim.S.capability} {spec.network} {spec.dtype}, frame {number} ({name})"
            wrong += [f"{title}: {each}" for each in compare(title, spec.dtype, cpu.result(cpu.submit(points)), got)]
            print(f"    {spent:.1f} s: {work().since(before)}", flush=True)
    return wrong


def spec_of(text: str) -> Spec:
    """PRESET:DTYPE:SCAN[:thin=N]."""
    network, dtype, scan, *more = text.split(":")
    return Spec(network, dtype, scan, int(more[0].removeprefix("thin=")) if more else 1)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="+", type=spec_of)
    parser.add_argument("--cc", default="80", help="compute capability, 80 or 90; several with commas, taken in turn")
    parser.add_argument("--then", default="", help="more scans for the same runner")
    parser.add_argument("--once", action="store_true", help="the first scan once, without a recording")
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument("--layers", action="store_true", help="compare the features of every layer")
    parser.add_argument("--order", type=int, default=0, help="0, 1 or 2: order of blocks and warps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--each", help="count, and write what every launch took, for cost.py; nothing is checked")
    return parser.parse_args()


def main() -> int:
    """Prints; 1 where anything differs or the simulator has a message."""
    asked = arguments()
    settings = sim.S
    settings.order = settings.warp_order = asked.order
    settings.threads = asked.threads
    if asked.each:
        settings.stats, settings.checks, sim.LOG.each = 1, 0, []
    capabilities = [int(text) for text in asked.cc.split(",")]
    wrong = []
    for number, spec in enumerate(asked.specs):
        settings.capability = capabilities[number % len(capabilities)]
        wrong += run(spec, asked)
    messages = unexpected()
    print(f"messages: {len(messages)}, and by design {len(sim.LOG.messages) - len(messages)}")
    sim.report()
    for (name, shape), count in door.NOTES.items() if settings.checks else ():
        print(f"    torch's {name} read {count} bytes of {shape} that nobody wrote")
    if asked.each:
        with open(asked.each, "w", encoding="utf-8") as file:
            json.dump(sim.LOG.each, file)
    return bool(wrong or messages)


if __name__ == "__main__":
    sys.exit(main())
