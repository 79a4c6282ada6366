"""Which engine a run uses. Asks the CUDA driver through ctypes: nothing heavy is imported to learn there is no GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from msgspec import Struct

from spcli.engines import load_engine
from spcli.engines.base import Engine
from spcli.errors import DeviceError, UsageError

DEVICES = ("auto", "cpu", "cuda")
NO_DEVICE, STUB_LIBRARY = 100, 34
NO_CUDA = "there is no CUDA device here; use --device cpu or auto"

Warn = Callable[[str], None]


class CudaDriver(Struct, frozen=True):
    """What libcuda says: how many devices there are, and what is wrong with them if something is."""

    present: bool
    devices: int = 0
    trouble: str | None = None


def ask_driver() -> CudaDriver:
    """Ask libcuda whether there is a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int()
        code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return CudaDriver(False)
    if code in (NO_DEVICE, STUB_LIBRARY):
        return CudaDriver(True)
    if code:
        return CudaDriver(True, 0, f"the CUDA driver answers with error {code}")
    return CudaDriver(True, count.value)


def choose_engine(device: str | Engine, warn: Warn, threads: int | None = None) -> Engine:
    """The engine for `--device cpu`, `cuda` or `auto`; `warn` is called with why `auto` leaves a device unused.

    An engine is given back as it is.

    Raises:
        UsageError: there is no device of that name.
        DeviceError: the device that was asked for cannot be used.
    """
    if not isinstance(device, str):
        return device
    if device not in DEVICES:
        raise UsageError(f"there is no device {device!r}; there are {', '.join(DEVICES)}")
    if device == "cuda":
        return _cuda_engine(threads, ask_driver())
    if device == "auto":
        driver = ask_driver()
        if driver.devices or driver.trouble:
            try:
                return _cuda_engine(threads, driver)
            except DeviceError as error:
                warn(f"{error}; using the CPU")
    return load_engine("cpu", threads)


def _cuda_engine(threads: int | None, driver: CudaDriver) -> Engine:
    reason = why_no_cuda(driver)
    if reason:
        raise DeviceError(reason)
    return load_engine("cuda", threads)


def why_no_cuda(driver: CudaDriver) -> str | None:
    """Why a driver that answers so leaves nothing to compute on, in one sentence, or None."""
    if driver.trouble:
        return f"CUDA cannot be used: {driver.trouble}"
    return None if driver.devices else NO_CUDA


def with_dtype(engine: Engine, dtype: str) -> Engine:
    """The engine with its features in `dtype`.

    Raises:
        DeviceError: the engine does not offer this arithmetic; the CPU's computes in float32 only.
    """
    if dtype in engine.dtypes:
        return engine.with_dtype(dtype)
    offered = ", ".join(engine.dtypes)
    raise DeviceError(
        f"--dtype {dtype} needs a CUDA device; the {engine.name.upper()} engine computes {offered}: leave --dtype out"
    )
