"""Which engine a run uses. Asks the CUDA driver itself, so that nothing heavy is imported to learn there is no GPU."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from spcli.engines import ENGINES, load_engine
from spcli.engines.base import Engine
from spcli.errors import DeviceError

NO_DEVICE, STUB_LIBRARY = 100, 34

Tell = Callable[[str], None]


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


def choose_engine(device: str, tell: Tell, threads: int | None = None) -> Engine:
    """The engine for `--device cpu`, `cuda` or `auto`; `tell` hears why `auto` leaves a device unused.

    Raises:
        DeviceError: the device that was asked for cannot be used.
    """
    if device == "cuda":
        return _cuda_engine()
    if device == "auto":
        driver = ask_driver()
        if driver.devices or driver.trouble:
            try:
                return _cuda_engine(driver)
            except DeviceError as error:
                tell(f"{error}; using the CPU")
    engine = load_engine("cpu")
    if threads is not None:
        from spcli.engines.cpu import set_threads

        set_threads(threads)
    return engine


def _cuda_engine(driver: CudaDriver | None = None) -> Engine:
    driver = driver or ask_driver()
    if driver.trouble:
        raise DeviceError(f"CUDA cannot be used: {driver.trouble}")
    if not driver.devices:
        raise DeviceError("there is no CUDA device here; use --device cpu or auto")
    if "cuda" not in ENGINES:
        raise DeviceError("a CUDA device is present, but this version of spcli has no CUDA engine")
    return load_engine("cuda")


def check_dtype(engine: Engine, dtype: str) -> None:
    """Refuse arithmetic the engine does not offer.

    Raises:
        DeviceError: the CPU engine computes in float32 only.
    """
    if engine.name == "cpu" and dtype != "float32":
        raise DeviceError(f"--dtype {dtype} needs a CUDA device; the CPU engine computes float32: leave --dtype out")
