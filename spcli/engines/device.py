"""Which engine a run uses: by device, by name, or the best that can be had."""

from __future__ import annotations

from collections.abc import Callable

from spcli.engines import load_engine
from spcli.engines.base import Engine
from spcli.engines.driver import CudaDriver, ask_driver, why_no_cuda
from spcli.errors import DeviceError, UsageError

DEVICES = ("auto", "cpu", "cuda")
ENGINE_CHOICES = ("triton", "torch")

Warn = Callable[[str], None]


def choose_engine(device: str | Engine, warn: Warn, threads: int | None = None, engine: str | None = None) -> Engine:
    """The engine for `--device cpu`, `cuda` or `auto`; one that is given is given back as it is.

    On a CUDA device that is the Triton engine; where it cannot be had, the torch engine.

    Args:
        device: one of `DEVICES`, or an engine.
        warn: called with one sentence on why something that is there stays unused.
        threads: of the host, for what is computed there; None takes all.
        engine: one of `ENGINE_CHOICES`, and no other will do; None takes the best.

    Raises:
        UsageError: there is no device or engine of that name.
        DeviceError: what was asked for cannot be used.
    """
    if not isinstance(device, str):
        return device
    for what, name, names in (("device", device, DEVICES), ("engine", engine, (None, *ENGINE_CHOICES))):
        if name not in names:
            raise UsageError(f"there is no {what} {name!r}; there are {', '.join(filter(None, names))}")
    if device == "cpu":
        return _on_the_processor(engine, threads)
    driver = ask_driver()
    if device == "cuda" or driver.offers or engine == "triton":
        try:
            return _on_a_device(engine, driver, warn, threads)
        except DeviceError as error:
            if device == "cuda" or engine == "triton":
                raise
            warn(f"{error}; using the CPU")
    return _on_the_processor(engine, threads)


def _on_the_processor(engine: str | None, threads: int | None) -> Engine:
    if engine == "triton":
        raise DeviceError("the Triton engine computes on CUDA devices only; use --device cuda, or leave --engine out")
    return load_engine("torch" if engine == "torch" else "cpu", threads, "cpu")


def _on_a_device(engine: str | None, driver: CudaDriver, warn: Warn, threads: int | None) -> Engine:
    reason = why_no_cuda(driver)
    if reason:
        raise DeviceError(reason)
    if engine == "torch":
        return load_engine("torch", threads, "cuda")
    try:
        return load_engine("cuda", threads)
    except DeviceError as error:
        if engine == "triton":
            raise
        chosen = load_engine("torch", threads, "cuda")  # what it cannot use either, it says better
        warn(f"{error}; using the torch engine")
        return chosen


def fallback_for(engine: Engine) -> Engine:
    """What goes on where an engine's results are wrong: torch on the same device after Triton, else the CPU engine.

    The CPU engine computes in float32, whatever the dtype was.
    """
    if engine.name == "cuda":
        try:
            return load_engine("torch", None, engine.device).with_dtype(engine.dtype)
        except DeviceError:
            pass
    return load_engine("cpu")


def with_dtype(engine: Engine, dtype: str) -> Engine:
    """The engine with its features in `dtype`.

    Raises:
        DeviceError: the engine does not offer this arithmetic; the CPU's computes in float32 only.
    """
    if dtype in engine.dtypes:
        return engine.with_dtype(dtype)
    offered = ", ".join(engine.dtypes)
    raise DeviceError(
        f"--dtype {dtype} needs a CUDA device or --engine torch; the {engine.label} engine computes {offered}: "
        "leave --dtype out"
    )
