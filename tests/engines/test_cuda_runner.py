"""The CUDA runner's replay: without a device the launches are recorded once and played again on the same buffers.

Each frame must have the bits that a fresh runner gives step by step, whatever went through the buffers before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from programs import ProgramBuilder
from rehearsal import (
    DOWN2,
    DOWN3,
    FIXED,
    FREE,
    Passes,
    Rehearsal,
    assert_same_frame,
    cloud,
    everything,
    small_net,
    tensor,
    with_points,
)
from spcli.engines import load_engine
from spcli.engines.base import Want
from spcli.errors import ConfigError, DeviceError, InputError
from spcli.geometry import regular_geometry
from spcli.sparse_tensor import SparseTensor
from strategies import real_features


def dense_net(shape: tuple[int, ...]) -> ProgramBuilder:
    builder = ProgramBuilder([shape], 4)
    builder.to_dense(builder.convolve(builder.build_map(0, DOWN2), 0, 3))
    return builder


def test_a_smaller_an_empty_and_the_first_frame_again(cuda: Any, monkeypatch: Any) -> None:
    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    for seed, sites in ((30, 300), (30, 300), (31, 100), (32, 0), (30, 300), (33, 1)):
        rehearse(tensor(seed, sites))
    assert rehearse.captures == 1


def test_frames_that_outgrow_their_buffers_are_repeated_with_larger_ones(cuda: Any, monkeypatch: Any) -> None:
    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    for seed, sites in ((30, 40), (31, 45), (32, 500), (30, 40)):
        rehearse(tensor(seed, sites))
    assert rehearse.captures == 2


def test_as_many_input_sites_with_more_outputs_overflow_inside_the_frame(cuda: Any, monkeypatch: Any) -> None:
    """The input fits; only the device can know that the scattered sites have more strided outputs."""
    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    packed = np.argwhere(np.ones((1, 5, 8, 8))).astype(np.int32)
    apart = packed * np.array([1, 2, 4, 4], np.int32)
    for seed, indices in enumerate((packed, packed, apart, packed)):
        rehearse(SparseTensor(real_features(seed, len(indices), 4), indices, (11, 32, 32)))
    assert rehearse.captures == 2


def test_scans_of_points_in_a_fixed_range(cuda: Any, monkeypatch: Any) -> None:
    builder = small_net()
    rehearse = Rehearsal(cuda, with_points(builder, FIXED), builder, monkeypatch)
    for seed, count, reach in ((1, 400, 6.0), (2, 410, 6.0), (3, 100, 6.0), (4, 0, 6.0), (5, 400, 60.0), (1, 400, 6.0)):
        rehearse(cloud(seed, count, reach))
    assert rehearse.captures == 1


def test_scans_whose_points_decide_the_range_share_a_capture(cuda: Any, monkeypatch: Any) -> None:
    builder = small_net((9, 30, 30))
    rehearse = Rehearsal(cuda, with_points(builder, FREE), builder, monkeypatch)
    for seed, count, reach in (
        (1, 400, 6.0),
        (2, 400, 6.0),
        (3, 300, 3.0),
        (4, 150, 20.0),
        (5, 90, 2e5),
        (1, 400, 6.0),
    ):
        rehearse(cloud(seed, count, reach))
    assert rehearse.captures == 1


def test_a_scan_whose_grid_has_too_many_cells_is_refused_also_in_a_later_frame(cuda: Any) -> None:
    builder = small_net((9, 30, 30))
    runner = cuda.compile(with_points(builder, FREE), builder.parameters, everything(builder))
    far = cloud(3, 300)
    far.values[0, :3] = 4e5
    for _ in range(2):
        with pytest.raises(ConfigError, match="set point_cloud_range, or use --device cpu"):
            runner.submit(far)
        for seed in (1, 2):
            runner.result(runner.submit(cloud(seed, 300)))


def test_a_shape_that_leaves_no_output_is_refused_also_in_a_later_frame(cuda: Any) -> None:
    builder = small_net((9, 30, 30), regular_geometry((3, 3, 3), (2, 2, 2), (0, 0, 0), (1, 1, 1)))
    runner = cuda.compile(with_points(builder, FREE), builder.parameters, everything(builder))
    for seed in (1, 2):
        runner.result(runner.submit(cloud(seed, 300)))
    flat = cloud(3, 300)
    flat.values[:, 2] = 0.1
    with pytest.raises(ConfigError, match="kernel_size"):
        runner.result(runner.submit(flat))
    runner.result(runner.submit(cloud(1, 300)))


def test_what_is_sized_by_the_shape_is_captured_for_every_shape(cuda: Any, monkeypatch: Any) -> None:
    builder = dense_net((9, 30, 30))
    rehearse = Rehearsal(cuda, with_points(builder, FREE), builder, monkeypatch)
    for seed, reach in ((1, 6.0), (1, 6.0), (2, 3.0), (2, 3.0), (1, 6.0)):
        rehearse(cloud(seed, 300, reach))
    assert rehearse.captures >= 2


@pytest.mark.parametrize("dtype", ["tf32", "float16", "bfloat16"])
def test_every_dtype_replays(cuda: Any, dtype: str, monkeypatch: Any) -> None:
    builder = small_net()
    rehearse = Rehearsal(cuda.with_dtype(dtype), builder.program(), builder, monkeypatch)
    for seed, sites in ((30, 200), (31, 150), (30, 200)):
        rehearse(tensor(seed, sites))


def test_frames_in_flight_come_back_in_any_order(cuda: Any, monkeypatch: Any) -> None:
    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    scans = [tensor(seed, 50 + 10 * seed) for seed in range(1, 6)]
    rehearse(scans[0])
    tickets = [rehearse.runner.submit(scan) for scan in scans]
    assert len(tickets) > rehearse.runner.depth
    for scan, ticket in reversed(list(zip(scans, tickets, strict=True))):
        assert_same_frame(rehearse.runner.result(ticket), rehearse.step_by_step(scan))


def test_an_error_of_a_frame_is_raised_where_its_result_is_asked_for(cuda: Any, monkeypatch: Any) -> None:
    """Also where it had to end before another could begin; and the scans after it go through."""
    from spcli.engines.cuda import frame

    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    scan = tensor(30, 40)
    rehearse(scan)
    wait, failing = frame.CapturedFrame.wait, [True]

    def sometimes(self: Any) -> Any:
        if failing:
            failing.pop()
            raise DeviceError("the card fell out")
        return wait(self)

    monkeypatch.setattr(frame.CapturedFrame, "wait", sometimes)
    tickets = [rehearse.runner.submit(scan) for _ in range(rehearse.runner.depth + 1)]
    with pytest.raises(DeviceError, match="fell out"):
        rehearse.runner.result(tickets[0])
    for ticket in tickets[1:]:
        assert_same_frame(rehearse.runner.result(ticket), rehearse.step_by_step(scan))


def refuse_memory(monkeypatch: Any, owner: Any, name: str, rows_of: Any, most: int) -> None:
    """Lets work on more than `most` rows fail as torch does where the device has too little memory."""
    import torch

    work = getattr(owner, name)

    def refusing(*arguments: Any) -> Any:
        if rows_of(*arguments) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return work(*arguments)

    monkeypatch.setattr(owner, name, refusing)


def test_a_scan_for_which_there_is_no_memory_leaves_no_trace(cuda: Any, monkeypatch: Any) -> None:
    from spcli.engines.cuda import runner as runners

    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    rehearse(tensor(30, 40))
    refuse_memory(monkeypatch, runners.LearningRunner, "learn", lambda runner, scan, before: scan.rows, 200)
    with pytest.raises(DeviceError, match="not enough memory"):
        rehearse.runner.submit(tensor(31, 400))
    rehearse(tensor(30, 40))
    assert rehearse.captures == 1


def test_a_frame_that_cannot_be_captured_for_want_of_memory_is_computed_step_by_step(
    cuda: Any, monkeypatch: Any
) -> None:
    """Capacities have slack: the frame itself may fit where they do not. Smaller scans then have smaller ones."""
    from spcli.engines.cuda import runner as runners

    builder = ProgramBuilder([(11, 32, 32)], 4)
    builder.convolve(builder.build_map(0, DOWN3), 0, 4)
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    refuse_memory(monkeypatch, runners, "CapturedFrame", lambda job, scan, stream, sizes: sizes.rows, 200)
    for seed, sites in ((30, 190), (30, 190), (31, 40), (32, 45)):
        rehearse(tensor(seed, sites))
    assert rehearse.captures == 1


def scattered(seed: int, side: int, share: float) -> SparseTensor:
    """Sites here and there in the first `side` planes, rows and columns of the grid."""
    random = np.random.default_rng(seed)
    inside = random.random((1, min(side, 11), side, side)) < share
    indices = np.argwhere(inside).astype(np.int32)
    return SparseTensor(real_features(seed, len(indices), 4), indices, (11, 32, 32))


def test_however_a_scan_outgrows_the_one_before_at_most_one_repetition_completes_it(
    cuda: Any, monkeypatch: Any
) -> None:
    """Small and dense, then as many sites with far more outputs, then more sites: every level is too short."""
    builder = ProgramBuilder([(11, 32, 32)], 4)
    value = 0
    for _ in range(3):
        value = builder.convolve(builder.build_map(builder.values[value].sites, DOWN3), value, 4)
    program, want = builder.program(), Want((list(builder.layers)[-1],), rulebooks=True)
    engines = cuda, load_engine("cpu")
    on_card, on_host = (engine.compile(program, builder.parameters, want) for engine in engines)
    counted, spent = Passes(monkeypatch), []
    for seed, (side, share) in enumerate(((6, 1.0), (6, 1.0), (32, 0.02), (32, 0.1), (32, 0.1))):
        scan = scattered(seed, side, share)
        before = counted.passes
        frame, expected = (runner.result(runner.submit(scan)) for runner in (on_card, on_host))
        spent.append(counted.passes - before)
        assert frame.sites == expected.sites and frame.counts == expected.counts
        for key, book in expected.rulebooks.items():
            for field, value in vars(book).items():
                np.testing.assert_array_equal(getattr(frame.rulebooks[key], field), value, f"{key}: {field}")
        for name, output in expected.outputs.items():
            np.testing.assert_allclose(frame.outputs[name].features, output.features, rtol=1e-4, atol=1e-5)
    assert spent == [1, 1, 2, 1, 1]


def test_a_tensor_that_is_not_canonical_is_refused_also_in_a_later_frame(cuda: Any) -> None:
    builder = small_net()
    runner = cuda.compile(builder.program(), builder.parameters, everything(builder))
    scan = tensor(30, 40)
    for _ in range(2):
        runner.result(runner.submit(scan))
    with pytest.raises(InputError, match="row 0 is at"):
        runner.submit(SparseTensor(scan.features, scan.indices + np.int32(99), scan.spatial_shape))
