"""The CPU engine, which checks compare with, compiled in place. Imports nothing that has to be installed."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.paths import ROOT
from benchmarks.cuda.day_steps import NotHere, Task, Wrong

SOURCES = ROOT / "spcli" / "engines" / "cpu"
FLAGS = ("-std=gnu++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-fopenmp")


@dataclass(frozen=True)
class Recipe:
    """What CMakeLists.txt says: flags by library, flags of all, and those of single sources."""

    libraries: dict[str, list[str]]
    common: list[str]
    sources: list[str]
    special: dict[str, list[str]]


def engine(task: Task) -> None:
    """Compiles what is missing, by cmake or else by g++ alone; a rehearsal compiles one library in both ways elsewhere.

    Raises:
        NotHere: something is missing and there is no compiler.
        Wrong: a library does not compile or cannot be loaded.
    """
    wanted = recipe()
    missing = [name for name in wanted.libraries if not (SOURCES / f"{name}.so").exists()]
    if task.rehearsal:
        for build in (by_cmake, by_hand):
            if build is by_hand or shutil.which("cmake"):
                target = task.folder / build.__name__
                build(list(wanted.libraries)[-1:], target, task.folder / "work", ["-O0"])
                task.say(f"* {build.__name__}: {check(target)}")
    if not missing:
        task.conclude(f"all were there: {', '.join(wanted.libraries)}")
        return
    if shutil.which("cmake"):
        by_cmake(missing, SOURCES, task.folder / "work")
    elif shutil.which("g++"):
        by_hand(missing, SOURCES, task.folder / "work")
    else:
        raise NotHere("neither cmake nor g++ is here: no CPU engine, so nothing is compared with it")
    task.conclude(f"compiled by {'cmake' if shutil.which('cmake') else 'g++'}: {check(SOURCES)}")


def recipe() -> Recipe:
    """What CMakeLists.txt says, so that it stands once."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    arm = platform.machine() == "aarch64"
    built = dict(
        re.findall(r"^ *spcli_build\((\w+) ([^)]*)\)", text.partition("else()\n  spcli_build")[0], re.MULTILINE)
    )
    if arm:
        built = dict(re.findall(r"else\(\)\n +spcli_build\((\w+) ([^)]*)\)", text))
    (common,) = re.findall(r"PRIVATE \$\{ARGN\} ([^)]*)\)", text)
    special = re.findall(r'\$\{cpu\}/(\w+\.cpp) PROPERTIES COMPILE_OPTIONS "([^"]*)"', text)
    return Recipe(
        {name: flags.split() for name, flags in built.items()},
        common.split(),
        re.findall(r"\$\{cpu\}/(\w+\.cpp)", text.partition("set(sources")[2].partition(")")[0]),
        {source: flags.split() for source, flags in special},
    )


def by_cmake(names: Sequence[str], target: Path, work: Path, flags: Sequence[str] = ()) -> None:
    """Libraries into `target`, as an installation makes them."""
    given = ["-DCMAKE_BUILD_TYPE=Release", f"-DSPCLI_LIBRARY_DIR={target}"]
    if flags:
        given.append(f"-DCMAKE_CXX_FLAGS_RELEASE={' '.join(flags)}")
    _run(["cmake", "-S", str(ROOT), "-B", str(work), *given])
    _run(["cmake", "--build", str(work), "--parallel", str(_cores()), "--target", *names])


def by_hand(names: Sequence[str], target: Path, work: Path, flags: Sequence[str] = ("-O3",)) -> None:
    """Libraries into `target` with g++ alone, every source for itself."""
    wanted = recipe()
    for folder in (target, work):
        folder.mkdir(parents=True, exist_ok=True)

    def compiled(name: str, source: str) -> Path:
        result = work / f"{name}-{source}.o"
        given = [*wanted.libraries[name], *wanted.common, *wanted.special.get(source, []), *flags]
        _run(["g++", *FLAGS, *given, "-c", str(SOURCES / source), "-o", str(result)])
        return result

    with ThreadPoolExecutor(_cores()) as pool:
        parts = {name: [pool.submit(compiled, name, source) for source in wanted.sources] for name in names}
        for name, results in parts.items():
            made = [str(each.result()) for each in results]
            _run(["g++", *FLAGS, "-shared", "-s", *made, "-o", str(target / f"{name}.so")])


def check(folder: Path) -> str:
    """The libraries of a folder, each loaded once.

    Raises:
        Wrong: one cannot be loaded.
    """
    found = sorted(folder.glob("_cpu_*.so"))
    for path in found:
        try:
            _ = ctypes.CDLL(str(path)).spcli_threads
        except (OSError, AttributeError) as error:
            raise Wrong(f"{path.name} cannot be loaded: {error}") from error
    return ", ".join(path.stem for path in found)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Wrong(f"the CPU engine cannot be compiled: {error}") from error
