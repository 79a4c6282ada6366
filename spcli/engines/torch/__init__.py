"""The torch engine: sites and maps by the CPU engine, values by torch on any of its devices."""

from __future__ import annotations

from spcli.engines import cpu
from spcli.engines.base import Engine
from spcli.engines.driver import ask_driver, why_no_cuda
from spcli.engines.torch_build import missing_torch, why_torch_has_no_gpu
from spcli.errors import DeviceError


def unavailable() -> str | None:
    """Why the engine cannot run at all, in one sentence, or None; whether torch finds a GPU is another question."""
    return missing_torch("the torch engine") or cpu.unavailable()


def load(threads: int | None = None, device: str | None = None) -> Engine:
    """The torch engine; by itself it takes a GPU where torch can use one, else the processor.

    Raises:
        DeviceError: `device` is "cuda", and torch can use no GPU here.
    """
    import torch

    from spcli.engines.torch.engine import TorchEngine

    cpu.load(threads)
    if threads is not None:
        torch.set_num_threads(threads)
    reason = _why_no_gpu() if device != "cpu" else None
    if reason and device == "cuda":
        raise DeviceError(reason)
    return TorchEngine("cpu" if reason or device == "cpu" else "cuda")


def describe() -> tuple[str, ...]:
    """The device that it would take by itself, and what torch is."""
    import torch

    device = "the processor" if _why_no_gpu() else torch.cuda.get_device_name()
    return device, f"torch {torch.__version__}"


def _why_no_gpu() -> str | None:
    driver = ask_driver()
    return why_no_cuda(driver) or why_torch_has_no_gpu(driver)
