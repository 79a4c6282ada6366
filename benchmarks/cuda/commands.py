"""Whole commands on a card: from a scan to a file of features, from a cold kernel cache and from a filled one."""

from __future__ import annotations

import sys

from benchmarks.common.processes import Command, Measured, launched, measure, spcli_command
from benchmarks.common.workload import Workload, prepare
from benchmarks.cuda.report import Start


def start_ups(workload: Workload, dtype: str, count: int) -> tuple[list[Start], list[str]]:
    """First and warm runs of `spcli run` and of a script with the peer, and why one could not be measured."""
    prepare(workload)
    folder = workload.folder
    cache = {"TRITON_CACHE_DIR": str(folder / "kernels"), "CUDA_CACHE_PATH": str(folder / "driver")}
    ours = [
        *spcli_command(),
        "run",
        "--device",
        "cuda",
        "--engine",
        "triton",
        "--check",
        "none",
        "--dtype",
        dtype,
        "--config",
        workload.config,
        workload.scan,
    ]
    ours += ["-o", str(folder / "features"), "--write", "features", "--overwrite"]
    peer = [sys.executable, "-m", "benchmarks.cuda.child_frame", dtype, workload.config, workload.scan, str(folder)]
    starts, absent = [], []
    for command in (Command(f"spcli run {dtype}", ours, cache), Command(f"spconv {dtype}", peer, cache)):
        try:
            first = launched(command)
            warm = measure([command], count)[command.label]
        except RuntimeError as error:
            absent.append(str(error))
        else:
            starts.append(Start(command.label, Measured(first["seconds"], first["peak_mb"]), warm))
    return starts, absent
