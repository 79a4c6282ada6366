"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spcli import __version__
from spcli.engines.cpu import describe


def cpu_model() -> str:
    """The processor's name as Linux has it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"


def installed(package: str) -> str:
    """A package's version, or that it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe_machine() -> list[tuple[str, str]]:
    """Name and value of everything a reader needs to judge the numbers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("numpy", "torch", "spconv")
    return [
        ("date", date.today().isoformat()),
        ("processor", f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores usable, {memory:.0f} GiB"),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
        ("spcli", f"{__version__}, {describe()[0]} build"),
        ("peers", ", ".join(f"{name} {installed(name)}" for name in packages)),
    ]


def load_average() -> float:
    """Processes that wanted a core in the last minute: above 1 beside the benchmark, do not trust the numbers."""
    return os.getloadavg()[0]
