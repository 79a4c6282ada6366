"""What the machine's GPU driver says, asked through ctypes: nothing heavy is imported to learn there is no GPU."""

from __future__ import annotations

import ctypes
import os

from msgspec import Struct

NO_DEVICE, STUB_LIBRARY = 100, 34
MAJOR, MINOR = 75, 76  # attributes of a device
NO_CUDA = "there is no CUDA device here; use --device cpu or auto"
AMD_DRIVER = "/dev/kfd"


class CudaDriver(Struct, frozen=True):
    """What libcuda says, or that an AMD driver is there, which only torch can ask.

    Attributes:
        present: whether there is a libcuda.
        devices: how many devices it knows.
        trouble: what is wrong with it, if something is.
        version: the newest CUDA that it serves, 1000 times the major and 10 times the minor number; 0 where unknown.
        capability: compute capability of the first device; (0, 0) where unknown.
        amd: whether an AMD driver is there.
    """

    present: bool
    devices: int = 0
    trouble: str | None = None
    version: int = 0
    capability: tuple[int, int] = (0, 0)
    amd: bool = False

    @property
    def release(self) -> str:
        """The version as people write it, such as 12.4; "" where unknown."""
        return f"{self.version // 1000}.{self.version % 1000 // 10}" if self.version else ""

    @property
    def offers(self) -> bool:
        """Whether there may be a GPU: one that is known, one in trouble, or one of AMD's."""
        return bool(self.devices or self.trouble or self.amd)


def ask_driver() -> CudaDriver:
    """Ask libcuda whether there is a device; without a libcuda, see whether AMD's driver is there."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int()
        code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return CudaDriver(False, amd=os.path.exists(AMD_DRIVER))
    if code in (NO_DEVICE, STUB_LIBRARY):
        return CudaDriver(True)
    if code:
        return CudaDriver(True, 0, f"the CUDA driver answers with error {code}")
    capability = _number(driver, "cuDeviceGetAttribute", MAJOR, 0), _number(driver, "cuDeviceGetAttribute", MINOR, 0)
    return CudaDriver(True, count.value, None, _number(driver, "cuDriverGetVersion"), capability)


def _number(driver: ctypes.CDLL, function: str, *arguments: int) -> int:
    """What a function of the driver writes to its first argument; 0 where there is none or it fails."""
    found = ctypes.c_int()
    answered = hasattr(driver, function) and getattr(driver, function)(ctypes.byref(found), *arguments) == 0
    return found.value if answered else 0


def why_no_cuda(driver: CudaDriver) -> str | None:
    """Why a driver that answers so leaves nothing to compute on, in one sentence, or None."""
    if driver.trouble:
        return f"CUDA cannot be used: {driver.trouble}"
    return None if driver.offers else NO_CUDA
