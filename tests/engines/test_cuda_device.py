"""What only a real device can show, and the same on a piece of a real scan where there is none.

Run it under `compute-sanitizer --tool memcheck` and `--tool racecheck` too: `make cuda-check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spcli
from benchmarks.common.reference64 import output64, relative_l2
from presets import scan_for
from spcli.config import Config, load_preset, preset_names
from spcli.engines import load_engine
from spcli.engines.base import Want
from spcli.errors import DeviceError
from spcli.pipeline.channels import engine_points
from spcli.pipeline.session import RunResult
from spcli.sample import street_scan
from spcli.weights import fold, initial_parameters

# Relative L2 error against float64.
BOUNDS = {"float32": 1e-5, "tf32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}
SCANS = {
    "kitti_000000_full.bin": "second-kitti",
    "kitti_000008_front.bin": "second-kitti",
    "nuscenes_single_sweep.bin": "centerpoint-nuscenes",
    "ouster_os1_128.bin": "minkunet-semantickitti",
}


@pytest.fixture(scope="module")
def card(cuda: Any) -> Any:
    from spcli.engines.cuda.launch import INTERPRETED

    if INTERPRETED:
        pytest.skip("there is no CUDA device here, and the interpreter would take hours")
    return cuda


def assert_same_index(result: RunResult, expected: RunResult) -> None:
    """Sites, shapes, counts and every rule, bit for bit."""
    one, other = result.frame, expected.frame
    assert (one.sites, one.shapes, one.counts, one.scan) == (other.sites, other.shapes, other.counts, other.scan)
    np.testing.assert_array_equal(result.features.indices, expected.features.indices)
    for key, book in expected.rulebooks.items():
        for field, value in vars(book).items():
            np.testing.assert_array_equal(getattr(result.rulebooks[key], field), value, f"{key}: {field}")


def float64_features(config: Config, scan: Any, result: RunResult) -> np.ndarray:
    assert config.voxelize is not None
    folded = fold(result.network, initial_parameters(result.network, 0))
    return output64(result.network, folded, result.frame, spcli.voxelize(scan, config.voxelize).tensor)


def corner(shared: Path) -> np.ndarray:
    """The points of a real scan ahead of the car."""
    values = np.fromfile(shared / "data" / "kitti_000008_front.bin", np.float32).reshape(-1, 4)
    near = (values[:, 0] > 8) & (values[:, 0] < 14) & (np.abs(values[:, 1]) < 3)
    return values[near]


@pytest.fixture(scope="module")
def by_cpu(shared: Path) -> tuple[Config, np.ndarray, RunResult, np.ndarray]:
    """A network, the corner of a scan, and what the CPU and float64 make of it."""
    config, points = load_preset("second-kitti", (), {}), corner(shared)
    assert len(points) > 1000
    expected = spcli.run(config, points)
    return config, points, expected, float64_features(config, points, expected)


# Single layers run in every format in `test_cuda_convolve`; a network runs in the most and the least exact one here.
@pytest.mark.parametrize(
    "dtype", [pytest.param(dtype, marks=pytest.mark.soak if dtype in ("tf32", "float16") else ()) for dtype in BOUNDS]
)
def test_a_piece_of_a_real_scan_has_the_cpus_rules_and_features_near_float64(
    cuda: Any, by_cpu: tuple[Config, np.ndarray, RunResult, np.ndarray], dtype: str
) -> None:
    config, points, expected, reference = by_cpu
    result = spcli.run(config, points, device=cuda.with_dtype(dtype))
    assert_same_index(result, expected)
    assert relative_l2(result.features.features, reference) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", SCANS)
def test_real_scans_have_the_cpus_rules_and_features_near_float64(
    card: Any, shared: Path, name: str, dtype: str
) -> None:
    config, path = load_preset(SCANS[name], (), {}), str(shared / "data" / name)
    expected = spcli.run(config, path)
    result = spcli.run(config, path, device=card.with_dtype(dtype))
    assert_same_index(result, expected)
    reference = float64_features(config, path, expected)
    assert relative_l2(result.features.features, reference) < BOUNDS[dtype]


def runner_of(engine: Any, config: Config, rulebooks: bool = False) -> Any:
    """A runner for scans of the configuration's own columns, and the name of the layer it brings back."""
    assert config.voxelize is not None and config.voxelize.columns is not None
    network = config.network(len(engine_points(scan_for(config), config.voxelize).features), None)
    parameters, output = fold(network, initial_parameters(network, 0)), network.program.output
    return engine.compile(network.program, parameters, Want((output,), rulebooks)), output


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", preset_names())
def test_a_hundred_frames_have_the_same_bits(card: Any, name: str, dtype: str) -> None:
    """The first is carried out step by step, all others are replays, several in flight."""
    config = load_preset(name, (), {})
    assert config.voxelize is not None
    points = engine_points(scan_for(config), config.voxelize)
    runner, output = runner_of(card.with_dtype(dtype), config)
    first = runner.result(runner.submit(points)).outputs[output]
    flying: list[int] = []
    for _ in range(100):
        flying.append(runner.submit(points))
        if len(flying) == runner.depth:
            again = runner.result(flying.pop(0)).outputs[output]
            assert again.features.tobytes() == first.features.tobytes()
            assert again.indices.tobytes() == first.indices.tobytes()


@pytest.mark.parametrize("name", ["second-kitti", "minkunet-semantickitti"])
def test_frames_of_growing_and_shrinking_size_are_complete(card: Any, name: str) -> None:
    config = load_preset(name, (), {})
    assert config.voxelize is not None
    on_card, output = runner_of(card, config, rulebooks=True)
    on_host, _ = runner_of(load_engine("cpu"), config, rulebooks=True)
    for count in (20000, 60000, 500, 120000, 1, 20000):
        points = engine_points(street_scan(0, count), config.voxelize)
        frame, expected = (runner.result(runner.submit(points)) for runner in (on_card, on_host))
        assert (frame.sites, frame.shapes, frame.counts) == (expected.sites, expected.shapes, expected.counts)
        assert relative_l2(frame.outputs[output].features, expected.outputs[output].features) < 1e-5
        for key, book in expected.rulebooks.items():
            np.testing.assert_array_equal(frame.rulebooks[key].in_rows, book.in_rows, key)


def test_too_little_memory_is_told_with_the_bytes_asked_for(card: Any) -> None:
    import torch

    # The limit is on what torch itself holds: what it has now, and too little for a frame.
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + (8 << 20)) / total))
    try:
        with pytest.raises(DeviceError, match=r"not enough memory: .*iB asked for") as told:
            spcli.run(load_preset("second-kitti", (), {}), street_scan(0, 120000).values, device=card)
        assert told.value.exit_code == 3
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_points_that_are_not_finite_change_nothing_else(cuda: Any, shared: Path, bad: float) -> None:
    points = corner(shared)[:400]
    config = load_preset("quickstart", (), {})
    spoilt = np.insert(points, 100, np.array([bad, 1, 1, 1], np.float32), axis=0)
    one, other = (spcli.run(config, values, device=cuda) for values in (points, spoilt))
    assert other.frame.scan is not None and other.frame.scan.points.nonfinite == 1
    assert one.features.features.tobytes() == other.features.features.tobytes()
