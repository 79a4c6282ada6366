r"""Compiles the CUDA engine's kernels without a GPU, for sm_80 and sm_90: `make compile-table`.

Prints one row per kernel: compute capability, registers per thread, spilled loads and stores, bytes of shared memory,
instructions, tensor-core instructions (hgmma, hmma), ffma, asynchronous copies (of 16 bytes/all), bytes of the
narrowest load of weights, seconds it took, the kernel with its types and constants. Below a row that fails, the reason.

    python -m benchmarks.cuda.compile_table                          every kernel and number format of all networks
    python -m benchmarks.cuda.compile_table --network second-kitti --dtype float16 --only convolve --capability 90
    python -m benchmarks.cuda.compile_table --save launches.json     only list the launches, for another Triton
    python -m benchmarks.cuda.compile_table --launches launches.json
    python -m benchmarks.cuda.compile_table --kernel spcli.engines.cuda.kernels.tiles:list_taps --constant ROWS=64 \
        --argument 'table_ptr=*i32:16' ... --option num_warps=4

The exit code is 1 where registers spill, a convolution does not use the tensor cores (exact float32 cannot) or loads
weights four bytes at a time, a block needs more shared memory than there is, or a product of a warp group reads its
input from registers, or from copies without a fence (`spcli/engines/cuda/blocks.py` says why).
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common.paths import ROOT
from benchmarks.cuda.machine_code import SHARED_LIMIT, Code, Job, compile_job

SPILLS = 8  # loads and stores outside of loops, as some versions leave them, cost nothing
HEADER = "sm regs spills shared instructions hgmma hmma ffma copies16/all weight_bytes seconds kernel"
ROW = "{:>2} {:>4} {:>6} {:>6} {:>12} {:>5} {:>4} {:>5} {:>12} {:>12} {:>7} {}"


def listed(
    networks: Sequence[str], dtypes: Sequence[str], capabilities: Sequence[int], triton: str | None
) -> dict[int, list[dict]]:
    """What the engine launches, by compute capability, from a process in which Triton's interpreter runs."""
    chosen = [part for name in networks for part in ("--network", name)]
    chosen += [part for dtype in dtypes for part in ("--dtype", dtype)]
    chosen += ["--triton", triton] if triton else []
    command = [sys.executable, "-m", "benchmarks.cuda.child_launches", *chosen, "--capability"]
    running = [subprocess.Popen([*command, str(each)], cwd=ROOT, stdout=subprocess.PIPE) for each in capabilities]
    texts = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("the engine's launches could not be listed")
    return {each: json.loads(text) for each, text in zip(capabilities, texts, strict=True)}


def job_of(launch: dict[str, Any]) -> Job:
    """A job without the networks it is from."""
    return Job(launch["kernel"], launch["arguments"], launch["constants"], launch["options"])


def measure(job: Job, capability: int) -> Code | str:
    """The code, or why there is none."""
    try:
        return compile_job(job, capability)
    except Exception as error:  # whatever a compiler may raise belongs in the table
        return f"{type(error).__name__}: {str(error).strip()[-300:]}"


def problems(job: Job, code: Code | str, capability: int) -> list[str]:
    """What must not be."""
    if isinstance(code, str):
        return [code]
    found = hazards(code)
    if code.spills > SPILLS:
        found.append(f"{code.spills} loads and stores of spilled registers")
    if code.shared > SHARED_LIMIT[capability]:
        found.append(f"{code.shared} bytes of shared memory, {SHARED_LIMIT[capability]} are there")
    if not job.kernel.startswith("spcli.engines.cuda.kernels.convolve:"):
        return found
    exact = job.arguments["x_ptr"].startswith("*fp32") and job.constants["PRECISION"] == "ieee"
    if not exact and not code.hmma + code.hgmma:
        found.append("no tensor-core instructions")
    if code.weight_width < 8:
        found.append(f"weights are loaded {code.weight_width} bytes at a time")
    return found


def hazards(code: Code) -> list[str]:
    """What may give wrong numbers with some versions of the assembler or the compiler."""
    found = []
    if code.register_inputs:
        found.append(f"{code.register_inputs} products of a warp group read their input from registers")
    if code.unfenced:
        found.append("products of a warp group read asynchronous copies without a fence")
    return found


def described(job: Job) -> str:
    """A kernel's name with what it was compiled for."""
    types = " ".join(
        dict.fromkeys(kind.lstrip("*").partition(":")[0] for kind in job.arguments.values() if kind[0] == "*")
    )
    values = (f"{name.lower()}={value}" for name, value in job.constants.items() if value not in (0, False, None))
    absent = [name.removesuffix("_ptr") for name, kind in job.arguments.items() if kind == "none"]
    without = f" without {'/'.join(absent)}" if absent else ""
    return f"{job.kernel.split(':')[1]} {types} {' '.join(values)}{without}"


def table(jobs: Iterable[tuple[Job, int]], workers: int) -> list[dict[str, Any]]:
    """Compiles and prints, one row for each."""
    jobs = list(jobs)
    print(ROW.format(*HEADER.split()), flush=True)
    rows = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        codes = pool.map(measure, *zip(*jobs, strict=True))
        for (job, capability), code in zip(jobs, codes, strict=True):
            wrong = problems(job, code, capability)
            print_row(job, code, capability, wrong)
            rows.append(vars(job) | {"capability": capability, "problems": wrong} | measured(code))
    return rows


def measured(code: Code | str) -> dict[str, Any]:
    """Measures for JSON."""
    return {} if isinstance(code, str) else asdict(code)


def print_row(job: Job, code: Code | str, capability: int, wrong: Sequence[str]) -> None:
    """One line of the table, and one for each problem."""
    if not isinstance(code, str):
        copies = f"{code.wide_copies}/{code.copies}"
        print(ROW.format(capability, code.registers, code.spills, code.shared, code.instructions, code.hgmma, code.hmma,
                         code.ffma, copies, code.weight_width, code.seconds, described(job)), flush=True)  # fmt: skip
    for problem in wrong:
        print(f"   FAILS: {described(job)}: {problem}" if isinstance(code, str) else f"   FAILS: {problem}", flush=True)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """`name=value` texts as a table."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def value_of(text: str) -> object:
    """A number, a truth value or None as Python writes them; other text as it stands."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def one_kernel(asked: argparse.Namespace) -> Job:
    """The job that the command line describes."""
    constants = {name: value_of(text) for name, text in pairs(asked.constant).items()}
    options = {name: int(text) for name, text in pairs(asked.option).items()}
    return Job(asked.kernel, pairs(asked.argument), constants, options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cuda.compile_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--capability", type=int, action="append", choices=SHARED_LIMIT, help="80 or 90; both if not given"
    )
    parser.add_argument("--network", action="append", default=[], help="one of those in child_launches.py")
    parser.add_argument("--dtype", action="append", default=[], help="float32, tf32, float16 or bfloat16")
    parser.add_argument("--only", default="", help="compile only kernels whose name contains this")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="kernels compiled at once")
    parser.add_argument("--json", type=Path, help="write the table here as well")
    parser.add_argument("--save", type=Path, help="write the launches here and compile nothing")
    parser.add_argument("--triton", help="with --save: the release that will compile; blocks depend on it")
    parser.add_argument("--launches", type=Path, help="compile those saved here")
    parser.add_argument("--kernel", help="module:name of one kernel, with --argument, --constant and --option")
    parser.add_argument("--argument", action="append", default=[], help="name=type[:16 | :1], see machine_code.Job")
    parser.add_argument("--constant", action="append", default=[], help="name=value of a constexpr parameter")
    parser.add_argument("--option", action="append", default=[], help="num_warps=4, num_stages=3")
    return parser.parse_args()


def main() -> int:
    """Prints the table; 1 where something in it must not be."""
    asked = arguments()
    # A cache of this checkout: code that was compiled in another one names source lines there, which may be gone.
    os.environ.setdefault("TRITON_CACHE_DIR", str(ROOT / "build" / "compile-table"))
    capabilities = asked.capability or list(SHARED_LIMIT)
    if asked.kernel:
        launches = {each: [vars(one_kernel(asked))] for each in capabilities}
    elif asked.launches:
        launches = {int(each): found for each, found in json.loads(asked.launches.read_text()).items()}
    else:
        launches = listed(asked.network, asked.dtype, capabilities, asked.triton)
    if asked.save:
        asked.save.write_text(json.dumps(launches))
        return 0
    jobs = [(job_of(launch), each) for each in launches for launch in launches[each] if asked.only in launch["kernel"]]
    rows = table(jobs, asked.workers)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))
    failed = sum(bool(row["problems"]) for row in rows)
    print(f"{len(rows)} kernels compiled by Triton {version()}, {failed} with problems")
    return 1 if failed else 0


def version() -> str:
    """Triton's."""
    from importlib.metadata import version as version_of

    return version_of("triton")


if __name__ == "__main__":
    raise SystemExit(main())
