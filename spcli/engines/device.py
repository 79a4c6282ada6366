"""Which engine a run uses. Asks the CUDA driver itself, so that nothing heavy is imported to learn there is no GPU."""

from __future__ import annotations

from collections.abc import Callable

from spcli.engines import load_engine
from spcli.engines.base import Engine
from spcli.engines.driver import NO_CUDA, CudaDriver, ask_driver
from spcli.errors import DeviceError

Tell = Callable[[str], None]


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
        raise DeviceError(NO_CUDA)
    return load_engine("cuda")


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
