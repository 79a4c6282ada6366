"""The CUDA engine: Triton kernels, torch tensors, a whole frame as one CUDA graph."""

from __future__ import annotations

import os
from importlib.util import find_spec

from spcli.engines.base import Engine
from spcli.engines.device import ask_driver, why_no_cuda
from spcli.errors import DeviceError


def unavailable() -> str | None:
    """Why CUDA cannot be used, in one sentence, or None. `TRITON_INTERPRET=1` is how tests do without a device."""
    for package in ("torch", "triton"):
        if find_spec(package) is None:
            return f"the CUDA engine needs the package {package}, which is not installed; use --device cpu or auto"
    return None if os.environ.get("TRITON_INTERPRET") == "1" else why_no_cuda(ask_driver())


def load(threads: int | None = None) -> Engine:
    """The CUDA engine; it computes on no thread of the host, so `threads` changes nothing.

    Raises:
        DeviceError: torch cannot use the device: it was built without CUDA, or the device is too old for the kernels.
    """
    from spcli.engines.cuda.engine import CudaEngine
    from spcli.engines.cuda.launch import INTERPRETED

    if not INTERPRETED:
        _check_torch()
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


def _check_torch() -> None:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "is a build without CUDA" if built is None else f"built for CUDA {built} does not work with this driver"
        raise DeviceError(f"torch {torch.__version__} {why}; install one that fits the driver, or use --device cpu")
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        name = torch.cuda.get_device_name()
        raise DeviceError(f"{name} has compute capability {major}.{minor}; the kernels need 8.0: use --device cpu")
