"""The CPU engine: C++ kernels behind ctypes, numpy arrays in and out, no torch."""

from __future__ import annotations

from spcli.engines.base import Engine
from spcli.engines.cpu.engine import CpuEngine
from spcli.engines.cpu.library import ISA_NAMES, isa, library, library_path, set_threads

__all__ = ["describe", "load", "set_threads", "unavailable"]


def unavailable() -> str | None:
    """Why the compiled part is missing, or None."""
    if library_path().exists():
        return None
    return f"the compiled CPU engine {library_path().name} is missing; reinstall spcli with pip"


def load(threads: int | None = None, device: str | None = None) -> Engine:
    """The CPU engine; `threads` is how many all parallel work uses from now on, None leaves it as it is."""
    if threads is not None:
        set_threads(threads)
    return CpuEngine()


def describe() -> tuple[str, ...]:
    """Instruction set and threads."""
    return ISA_NAMES[isa()], f"{library().spcli_threads()} threads"
