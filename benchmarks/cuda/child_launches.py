"""Lists the kernels the CUDA engine launches, as it would launch them on a device.

Started by compile_table.py. Triton's interpreter stands in for the device: small scans go through whole networks with a
device's block shapes, and every launch is noted. Only kernels that decide how many rows there are get carried out.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import argparse
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from spcli.config import load_config
from spcli.engines.base import Points, Want
from spcli.engines.cuda.blocks import architecture, true_shapes
from spcli.engines.cuda.engine import CudaEngine
from spcli.engines.cuda.kernels import convolve, pointwise, pool, rulebook, rules, tiles
from spcli.engines.cuda.launch import observed
from spcli.engines.eager import walk_index
from spcli.engines.tensors import STORAGE
from spcli.weights import fold, initial_parameters

# A configuration and what is set in it. Ranges are a few metres wide: what is launched does not depend on them, except
# that a grid beyond a bitmap is indexed by sorted keys.
NETWORKS = {
    "second-kitti": ("second-kitti", "voxelize.point_cloud_range=[0, -3.2, -3, 6.4, 3.2, 1]"),
    "centerpoint-nuscenes": ("centerpoint-nuscenes", "voxelize.point_cloud_range=[-3, -3, -5, 3, 3, 3]"),
    "minkunet-semantickitti": ("minkunet-semantickitti",),
    "quickstart": ("quickstart", "voxelize.point_cloud_range=[0, -6.4, -3, 12.8, 6.4, 3.4]"),
    "fine": ("quickstart", "voxelize.voxel_size=[0.0005, 0.0005, 0.0005]"),
    "every-layer": ("every_layer.yaml",),
}
# Modules of kernels on which no number of rows depends.
SILENT = (convolve, tiles, pool, pointwise, rulebook, rules)
HERE = Path(__file__).resolve().parent
TYPES = {
    torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64", torch.int8: "i8",
    torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.bool: "i1", torch.uint8: "u8",
}  # fmt: skip


class Silent:
    """A kernel that can be launched and does nothing."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """A launch over `grid`."""
        return lambda *arguments, **constants: None


class Notes:
    """Every different launch, in the order of their first appearance, with the networks and formats they came from."""

    def __init__(self) -> None:
        self.label = ""
        self.jobs: dict[str, dict[str, Any]] = {}

    def take(self, kernel: Any, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
        """An observer of launches."""
        kernel = getattr(kernel, "kernel", kernel)
        job = job_of(kernel, dict(zip(kernel.arg_names, arguments, strict=False)) | constants)
        seen = self.jobs.setdefault(json.dumps(job, sort_keys=True), job | {"from": []})["from"]
        if self.label not in seen:
            seen.append(self.label)


def job_of(kernel: Any, given: dict[str, Any]) -> dict[str, Any]:
    """A launch as `machine_code.Job` describes it."""
    plain = kernel.kwargs.get("do_not_specialize") or ()
    arguments, constants = {}, {}
    for name, parameter in inspect.signature(kernel.fn).parameters.items():
        value = given.pop(name, parameter.default)
        if "constexpr" in str(parameter.annotation):
            constants[name] = constant(value)
        else:
            kind = type_of(value)
            arguments[name] = kind.partition(":")[0] if name in plain else kind
    if "UPCAST" in constants:  # for the interpreter only
        constants["UPCAST"] = False
    function = kernel.fn
    return {
        "kernel": f"{function.__module__}:{function.__name__}",
        "arguments": arguments,
        "constants": constants,
        "options": given,
    }


def type_of(value: Any) -> str:
    """How the compiler sees an argument: its type and what is known of its value."""
    if value is None:
        return "none"
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}" + (":16" if value.data_ptr() % 16 == 0 else "")
    if isinstance(value, bool):
        return "i1"
    if isinstance(value, float):
        return "fp32"
    kind = "i32" if -(2**31) <= value < 2**31 else "i64"
    return kind + (":1" if value == 1 else ":16" if value % 16 == 0 else "")


def constant(value: Any) -> Any:
    """A constant that JSON can hold."""
    if isinstance(value, tl.dtype):
        return f"dtype:{value.name}"
    return value


def silence() -> None:
    """Keeps kernels from running on which no number of rows depends."""
    for module in SILENT:
        for name, value in list(vars(module).items()):
            if hasattr(value, "arg_names"):
                setattr(module, name, Silent(value))


def run(name: str, dtype: str, triton_version: str) -> None:
    """Two scans through a network, the first step by step and the second in a graph; dumps of its rulebooks."""
    config, *sets = NETWORKS[name]
    network = load_config(str(HERE / config) if config.endswith(".yaml") else config, sets, {}).network()
    program, spec = network.program, network.program.voxelize
    parameters = fold(network, initial_parameters(network, 0))
    engine = CudaEngine(dtype)
    runner = engine.compile(program, parameters, Want((program.output,)))
    # Where there are no processors, these levels are large; where there are many, small.
    for seed, processors in ((0, 0), (1, 1 << 20)):
        with true_shapes(architecture(), triton_version, processors):
            runner.result(runner.submit(scan(seed, program)))
    voxels = engine.voxelize(scan(2, program), spec, point_map=True, hard=spec.max_points is not None)
    if dtype == "float32":
        for source in walk_index(engine, program, voxels.sites).maps:
            source.pairs.zero_()  # its table was not computed
            engine.rulebook(source)


def scan(seed: int, program: Any) -> Points:
    """A few points in the first metres of a program's range."""
    low = np.array((program.voxelize.point_cloud_range or (0, 0, 0))[:3], np.float32)
    channels = max(3, program.values[0].channels)
    values = np.random.default_rng(seed).uniform(0, 1, (150, channels)).astype(np.float32)
    values[:, :3] = low + 1.5 * values[:, :3]
    return Points(values, (0, 1, 2), tuple(range(channels)))


def launches(names: list[str], dtypes: list[str], capability: int, triton_version: str) -> Iterator[dict[str, Any]]:
    """Every different launch of these networks in these formats on a device of that compute capability."""
    notes = Notes()
    with true_shapes(capability, triton_version), observed(notes.take):
        for name in names:
            # Beyond a bitmap it is the index kernels that differ, and they know no number format.
            for dtype in dtypes if name != "fine" else dtypes[:1]:
                notes.label = f"{name} {dtype}"
                run(name, dtype, triton_version)
    yield from notes.jobs.values()


def main() -> None:
    """Writes the launches as JSON to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--dtype", action="append", choices=STORAGE)
    parser.add_argument("--capability", type=int, required=True)
    parser.add_argument("--triton", default=triton.__version__)
    asked = parser.parse_args()
    silence()
    found = launches(asked.network or list(NETWORKS), asked.dtype or list(STORAGE), asked.capability, asked.triton)
    print(json.dumps(list(found)))


if __name__ == "__main__":
    main()
