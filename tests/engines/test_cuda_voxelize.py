"""What is particular to voxelizing on the device: recordings played again, capacities, real scans beside the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spcli.config import load_preset
from spcli.engines import load_engine
from spcli.engines.base import Points, download_voxels
from spcli.engines.bounds import grid_of
from spcli.errors import ConfigError
from spcli.grid import ScanCounts, VoxelSpec
from spcli.pipeline.channels import engine_points
from spcli.readers import read
from spcli.sparse_tensor import VoxelizedScan

UNIT = VoxelSpec((1.0, 1.0, 1.0), (0, 0, 0, 4, 4, 4))
POISON = -7


def cloud(seed: int, count: int, span: float = 4.0) -> np.ndarray:
    """Points in and around a cube, some crowded into one cell and some not finite."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-0.2 * span, 1.2 * span, (count, 4)).astype(np.float32)
    values[rng.uniform(size=count) < 0.3, :3] *= 0.2
    values[rng.uniform(size=count) < 0.02, 3] = np.nan
    return values


def columns(values: np.ndarray) -> Points:
    return Points(values, (0, 1, 2), (0, 1, 2, 3))


def on_cpu(points: Points, spec: VoxelSpec) -> VoxelizedScan:
    cpu = load_engine("cpu")
    return download_voxels(cpu, cpu.voxelize(points, spec, point_map=True, hard=spec.max_points is not None))


@dataclass(frozen=True)
class Result:
    """Everything a recording leaves behind, as whole buffers."""

    active: int
    counts: ScanCounts
    indices: np.ndarray
    num_points: np.ndarray
    features: np.ndarray
    point_rows: np.ndarray
    points: np.ndarray | None


class Recorded:
    """A voxelization captured once for buffers of fixed sizes, whose unused rows hold poison."""

    def __init__(self, spec: VoxelSpec, points: int, lists: tuple[int, ...], dtype: str = "float32") -> None:
        from spcli.engines.cuda import voxelize
        from spcli.engines.cuda.capacity import FixedCapacity
        from spcli.engines.cuda.capture import Stream
        from spcli.engines.cuda.runs import VoxelOptions

        self.spec, self.device = spec, voxelize
        fill = voxelize.upload(np.full((points, 4), 0.5, np.float32))  # a point of the grid, were it read
        grid = voxelize.device_grid(grid_of(columns(np.zeros((1, 4), np.float32)), spec))
        self.grid = replace(grid, grows=spec.point_cloud_range is None)
        self.buffer = voxelize.DevicePoints(fill, voxelize.upload(np.zeros(1, np.int32)), (0, 1, 2), (0, 1, 2, 3))
        options = VoxelOptions(point_map=True, hard=spec.max_points is not None)

        def work() -> Any:
            return voxelize.record(self.buffer, self.grid, spec, FixedCapacity(lists), dtype, options)

        self.stream = Stream()
        self.replay, self.made = self.stream.capture(work)

    def __call__(self, values: np.ndarray) -> Result:
        made, count = self.made, len(values)
        self._send(values)
        for tensor in (made.sites.indices, made.num_points, made.features):
            tensor.fill_(POISON)
        self._wait()
        with self.stream:
            self.replay.replay()
        self.stream.wait()
        host = self.device.download
        return Result(
            made.sites.count(), self.device.scan_counts(host(made.tally), count), host(made.sites.indices),
            host(made.num_points), host(made.features), host(made.point_rows)[:count],
            None if made.points is None else host(made.points),
        )  # fmt: skip

    def _send(self, values: np.ndarray) -> None:
        upload, count = self.device.upload, len(values)
        self.buffer.values[:count] = upload(np.ascontiguousarray(values, np.float32))
        self.buffer.values[count:] = 0.5
        self.buffer.total[:] = count
        if self.grid.grows:
            grid = self.device.device_grid(grid_of(columns(values), self.spec))
            for kept, new in zip(self.tensors(self.grid), self.tensors(grid), strict=True):
                kept[:] = new

    @staticmethod
    def tensors(grid: Any) -> tuple[Any, ...]:
        return grid.origin, grid.voxel_size, grid.cells, grid.shape

    def _wait(self) -> None:
        from spcli.engines.cuda.launch import INTERPRETED

        if not INTERPRETED:
            import torch

            torch.cuda.synchronize()


def assert_same(result: Result, expected: VoxelizedScan) -> None:
    """The CPU's voxels in the first rows, bit for bit, and poison behind them."""
    active = len(expected.num_points)
    assert result.active == active
    assert result.counts == expected.counts
    np.testing.assert_array_equal(result.indices[:active], expected.tensor.indices)
    np.testing.assert_array_equal(result.num_points[:active], expected.num_points)
    np.testing.assert_array_equal(result.point_rows, expected.point_rows)
    np.testing.assert_array_max_ulp(result.features[:active], expected.tensor.features, maxulp=1)
    if expected.points is not None:
        assert result.points is not None
        np.testing.assert_array_equal(result.points[:active], expected.points)
        assert not result.points[active:].any()
    for rows in (result.indices, result.num_points, result.features):
        assert (rows[active:] == POISON).all()


@pytest.mark.parametrize(
    "spec",
    [
        UNIT,
        replace(UNIT, max_points=3, reduce="max"),
        replace(UNIT, max_points=2, max_voxels=20),
        replace(UNIT, voxel_size=(0.1, 0.1, 0.1), reduce="first"),
        replace(UNIT, point_cloud_range=None, reduce="sum"),
        VoxelSpec((1.0, 1.0, 1.0), (0, 0, 0, 2e9, 2e9, 1)),
    ],
    ids=["all points", "max_points", "max_voxels", "small voxels", "grid of its own", "nearly 2^62 cells"],
)
def test_one_recording_serves_scans_of_every_size(cuda: Any, spec: VoxelSpec) -> None:
    recorded = Recorded(spec, 900, (900,))
    scans = [cloud(1, 500), cloud(2, 60), np.zeros((0, 4), np.float32), cloud(3, 900), cloud(4, 1), cloud(1, 500)]
    results = [recorded(values) for values in scans]
    for values, result in zip(scans, results, strict=True):
        assert_same(result, on_cpu(columns(values), spec))
    assert results[0].features.tobytes() == results[-1].features.tobytes()


def test_a_grid_of_more_than_2_to_the_62_cells_is_left_to_the_cpu(cuda: Any) -> None:
    spec = VoxelSpec((1.0, 1.0, 1.0), (0, 0, 0, 2e9, 2e9, 2))
    with pytest.raises(ConfigError, match=r"2\^62 cells.*: set point_cloud_range, or use --device cpu"):
        cuda.voxelize(columns(cloud(1, 10)), spec)
    assert len(on_cpu(columns(cloud(1, 10)), spec).num_points) > 0


def test_a_recording_without_space_for_points_finds_no_voxels(cuda: Any) -> None:
    assert Recorded(replace(UNIT, max_points=2), 0, (0,))(np.zeros((0, 4), np.float32)).counts == ScanCounts()


@pytest.fixture
def fenced(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Puts poison behind every buffer that the voxelizer asks for; what this gives looks whether it is still there."""
    from spcli.engines.cuda import runs, voxelize

    asked, behind = voxelize.empty, 64
    fences: list[Any] = []

    def longer(shape: Any, dtype: Any) -> Any:
        rows, *rest = (shape,) if isinstance(shape, int) else shape
        buffer = asked((rows + behind, *rest), dtype)
        buffer.fill_(POISON)
        fences.append(buffer[rows:])
        return buffer[:rows]

    def check() -> None:
        assert fences
        assert all(bool((fence == POISON).all()) for fence in fences)

    for module in (runs, voxelize):
        monkeypatch.setattr(module, "empty", longer)
    return check


@pytest.mark.parametrize("max_voxels", [None, 50])
@pytest.mark.parametrize("rows", [0, 1, 13])
def test_voxels_beyond_the_capacity_are_counted_and_not_written(
    fenced: Callable[[], None], rows: int, max_voxels: int | None
) -> None:
    spec = replace(UNIT, max_points=2, max_voxels=max_voxels)
    values = cloud(5, 800)
    result = Recorded(spec, 800, (rows,))(values)
    expected = on_cpu(columns(values), spec)
    assert result.counts.voxels.active == len(expected.num_points) > rows
    assert result.active == rows
    np.testing.assert_array_equal(result.indices, expected.tensor.indices[:rows])
    np.testing.assert_array_equal(result.features, expected.tensor.features[:rows])
    assert result.point_rows.max(initial=-1) < rows
    fenced()


@pytest.mark.parametrize("dtype", ["tf32", "float16", "bfloat16"])
def test_features_are_the_float32_ones_rounded(cuda: Any, dtype: str) -> None:
    points = columns(cloud(6, 400))
    exact = on_cpu(points, UNIT).tensor.features
    stored = download_voxels(cuda, cuda.with_dtype(dtype).voxelize(points, UNIT)).tensor.features
    step = {"tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    assert (np.abs(stored - exact) <= step * np.abs(exact) + 1e-7).all()
    if dtype == "float16":
        np.testing.assert_array_equal(stored, exact.astype(np.float16))
    if dtype == "tf32":
        assert not (stored.view(np.uint32) & 0x1FFF).any()


def test_points_a_hair_below_the_origin_are_outside(cuda: Any) -> None:
    """Numbers so small that a device may take them for zero."""
    rows = np.array([[-1e-40, 0, 0, 1], [0, -1e-45, 0, 2], [0, 0, -1e-38, 3], [1e-45, 0, -0.0, 4]], np.float32)
    scan = download_voxels(cuda, cuda.voxelize(columns(rows), UNIT, point_map=True))
    assert scan.point_rows is not None and scan.point_rows.tolist() == [-1, -1, -1, 0]


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_many_crowded_voxels_beside_sparse_ones(cuda: Any, reduce: Any) -> None:
    """Crowded voxels are reduced in another way than the rest; both ways meet in one block here."""
    rng = np.random.default_rng(7)
    cells = rng.choice(64, 6000, p=np.arange(1, 65) ** 3.0 / (np.arange(1, 65) ** 3.0).sum())
    corners = np.stack([cells % 4, cells // 4 % 4, cells // 16], axis=1)
    values = np.column_stack([corners + rng.uniform(0, 0.999, (6000, 3)), rng.normal(0, 1e3, 6000)])
    points, spec = columns(values.astype(np.float32)), replace(UNIT, reduce=reduce)
    expected, scan = on_cpu(points, spec), download_voxels(cuda, cuda.voxelize(points, spec, point_map=True))
    assert (expected.num_points > 200).any() and (expected.num_points < 10).any()
    np.testing.assert_array_max_ulp(scan.tensor.features, expected.tensor.features, maxulp=1)
    np.testing.assert_array_equal(scan.point_rows, expected.point_rows)


def test_blocks_of_a_device_give_the_bits_that_larger_ones_give(cuda: Any) -> None:
    """Every sum runs in an order that only the points decide, so that block shapes change nothing for short runs."""
    from spcli.engines.cuda.blocks import true_shapes

    points, spec = columns(cloud(8, 3000)), replace(UNIT, voxel_size=(0.1, 0.1, 0.1), max_points=20, max_voxels=900)
    expected = on_cpu(points, spec)
    with true_shapes(90):
        scan = download_voxels(cuda, cuda.voxelize(points, spec, point_map=True, hard=True))
    assert scan.counts == expected.counts
    for ours, theirs in (
        (scan.tensor.indices, expected.tensor.indices), (scan.tensor.features, expected.tensor.features),
        (scan.num_points, expected.num_points), (scan.point_rows, expected.point_rows), (scan.points, expected.points),
    ):  # fmt: skip
        np.testing.assert_array_equal(ours, theirs)


SCANS = {
    "kitti_000000_full.bin": "second-kitti",
    "kitti_000008_front.bin": "minkunet-semantickitti",
    "nuscenes_single_sweep.bin": "centerpoint-nuscenes",
    "ouster_os1_128.bin": "second-kitti",
}


@pytest.mark.parametrize("capped", [True, False])
@pytest.mark.parametrize("name", SCANS)
def test_real_scans_give_the_voxels_of_the_cpu(cuda: Any, shared: Path, name: str, capped: bool) -> None:
    spec = load_preset(SCANS[name]).voxelize
    assert spec is not None
    spec = replace(spec, max_points=5, max_voxels=9000) if capped else replace(spec, max_points=None, reduce="mean")
    source: Any = read(str(shared / "data" / name), spec.columns).content
    points = engine_points(source, spec)
    expected, scan = on_cpu(points, spec), download_voxels(cuda, cuda.voxelize(points, spec, point_map=True))
    assert scan.counts == expected.counts
    np.testing.assert_array_equal(scan.tensor.indices, expected.tensor.indices)
    np.testing.assert_array_equal(scan.num_points, expected.num_points)
    np.testing.assert_array_equal(scan.point_rows, expected.point_rows)
    np.testing.assert_array_max_ulp(scan.tensor.features, expected.tensor.features, maxulp=1)
