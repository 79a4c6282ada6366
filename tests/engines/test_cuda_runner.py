"""The CUDA runner's replay: without a device the launches are recorded once and played again on the same buffers.

Each frame must have the bits that a fresh runner gives step by step, whatever went through the buffers before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract import scene
from programs import ProgramBuilder
from spcli.engines.base import Frame, Points, Want
from spcli.errors import ConfigError, DeviceError, InputError
from spcli.geometry import regular_geometry, submanifold_geometry
from spcli.grid import VoxelSpec
from spcli.program import Program
from spcli.sparse_tensor import SparseTensor
from strategies import real_features

CUBE3 = submanifold_geometry((3, 3, 3), (1, 1, 1))
DOWN3 = regular_geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1))
DOWN2 = regular_geometry((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1))
TALL = regular_geometry((3, 1, 1), (2, 1, 1), (0, 0, 0), (1, 1, 1))
FIXED = VoxelSpec((0.2, 0.2, 0.2), (0, 0, 0, 6.4, 6.4, 2.0), max_points=3, spatial_shape_extra=(1, 0, 0))
FREE = VoxelSpec((0.2, 0.2, 0.2))


def small_net(shape: tuple[int, ...] = (11, 32, 32), strided: Any = DOWN3) -> ProgramBuilder:
    """Down, up again beside a skip, and down in z: every kind of map, a concatenation and a residual."""
    builder = ProgramBuilder([shape], 4)
    same = builder.build_map(0, CUBE3)
    stem = builder.convolve(same, 0, 16)
    down = builder.build_map(0, strided)
    deep = builder.convolve(down, stem, 16)
    up = builder.convolve(builder.invert_map(down), deep, 16)
    joined = builder.concat(up, stem)
    last = builder.convolve(same, joined, 16, add=stem)
    builder.convolve(builder.build_map(0, TALL), last, 8)
    return builder


def dense_net(shape: tuple[int, ...]) -> ProgramBuilder:
    builder = ProgramBuilder([shape], 4)
    builder.to_dense(builder.convolve(builder.build_map(0, DOWN2), 0, 3))
    return builder


def everything(builder: ProgramBuilder) -> Want:
    return Want(layers=tuple(builder.layers), rulebooks=True)


def tensor(seed: int, sites: int, shape: tuple[int, ...] = (11, 32, 32)) -> SparseTensor:
    base = scene(seed, sites, shape)
    return SparseTensor(real_features(seed, len(base.indices), 4), base.indices, base.spatial_shape)


def cloud(seed: int, count: int, reach: float = 6.0) -> Points:
    values = np.random.default_rng(seed).uniform(0, 1, (count, 4)) * np.array([reach, reach, 1.8, 1.0])
    return Points(values.astype(np.float32), (0, 1, 2), (0, 1, 2, 3))


def with_points(builder: ProgramBuilder, spec: VoxelSpec) -> Program:
    import msgspec

    program: Program = msgspec.structs.replace(builder.program(), voxelize=spec)
    return program


def assert_same_frame(frame: Frame, expected: Frame) -> None:
    assert frame.sites == expected.sites and frame.shapes == expected.shapes
    assert frame.counts == expected.counts and frame.scan == expected.scan
    assert list(frame.outputs) == list(expected.outputs)
    for name, output in expected.outputs.items():
        np.testing.assert_array_equal(frame.outputs[name].indices, output.indices)
        assert frame.outputs[name].features.tobytes() == output.features.tobytes(), name
        assert frame.outputs[name].features.shape == output.features.shape
        assert frame.outputs[name].spatial_shape == output.spatial_shape
    for key, rulebook in expected.rulebooks.items():
        for field, value in vars(rulebook).items():
            np.testing.assert_array_equal(getattr(frame.rulebooks[key], field), value, f"{key}: {field}")


class Rehearsal:
    """Frames through one runner, each compared with a fresh one that goes step by step; captures are counted."""

    def __init__(self, engine: Any, program: Program, builder: ProgramBuilder, monkeypatch: Any) -> None:
        from spcli.engines.cuda import runner as runners

        self.captures = 0
        make = runners.CapturedFrame

        def counted(*arguments: Any) -> Any:
            self.captures += 1
            return make(*arguments)

        monkeypatch.setattr(runners, "CapturedFrame", counted)
        self._engine, self._program, self._builder = engine, program, builder
        self._expected: dict[bytes, Frame] = {}
        self.runner = engine.compile(program, builder.parameters, everything(builder))

    def step_by_step(self, scan: Any) -> Frame:
        runner = self._engine.compile(self._program, self._builder.parameters, everything(self._builder), graph=False)
        frame: Frame = runner.result(runner.submit(scan))
        return frame

    def __call__(self, scan: Any) -> None:
        rows = scan.features if isinstance(scan, SparseTensor) else scan.values
        if rows.tobytes() not in self._expected:
            self._expected[rows.tobytes()] = self.step_by_step(scan)
        assert_same_frame(self.runner.result(self.runner.submit(scan)), self._expected[rows.tobytes()])


def test_a_smaller_an_empty_and_the_first_frame_again(cuda: Any, monkeypatch: Any) -> None:
    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    for seed, sites in ((30, 300), (30, 300), (31, 100), (32, 0), (30, 300), (33, 1)):
        rehearse(tensor(seed, sites))
    assert rehearse.captures == 1


def test_what_the_run_before_a_capture_prepared_is_captured_too(cuda: Any, monkeypatch: Any) -> None:
    """A device carries the work out once before it captures it; an index left over from then would find old sites."""
    from spcli.engines.cuda.capture import Stream

    capture = Stream.capture
    monkeypatch.setattr(Stream, "capture", lambda stream, work: (work(), capture(stream, work))[1])
    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    for seed in (30, 31, 32):
        rehearse(tensor(seed, 60))
    assert rehearse.captures == 1


def test_frames_that_outgrow_their_buffers_are_repeated_with_larger_ones(cuda: Any, monkeypatch: Any) -> None:
    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    for seed, sites in ((30, 40), (31, 45), (32, 500), (30, 40)):
        rehearse(tensor(seed, sites))
    assert rehearse.captures == 2 or rehearse.captures == 3


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


def test_a_scan_for_which_there_is_no_memory_leaves_no_trace(cuda: Any, monkeypatch: Any) -> None:
    from spcli.engines.cuda import runner as runners

    builder = small_net()
    rehearse = Rehearsal(cuda, builder.program(), builder, monkeypatch)
    rehearse(tensor(30, 40))
    make = runners.CapturedFrame

    def refusing(*arguments: Any) -> Any:
        if arguments[3].rows > 200:
            raise DeviceError("too little memory")
        return make(*arguments)

    monkeypatch.setattr(runners, "CapturedFrame", refusing)
    with pytest.raises(DeviceError):
        rehearse.runner.submit(tensor(31, 400))
    rehearse(tensor(30, 40))


def test_a_tensor_that_is_not_canonical_is_refused_also_in_a_later_frame(cuda: Any) -> None:
    builder = small_net()
    runner = cuda.compile(builder.program(), builder.parameters, everything(builder))
    scan = tensor(30, 40)
    for _ in range(2):
        runner.result(runner.submit(scan))
    with pytest.raises(InputError, match="row 0 is at"):
        runner.submit(SparseTensor(scan.features, scan.indices + np.int32(99), scan.spatial_shape))


class FakeQueues:
    """In place of torch's streams where there are none: which is current, and in which a graph was captured."""

    def __init__(self, monkeypatch: Any) -> None:
        import torch

        from spcli.engines.cuda import capture

        self.current: list[object] = ["the caller's"]
        self.captured: list[object] = []
        queues = self

        class Queue:
            def __init__(self, *place: object) -> None: ...

            def synchronize(self) -> None: ...

        class Selected:
            """As torch's: leaving sets what was current when it was last entered."""

            def __init__(self, queue: object) -> None:
                self.queue = queue

            def __enter__(self) -> None:
                self.before = queues.current[-1]
                queues.current.append(self.queue)

            def __exit__(self, *error: object) -> None:
                queues.current.append(self.before)

        def graph(recording: object, stream: object, capture_error_mode: str) -> Selected:
            self.captured.append(stream)
            return Selected(stream)

        capture._for_captures.cache_clear()
        monkeypatch.setattr(capture, "INTERPRETED", False)
        for name, fake in (("Stream", Queue), ("stream", Selected), ("graph", graph), ("CUDAGraph", object)):
            monkeypatch.setattr(torch.cuda, name, fake)


@pytest.fixture
def queues(cuda: Any, monkeypatch: Any) -> Any:
    from spcli.engines.cuda import capture

    yield FakeQueues(monkeypatch)
    capture._for_captures.cache_clear()


def test_a_capture_leaves_the_callers_stream_current(queues: Any) -> None:
    from spcli.engines.cuda.capture import Stream

    stream = Stream()
    with stream:
        stream.capture(lambda: None)
        assert queues.current[-1] is stream._stream
    assert queues.current[-1] == "the caller's"


def test_captures_have_a_stream_on_which_no_results_are_copied(queues: Any) -> None:
    from spcli.engines.cuda.capture import Stream

    streams = [Stream(), Stream()]
    for stream in streams:
        stream.capture(lambda: None)
    assert queues.captured[0] is queues.captured[1]
    assert all(stream._stream not in queues.captured for stream in streams)


def test_phases_are_timed(cuda: Any) -> None:
    builder = small_net()
    runner = cuda.compile(builder.program(), builder.parameters, everything(builder))
    for scan in (tensor(30, 50), tensor(30, 50)):
        frame = runner.result(runner.submit(scan))
        assert set(frame.time_s) == {"voxelize", "index", "value", "download"}
        assert all(seconds >= 0 for seconds in frame.time_s.values()) and sum(frame.time_s.values()) > 0


@pytest.mark.parametrize("length", [0, 1, 63, 64, 1000, 12345, 2**20 + 1])
def test_capacities_have_slack_and_few_sizes(length: int) -> None:
    from spcli.engines.cuda.capacity import bucket

    assert length * 1.09 <= bucket(length) <= max(64, length * 1.42)
    assert bucket(bucket(length)) >= bucket(length)
