"""What the CUDA driver says; asked through ctypes, so that nothing heavy is imported to learn there is no GPU."""

from __future__ import annotations

from msgspec import Struct

NO_DEVICE, STUB_LIBRARY = 100, 34
NO_CUDA = "there is no CUDA device here; use --device cpu or auto"


class CudaDriver(Struct, frozen=True):
    """What libcuda says: how many devices there are, and what is wrong with them if something is."""

    present: bool
    devices: int = 0
    trouble: str | None = None


def ask_driver() -> CudaDriver:
    """Ask libcuda whether there is a device."""
    import ctypes

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
