"""Loads the compiled engine: picks the instruction set, bounds the threads' spinning, declares the C boundary."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_double, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.errors import DeviceError

# x86-64 micro-architecture levels, best first, and the /proc/cpuinfo flags each needs beyond the next.
_LEVELS = {
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"},
    "v3": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"},
}
ISA_NAMES = {"v4": "AVX-512", "v3": "AVX2+FMA", "base": "baseline"}

_POINTER = c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "spcli_set_threads": (None, [c_int32]),
    "spcli_threads": (c_int32, []),
    "spcli_voxelize": (
        c_void_p,
        [_POINTER, c_int64, c_int64, _POINTER, _POINTER, c_int32, *[_POINTER] * 4, c_int64, _POINTER],
    ),
    "spcli_voxel_features": (
        c_int64,
        [c_void_p, _POINTER, c_int64, _POINTER, c_int32, c_int64, c_int32, *[_POINTER] * 4],
    ),
    "spcli_voxelization_free": (None, [c_void_p]),
    "spcli_voxelization_sites": (c_void_p, [c_void_p]),
    "spcli_sites_new": (c_void_p, [_POINTER, c_int64, c_int32, _POINTER, c_int32, _POINTER]),
    "spcli_sites_free": (None, [c_void_p]),
    "spcli_sites_count": (c_int64, [c_void_p]),
    "spcli_sites_indices": (None, [c_void_p, _POINTER]),
    "spcli_map_build": (c_void_p, [c_void_p, _POINTER, c_int32, c_int32, _POINTER]),
    "spcli_map_free": (None, [c_void_p]),
    "spcli_map_outputs": (c_void_p, [c_void_p]),
    "spcli_map_counts": (None, [c_void_p, _POINTER]),
    "spcli_map_fullest": (c_int64, [c_void_p]),
    "spcli_map_rules": (None, [c_void_p, _POINTER, _POINTER]),
    "spcli_row_masks": (None, [_POINTER, _POINTER, c_int64, c_int64, _POINTER]),
    "spcli_distinct_masks": (c_int64, [_POINTER, c_int64, c_int64, _POINTER, _POINTER]),
    "spcli_pack": (c_void_p, [_POINTER, _POINTER, _POINTER, c_int32, c_int32, c_int32]),
    "spcli_packed_free": (None, [c_void_p]),
    "spcli_convolve": (
        None,
        [
            _POINTER,
            c_int64,
            c_void_p,
            c_int32,
            c_void_p,
            _POINTER,
            c_int64,
            c_int64,
            _POINTER,
            c_int64,
            c_int32,
            c_float,
        ],
    ),
    "spcli_pool": (None, [_POINTER, c_int64, c_int64, c_void_p, c_int32, c_int32, _POINTER, c_int64, c_int64]),
    "spcli_add": (
        None,
        [_POINTER, c_int64, _POINTER, c_int64, _POINTER, c_int64, c_int64, c_int64, c_int32, c_float],
    ),
    "spcli_layer_norm": (
        None,
        [
            *[_POINTER, c_int64, _POINTER, _POINTER, c_double],
            *[_POINTER, c_int64, _POINTER, c_int64, c_int64, c_int64, c_int32, c_float],
        ],
    ),
}


def cpu_flags() -> frozenset[str]:
    """The processor's feature flags as Linux lists them; empty where it lists none."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


@cache
def isa() -> str:
    """The build to load: `v4` (AVX-512), `v3` (AVX2 and FMA) or `base`; `SPCLI_ISA` overrides.

    Raises:
        DeviceError: SPCLI_ISA names no build, or one that this processor cannot run.
    """
    flags = cpu_flags()
    fitting = [level for level, needed in _LEVELS.items() if needed <= flags] + ["base"]
    wanted = os.environ.get("SPCLI_ISA")
    if wanted and wanted not in fitting:
        raise DeviceError(f"SPCLI_ISA={wanted} is not a build this processor runs; choose from {', '.join(fitting)}")
    return wanted or fitting[0]


def library_path() -> Path:
    """Where the build for this processor lies: beside this file, or in `SPCLI_LIBRARY_DIR` (sanitized builds)."""
    folder = os.environ.get("SPCLI_LIBRARY_DIR")
    return (Path(folder) if folder else Path(__file__).parent) / f"_cpu_{isa()}.so"


def default_threads() -> int:
    """Processors this process may use, by affinity and by its control group's quota."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, -(-int(quota) // int(period))))


@cache
def library() -> ctypes.CDLL:
    """The compiled engine, loaded once.

    Raises:
        DeviceError: it is not there, or the system cannot load it.
    """
    # libgomp reads this once, when it is loaded. Unbounded spinning makes threads fight over a busy machine's cores;
    # no spinning at all puts them to sleep between two layers.
    bounded = not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if bounded:
        os.environ["GOMP_SPINCOUNT"] = "20000"
    try:
        loaded = ctypes.CDLL(str(library_path()))
    except OSError as error:
        raise DeviceError(f"the compiled CPU engine cannot be loaded ({error}); reinstall spcli with pip") from error
    finally:
        if bounded:
            del os.environ["GOMP_SPINCOUNT"]
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    loaded.spcli_set_threads(default_threads())
    return loaded


def set_threads(count: int | None) -> None:
    """Threads for all parallel work from now on; None is every processor this process may use."""
    library().spcli_set_threads(default_threads() if count is None else count)


def address(array: NDArray[Any] | None) -> int | None:
    """Address of an array's first element. The caller keeps the array alive for as long as C may read it."""
    return None if array is None else int(array.__array_interface__["data"][0])


def row_stride(array: NDArray[np.float32]) -> int:
    """Floats from one row to the next of a float32 `[N, C]` whose columns are contiguous.

    Raises:
        ValueError: the array is of another type or its columns are not contiguous.
    """
    scattered = array.ndim == 2 and array.size > 0 and array.shape[1] > 1 and array.strides[1] != 4
    if array.dtype != np.float32 or array.ndim != 2 or scattered:
        raise ValueError(f"expected float32 rows, got {array.dtype} {array.shape} with strides {array.strides}")
    return array.strides[0] // 4


def aligned_empty(rows: int, columns: int) -> NDArray[np.float32]:
    """An uninitialised float32 `[rows, columns]` on a 64-byte boundary: wide loads from it split no cache line."""
    size = rows * columns * 4
    raw = np.empty(size + 64, np.uint8)
    start = -int(raw.__array_interface__["data"][0]) % 64
    return raw[start : start + size].view(np.float32).reshape(rows, columns)


class Handle:
    """Owns a C++ object: frees it when the last Python reference goes."""

    __slots__ = ("_free", "pointer")

    def __init__(self, pointer: int | None, free: Any) -> None:
        self._free = free
        self.pointer = pointer
        if pointer is None:
            raise MemoryError("the CPU engine found no memory for its tables")

    def __del__(self) -> None:
        if self.pointer is not None:
            self._free(self.pointer)
