"""Whether spcli works here: versions, devices, and a small computation checked against plain Python."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli import __version__
from spcli.engines import describe_engine, load_engine, toolchain
from spcli.engines.base import Engine, Epilogue, LayerParameters, Points, download_voxels
from spcli.engines.driver import CudaDriver, ask_driver
from spcli.errors import DeviceError
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.grid import VoxelSpec
from spcli.sparse_tensor import SparseTensor, VoxelizedScan

NEEDED = ("numpy", "click", "msgspec", "pyyaml", "safetensors", "tqdm")
TOLERANCE = 1e-5
SPEC = VoxelSpec((0.5, 0.5, 0.5), (0, 0, 0, 4, 3, 2))
SUBM = submanifold_geometry((3, 3, 3), (1, 1, 1))
STRIDED = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))

Site = tuple[int, ...]
Rows = dict[Site, NDArray[np.float64]]


class HealthCheck(Struct, frozen=True):
    """One line of the report. `ok` None is information: something optional that is not there."""

    name: str
    ok: bool | None
    detail: str


def checkup(full: bool = False) -> Iterator[HealthCheck]:
    """All checks, one after another; `full` also imports open3d, which takes seconds, as torch does with a GPU."""
    yield HealthCheck("spcli", True, f"{__version__}, Python {platform.python_version()}, {sys.executable}")
    yield _platform()
    for name in NEEDED:
        yield _package(name, needed=True)
    yield _package("torch", needed=False)
    yield _module("triton")
    yield _open3d(full)
    yield _temporary_folder()
    yield _guarded("CPU engine", _cpu_engine)
    yield from _self_test("cpu", "self-test")
    yield from _gpu()


def _self_test(engine: str, name: str) -> Iterator[HealthCheck]:
    yield _guarded(f"{name}: voxelize", lambda: _same(_engine_voxels(engine), _plain_voxels(), "voxels"))
    yield _guarded(f"{name}: submanifold convolution", lambda: _convolution(engine, SUBM))
    yield _guarded(f"{name}: strided convolution", lambda: _convolution(engine, STRIDED))


def _platform() -> HealthCheck:
    known = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    detail = f"{platform.system()} {platform.machine()}"
    return HealthCheck("platform", known, detail if known else f"{detail}; Linux on x86-64 or aarch64 is needed")


def _package(name: str, needed: bool) -> HealthCheck:
    try:
        return HealthCheck(name, True, version(name))
    except PackageNotFoundError:
        return HealthCheck(name, False if needed else None, "not installed")


def _module(name: str) -> HealthCheck:
    return HealthCheck(name, True, version(name)) if find_spec(name) else HealthCheck(name, None, "not installed")


def _open3d(full: bool) -> HealthCheck:
    if find_spec("open3d") is None:
        return HealthCheck("open3d", None, "not installed: .pcd and .ply files cannot be read")
    if not full:
        return HealthCheck("open3d", True, f"{version('open3d')}, not imported; --full tries it")
    from spcli.readers.open3d_file import load_open3d

    return _guarded("open3d", lambda: f"{load_open3d().__version__}, imported")


def _gpu() -> Iterator[HealthCheck]:
    """The driver; where it offers a GPU, which engines can use it. A device that is not used is no failure."""
    driver = ask_driver()
    yield HealthCheck("GPU", True if driver.devices or driver.amd else None, _drivers_words(driver))
    if not driver.offers:
        return
    missing = toolchain.missing()
    yield HealthCheck("C compiler", None if missing else True, missing or f"{toolchain.compiler()}, Python.h")
    yield from _engine_on_gpu("cuda", "Triton engine", "self-test on the GPU")
    yield from _engine_on_gpu("torch", "torch engine", "self-test of torch on the GPU")


def _drivers_words(driver: CudaDriver) -> str:
    if driver.trouble:
        return driver.trouble
    if driver.amd:
        return "AMD's driver; torch for ROCm can use it"
    if not driver.present:
        return "no driver (libcuda.so.1)"
    serves = f" for CUDA {driver.release} and older" if driver.version else ""
    return f"driver{serves}, {driver.devices} device{'' if driver.devices == 1 else 's'}"


def _engine_on_gpu(engine: str, name: str, self_test: str) -> Iterator[HealthCheck]:
    try:
        load_engine(engine, device="cuda")
    except DeviceError as error:
        yield HealthCheck(name, None, str(error))
        return
    yield _guarded(name, lambda: ", ".join(describe_engine(engine)))
    yield from _self_test(engine, self_test)


def _temporary_folder() -> HealthCheck:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"spcli")
    except OSError as error:
        return HealthCheck("temporary files", False, str(error))
    return HealthCheck("temporary files", True, tempfile.gettempdir())


def _guarded(name: str, work: Callable[[], str]) -> HealthCheck:
    """A check that fails on any exception: what is broken here may break in any way."""
    try:
        return HealthCheck(name, True, work())
    except Exception as error:
        return HealthCheck(name, False, f"{type(error).__name__}: {error}")


def _cpu_engine() -> str:
    load_engine("cpu")
    return ", ".join(describe_engine("cpu"))


# The self-test: 60 points in a room of 8 x 6 x 4 cells, two channels.


def _points() -> NDArray[np.float32]:
    draw = np.random.Generator(np.random.PCG64(0))
    low, high = np.array([-0.2, 0, 0, 0]), np.array([4.2, 3, 2, 1])
    return draw.uniform(low, high, (60, 4)).astype(np.float32)


def _engine_scan(engine: Engine) -> VoxelizedScan:
    points = Points(_points(), (0, 1, 2), (2, 3))
    return download_voxels(engine, engine.voxelize(points, SPEC))


def _engine_voxels(engine: str) -> Rows:
    return _rows(_engine_scan(load_engine(engine)).tensor)


def _rows(tensor: SparseTensor) -> Rows:
    sites = map(tuple, tensor.indices.tolist())
    return dict(zip(sites, tensor.features.astype(np.float64), strict=True))


def _plain_voxels() -> Rows:
    """The definition: floor of a float32 division, means over the points of each cell."""
    cells: dict[Site, list[NDArray[np.float32]]] = {}
    for point in _points():
        x, y, z = (int(np.floor(value / np.float32(0.5))) for value in point[:3])
        if 0 <= x < 8 and 0 <= y < 6 and 0 <= z < 4:
            cells.setdefault((0, z, y, x), []).append(point[2:])
    return {site: np.mean(np.array(points, np.float64), axis=0) for site, points in sorted(cells.items())}


def _convolution(name: str, geometry: ConvGeometry) -> str:
    weight = np.random.Generator(np.random.PCG64(1)).uniform(-1, 1, (3, 3, 3, 3, 2)).astype(np.float32)
    engine = load_engine(name)
    tensor = _engine_scan(engine).tensor
    kernel_map = engine.build(engine.sites(tensor.indices, tensor.spatial_shape, 1), geometry)
    packed = engine.pack(LayerParameters(weight))
    rows = engine.download(engine.convolve(engine.upload(tensor.features), kernel_map, packed, Epilogue()))
    shape = geometry.out_spatial_shape(tensor.spatial_shape)
    found = SparseTensor(rows, engine.indices(kernel_map.outputs), shape)
    return _same(_rows(found), _plain_convolution(_plain_voxels(), weight.astype(np.float64), geometry), "outputs")


def _plain_convolution(inputs: Rows, weight: NDArray[np.float64], geometry: ConvGeometry) -> Rows:
    """The pair equation over every output site of the grid and every tap."""
    outputs: Rows = {}
    for out in product(*(range(size) for size in geometry.out_spatial_shape((4, 6, 8)))):
        for k in product(*(range(size) for size in geometry.kernel_size)):
            window = zip(out, k, geometry.stride, geometry.padding, geometry.dilation, strict=True)
            source = (0, *(s * o - p + d * t for o, t, s, p, d in window))
            if source in inputs and (not geometry.submanifold or (0, *out) in inputs):
                term: NDArray[np.float64] = weight[:, k[0], k[1], k[2]] @ inputs[source]
                outputs[(0, *out)] = outputs.get((0, *out), 0) + term
    return outputs


def _same(found: Rows, expected: Rows, what: str) -> str:
    """A sentence on their agreement.

    Raises:
        ArithmeticError: they differ.
    """
    if list(found) != sorted(expected):
        raise ArithmeticError(f"{len(found)} {what} where {len(expected)} are right, or in another order")
    worst = max(float(np.abs(found[site] - expected[site]).max()) for site in expected)
    if not worst <= TOLERANCE:
        raise ArithmeticError(f"{what} differ by {worst:.2g}")
    return f"{len(found)} {what}, largest difference {worst:.1e}"


def report(checks: list[HealthCheck]) -> dict[str, Any]:
    """The `spcli.doctor/1` object."""
    listed = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
    return {"schema": "spcli.doctor/1", "ok": all(check.ok is not False for check in checks), "checks": listed}
