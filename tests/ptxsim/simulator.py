"""The shared simulator made ready: whether it can run here, its library, and the path to its modules."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared"
SOURCES = SHARED / "tools" / "ptxsim"
HEADER = HERE / "avx512.hpp"
# As in the simulator's own Makefile: results must not depend on what a compiler may contract or reorder.
FLAGS = ("-std=c++17", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=off", "-fno-math-errno",
         "-fno-trapping-math", "-w", "-Wno-psabi", "-shared", "-fPIC", "-pthread")  # fmt: skip


def missing() -> str | None:
    """Why the simulator cannot run here, or None."""
    if not (SOURCES / "ptxsim.cpp").is_file():
        return "needs the simulator in ../shared/tools/ptxsim, which is not here"
    if shutil.which("g++") is None:
        return "needs g++, which builds the simulator"
    needed = {"avx2", "fma", "f16c"}
    if platform.machine() != "x86_64" or not needed <= set(_processor().split()):
        return "needs a processor with AVX2, FMA and F16C, which the simulator is written for"
    return None


def build(optimise: str = "-O3") -> Path:
    """The folder that has the library: under `build/`, or the one that PTXSIM_BUILD names.

    It is built where it is missing, and again for other sources, another level of optimisation or another processor.

    Raises:
        SystemExit: it cannot be built.
    """
    if reason := missing():
        raise SystemExit(reason)
    sources = [SOURCES / "ptxsim.cpp", SOURCES / "parse.inc", HEADER]
    known = b"".join(path.read_bytes() for path in sources) + " ".join([optimise, *FLAGS, _processor()]).encode()
    base = Path(os.environ.get("PTXSIM_BUILD") or ROOT / "build" / "ptxsim")
    folder = base / hashlib.sha256(known).hexdigest()[:12]
    library = folder / "libptxsim.so"
    if not library.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{os.getpid()}.so"
        command = ["g++", optimise, *FLAGS, "-include", str(HEADER), str(sources[0]), "-o", str(unfinished)]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit("g++ cannot build the simulator")
        unfinished.replace(library)
    return folder


def prepare(optimise: str = "-O3") -> None:
    """Makes `import sim` find the shared module and its library; Triton must not have been imported before."""
    os.environ.pop("TRITON_INTERPRET", None)
    folder = build(optimise)
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder.parent / "triton"))
    os.environ["PTXSIM_BUILD"] = str(folder)
    sys.path[:0] = [str(path) for path in (ROOT, ROOT / "tests" / "support", HERE, SOURCES)]


def _processor() -> str:
    """The names of its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
