"""Whether the installed torch can compute on the GPU of this machine, and which one to install where it cannot."""

from __future__ import annotations

import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from spcli.engines.driver import CudaDriver

INDEX = "https://download.pytorch.org/whl/"
# The oldest CUDA of a driver that serves each build, newest first. Within a major release a driver serves all builds
# (NVIDIA: CUDA Compatibility, minor version compatibility); torch's builds for 12.8 are its first for Blackwell,
# which needs such a driver anyway, and those for 12.6 the last with Volta and Pascal.
BUILDS = ((13000, "cu130"), (12080, "cu128"), (12000, "cu126"), (11080, "cu118"))
LAST_WITH_VOLTA = "cu126"


def missing_torch(what: str) -> str | None:
    """Why there is no torch at all for `what`, in one sentence, or None; imports nothing."""
    return None if find_spec("torch") else f"{what} needs the package torch, which is not installed; {_install()}"


def is_built_without_gpus() -> bool:
    """Whether the name of the installed torch's version says that it is for the processor only; imports nothing."""
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def no_gpus(driver: CudaDriver) -> str:
    """One sentence on a torch that was built for the processor only."""
    return f"torch {version('torch')} is a build without CUDA; {_install(driver)}"


def why_torch_has_no_gpu(driver: CudaDriver) -> str | None:
    """Why torch can compute on no GPU here, and what to install, in one sentence; None where it can. Imports torch."""
    import torch

    cuda, hip = torch.version.cuda, torch.version.hip
    if cuda is None and hip is None:
        return no_gpus(driver)
    with warnings.catch_warnings():  # torch's own words on it are several lines
        warnings.simplefilter("ignore")
        usable = torch.cuda.is_available()
    if usable:
        return _without_kernels()
    if cuda is None:
        return f"torch {torch.__version__} for ROCm {hip} finds no GPU; rocminfo shows what the driver knows"
    built = f"torch {torch.__version__} is built for CUDA {cuda}"
    if driver.version and driver.version // 1000 < int(cuda.split(".")[0]):
        return f"{built}, and the driver here serves CUDA {driver.release} at most; {_install(driver)}"
    return f"{built} and finds no device, although the driver knows {driver.devices}; see nvidia-smi"


def _without_kernels() -> str | None:
    """A torch that finds the card and was compiled for others fails at its first operation."""
    import torch

    if torch.version.hip is not None:
        return None
    major, minor = torch.cuda.get_device_capability()
    compiled = [name.partition("_")[2].rstrip("af") for name in torch.cuda.get_arch_list()]
    if not compiled or any(int(each[:-1]) == major and int(each[-1]) <= minor for each in compiled):
        return None
    name = f"{torch.cuda.get_device_name()} (compute capability {major}.{minor})"
    remedy = _pip(LAST_WITH_VOLTA) if major < 8 else _pip(BUILDS[0][1])
    return f"torch {torch.__version__} has no kernels for {name}; {remedy}"


def _install(driver: CudaDriver | None = None) -> str:
    """What to install for a driver: the newest build that it serves."""
    if driver is None or not driver.version:
        return "install torch as https://pytorch.org/get-started/locally says"
    build = next((name for oldest, name in BUILDS if driver.version >= oldest), None)
    return _pip(build) if build else "install a newer driver (525 or later)"


def _pip(build: str) -> str:
    return f"pip install torch --index-url {INDEX}{build}"
