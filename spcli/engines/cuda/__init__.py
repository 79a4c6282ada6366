"""The CUDA engine: Triton kernels, torch tensors, a whole frame as one CUDA graph."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec

from spcli.engines import toolchain
from spcli.engines.base import Engine
from spcli.engines.driver import ask_driver, why_no_cuda
from spcli.engines.torch_build import is_built_without_gpus, missing_torch, no_gpus, why_torch_has_no_gpu
from spcli.errors import DeviceError

OLDEST = (8, 0)
OLDEST_TRITON = (3, 4)


def unavailable() -> str | None:
    """Why CUDA cannot be used, in one sentence, or None. `TRITON_INTERPRET=1` is how tests do without a device."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    driver = ask_driver()
    if not interpreted and why_no_cuda(driver):
        return why_no_cuda(driver)
    reason = missing_torch("the Triton engine")
    if reason is None and find_spec("triton") is None:
        # A torch for CUDA brings Triton with it; one for the processor is what is wrong then.
        missing = "the Triton engine needs the package triton, which is not installed"
        return no_gpus(driver) if is_built_without_gpus() else missing
    return reason or _why_too_old()


def _why_too_old() -> str | None:
    found = version("triton")
    if tuple(int(number) for number in found.split(".")[:2]) >= OLDEST_TRITON:
        return None
    needed = ".".join(map(str, OLDEST_TRITON))
    return f"the Triton engine needs triton {needed}, which comes with torch 2.8, and {found} is installed"


def load(threads: int | None = None, device: str | None = None) -> Engine:
    """The CUDA engine; it computes on no thread of the host, so `threads` changes nothing.

    Raises:
        DeviceError: torch cannot use the device, the device is too old for the kernels, or Triton has no compiler.
    """
    from spcli.engines.cuda.engine import CudaEngine
    from spcli.engines.cuda.launch import INTERPRETED

    reason = None if INTERPRETED else why_torch_has_no_gpu(ask_driver()) or _why_no_kernels()
    if reason:
        raise DeviceError(reason)
    return CudaEngine()


def describe() -> tuple[str, ...]:
    """Devices with their compute capability and memory, then what torch and Triton are."""
    import torch
    import triton

    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return (
        *(f"{each.name} ({each.major}.{each.minor}, {each.total_memory / 2**30:.0f} GiB)" for each in found),
        f"torch {torch.__version__} for CUDA {torch.version.cuda}",
        f"Triton {triton.__version__}",
    )


def _why_no_kernels() -> str | None:
    """Why the kernels cannot run on a GPU that torch can use, in one sentence, or None."""
    import torch

    if torch.version.hip is not None:
        return f"the Triton kernels are written for CUDA, and torch {torch.__version__} is built for ROCm"
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST:
        of_card = f"{torch.cuda.get_device_name()} has compute capability {capability[0]}.{capability[1]}"
        return f"{of_card}, and the Triton kernels need {OLDEST[0]}.{OLDEST[1]}"
    return toolchain.missing()
