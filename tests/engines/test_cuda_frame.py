"""A captured frame: what it records, what it leaves in its buffers, what it times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from programs import ProgramBuilder
from rehearsal import (
    CUBE3,
    DOWN2,
    DOWN3,
    FIXED,
    assert_same_frame,
    cloud,
    everything,
    small_net,
    tensor,
    with_points,
)
from spcli.geometry import submanifold_geometry
from strategies import real_features


def one_layer() -> ProgramBuilder:
    builder = ProgramBuilder([(11, 32, 32)], 4)
    builder.convolve(builder.build_map(0, DOWN3), 0, 8)
    return builder


def test_nothing_is_left_over_from_the_frame_before(cuda: Any) -> None:
    """Whatever differs between two frames' buffers is poisoned; the next replay must not notice."""
    from spcli.engines.cuda.launch import INTERPRETED

    if not INTERPRETED:
        pytest.skip("a graph's buffers cannot be listed; the recording that stands for it without a device can")
    builder = small_net()
    runner = cuda.compile(builder.program(), builder.parameters, everything(builder))
    first, second = tensor(30, 200), tensor(31, 180)
    frames = [runner.result(runner.submit(scan)) for scan in (first, first)]
    captured = runner._slots[0].captured
    buffers = recorded_tensors(captured._replay)
    before = [buffer.clone() for buffer in buffers]
    runner.result(runner.submit(second))
    changed = [buffer for buffer, old in zip(buffers, before, strict=True) if not same_bits(buffer, old)]
    assert len(changed) > 10
    for buffer in changed:
        buffer.fill_(float("nan") if buffer.dtype.is_floating_point else 0x5EADBEEF % 127)
    assert_same_frame(runner.result(runner.submit(first)), frames[0])


def test_one_step_clears_all_that_a_frame_needs_cleared(cuda: Any) -> None:
    """Counters, bitmaps, folded heights and dense tensors; and it is part of what is played again."""
    from spcli.engines.cuda.launch import INTERPRETED

    if not INTERPRETED:
        pytest.skip("a graph's steps cannot be listed; the recording that stands for it without a device can")
    builder = one_layer()
    builder.to_dense(builder.height_compression(1))
    runner = cuda.compile(with_points(builder, FIXED), builder.parameters, everything(builder))
    small, large = cloud(1, 150), cloud(2, 160)
    frames = [runner.result(runner.submit(scan)) for scan in (small, small, large, small)]
    (recording,) = (slot.captured._replay for slot in runner._slots if slot.captured is not None)
    assert [getattr(step.func, "__name__", "") for step in recording.steps].count("zero_") == 1
    assert_same_frame(frames[1], frames[0])
    assert_same_frame(frames[3], frames[0])


def test_zeros_lie_in_the_arena_as_far_as_it_reaches(cuda: Any) -> None:
    import torch

    from spcli.engines.cuda.arrays import Arena, zeroed

    wanted = ((3, torch.int32), ((2, 5), torch.int64), ((0, 4), torch.float32), (7, torch.float16))
    with Arena(0) as first:
        for shape, dtype in wanted:
            assert not zeroed(shape, dtype).any()
    for size, inside in ((first.asked, 4), (first.asked - 1, 3)):
        with Arena(size) as arena:
            made = [zeroed(shape, dtype) for shape, dtype in wanted]
        storage = arena._room.untyped_storage()
        assert sum(part.untyped_storage().data_ptr() == storage.data_ptr() for part in made) == inside
        assert all(part.data_ptr() % 16 == 0 and not part.any() for part in made)
        assert [(tuple(part.shape), part.dtype) for part in made] == [
            ((3,), torch.int32), ((2, 5), torch.int64), ((0, 4), torch.float32), ((7,), torch.float16)
        ]  # fmt: skip
        made[0].fill_(1)
        assert not made[1].any() and not zeroed(3, torch.int32).any()


def recorded_tensors(recording: Any) -> list[Any]:
    """Every tensor that a recording's steps were given."""
    import torch

    found: dict[tuple[int, int], Any] = {}
    for step in recording.steps:
        owner = getattr(step.func, "__self__", None)
        for value in (*step.args, *step.keywords.values(), owner):
            for each in value if isinstance(value, tuple | list) else (value,):
                if isinstance(each, torch.Tensor):
                    found[(each.data_ptr(), each.numel())] = each
    return list(found.values())


def same_bits(one: Any, other: Any) -> bool:
    import torch

    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


@pytest.mark.parametrize("begins_with", ["points", "a tensor"])
def test_a_frame_starts_work_only_where_it_is_recorded(cuda: Any, begins_with: str, monkeypatch: Any) -> None:
    """Torch operations outside the recording would happen once, at the capture, and never again."""
    from spcli.engines.cuda import capture, frame

    seen: set[str] = set()
    frame_on_device = frame.CapturedFrame._frame_on_device

    def watched(self: Any) -> Any:
        with watching(seen):
            return frame_on_device(self)

    monkeypatch.setattr(frame.CapturedFrame, "_frame_on_device", watched)
    if not capture.INTERPRETED:
        pytest.skip("a device's capture notices for itself")
    builder = everything_net()
    runner = cuda.compile(with_points(builder, FIXED), builder.parameters, everything(builder))
    scan = cloud(1, 60) if begins_with == "points" else tensor(30, 60)
    for _ in range(2):
        runner.result(runner.submit(scan))
    views = {"view", "slice", "select", "as_strided", "alias", "detach", "unsqueeze", "reshape", "expand"}
    assert "empty" in seen
    assert seen <= {"empty", "empty_like", "empty_strided"} | views, seen


def everything_net() -> ProgramBuilder:
    """One of each operation."""
    builder = small_net()
    builder.pool(builder.build_map(0, DOWN3), 0, "max")
    builder.pool(builder.build_map(0, DOWN2), 0, "mean")
    builder.add(0, 0)
    builder.layer_norm(0, add=0)
    builder.channel_reduction(0, 2)
    builder.global_pool(1, "mean")
    builder.global_pool(0, "max")
    flat = builder.height_compression(0)
    plane = builder.build_map(builder.values[flat].sites, submanifold_geometry((3, 3), (1, 1)))
    builder.to_dense(builder.convolve(plane, flat, 4))
    return builder


def watching(seen: set[str]) -> Any:
    """Notes the name of every torch operation."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    return Watch()


class Buffers:
    """Notes the host memory that frames take for copies from and to the device."""

    def __init__(self, monkeypatch: Any) -> None:
        from spcli.engines.cuda import frame, inputs

        self.up: list[Any] = []
        self.down: list[Any] = []
        make = frame.host_buffer

        def noted(made: list[Any]) -> Any:
            def making(*arguments: Any) -> Any:
                made.append(make(*arguments))
                return made[-1]

            return making

        monkeypatch.setattr(inputs, "host_buffer", noted(self.up))
        monkeypatch.setattr(frame, "host_buffer", noted(self.down))


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("tf32", 4), ("float16", 2), ("bfloat16", 2)])
def test_features_come_back_in_the_format_they_have_on_the_device(
    cuda: Any, dtype: str, size: int, monkeypatch: Any
) -> None:
    from spcli.engines.cuda.capacity import bucket

    builder, scan, buffers = one_layer(), tensor(30, 60), Buffers(monkeypatch)
    runner = cuda.with_dtype(dtype).compile(builder.program(), builder.parameters, everything(builder))
    frames = [runner.result(runner.submit(scan)) for _ in range(2)]
    numbers, features, indices = (each.numel() * each.element_size() for each in buffers.down)
    outputs = frames[1].sites[1]
    # The list of outputs; sites in and out; the rules of 27 taps and the fullest row.
    assert (features, indices, numbers) == (bucket(outputs) * 8 * size, bucket(outputs) * 16, 4 * (1 + 2 + 28))
    assert frames[1].outputs["layer0"].features.dtype == np.float32
    assert_same_frame(frames[1], frames[0])


def test_frames_that_a_caller_keeps_hold_no_memory_that_copies_use(cuda: Any, monkeypatch: Any) -> None:
    builder, buffers = one_layer(), Buffers(monkeypatch)
    runner = cuda.compile(builder.program(), builder.parameters, everything(builder))
    scans = [tensor(seed, 60) for seed in (30, 31)] * 4
    kept = [runner.result(runner.submit(scan)) for scan in scans]
    assert (len(buffers.up), len(buffers.down)) == (3, 3)
    outputs = [frame.outputs["layer0"] for frame in kept]
    for array in (array for output in outputs for array in (output.features, output.indices)):
        assert not any(np.shares_memory(array, buffer.numpy()) for buffer in (*buffers.up, *buffers.down))
    for frame, first in zip(kept, kept[:2] * 4, strict=True):
        assert_same_frame(frame, first)


def test_phases_are_timed(cuda: Any) -> None:
    builder = small_net()
    runner = cuda.compile(builder.program(), builder.parameters, everything(builder))
    for scan in (tensor(30, 50), tensor(30, 50)):
        frame = runner.result(runner.submit(scan))
        assert set(frame.time_s) == {"voxelize", "index", "value", "download"}
        assert all(seconds >= 0 for seconds in frame.time_s.values()) and sum(frame.time_s.values()) > 0


def test_a_recorded_frame_may_sort_rows_that_the_first_one_did_not(cuda: Any) -> None:
    """It has more rows to spare, and so passes the limit from which on a level is sorted."""
    from spcli.engines.cuda import blocks, tiles
    from spcli.engines.cuda.capacity import bucket

    builder = ProgramBuilder([(11, 32, 32)], 32)
    builder.convolve(builder.build_map(0, CUBE3), 0, 16)
    sites = tensor(5, 180)
    rows = len(sites.indices)
    scan = replace(sites, features=real_features(5, rows, 32))
    tiles.tap_bits.cache_clear()  # as in a process of its own
    with blocks.true_shapes(90, processors=-(-rows // 64)):
        assert rows <= 64 * blocks.processors() < bucket(rows)
        runner = cuda.compile(builder.program(), builder.parameters, everything(builder))
        frames = [runner.result(runner.submit(scan)) for _ in range(2)]
    assert [frame.way for frame in frames] == ["b 64", "replayed, b 64s"]
    first, second = (frame.outputs["layer0"] for frame in frames)
    # To rounding: the interpreter multiplies by way of numpy, whose bits depend on where in a block a row stands.
    np.testing.assert_allclose(second.features, first.features, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(second.indices, first.indices)
