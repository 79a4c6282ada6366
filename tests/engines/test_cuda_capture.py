"""Captures: the streams they use, what they hold, and the sizes of their buffers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from programs import ProgramBuilder
from rehearsal import (
    CUBE3,
    Passes,
    Rehearsal,
    small_net,
    tensor,
)
from spcli.engines.base import Want


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


def batch(runner: Any, scans: list[Any]) -> None:
    """Scans as `spcli run` sends them: as many in flight as may be."""
    flying: list[int] = []
    for scan in scans:
        flying.append(runner.submit(scan))
        if len(flying) == runner.depth:
            runner.result(flying.pop(0))
    for ticket in flying:
        runner.result(ticket)


def one_layer(cuda: Any) -> Any:
    builder = ProgramBuilder([(11, 32, 32)], 4)
    builder.convolve(builder.build_map(0, CUBE3), 0, 4)
    return cuda.compile(builder.program(), builder.parameters, Want(tuple(builder.layers)))


@pytest.mark.parametrize(("scans", "captures"), [(1, 0), (3, 1), (9, 1), (12, 3)])
def test_a_short_batch_pays_for_one_capture(cuda: Any, scans: int, captures: int, monkeypatch: Any) -> None:
    counted = Passes(monkeypatch)
    batch(one_layer(cuda), [tensor(30, 20)] * scans)
    assert (counted.captures, counted.passes) == (captures, scans)


def test_a_scan_that_outgrows_the_others_costs_one_capture(cuda: Any, monkeypatch: Any) -> None:
    runner, counted = one_layer(cuda), Passes(monkeypatch)
    batch(runner, [tensor(30, 20)] * 3)
    batch(runner, [tensor(31, 200)] * 5)
    assert (counted.captures, counted.passes) == (2, 8)


def test_captured_frames_that_became_too_small_are_given_back(cuda: Any, monkeypatch: Any) -> None:
    from spcli.engines.cuda.capacity import bucket

    runner = one_layer(cuda)
    monkeypatch.setattr(type(runner), "proved", 2)
    batch(runner, [tensor(30, 20)] * 5)
    assert all(slot.captured is not None for slot in runner._slots)
    monkeypatch.undo()
    large = tensor(31, 200)
    batch(runner, [large] * 3)
    held = [slot.captured.sizes.rows for slot in runner._slots if slot.captured is not None]
    assert held == [bucket(len(large.indices))]


class Queue:
    """A stream from a pool of two for each priority, as torch's come from pools of 32."""

    def __init__(self, made: dict[int, list[object]], device: object = None, priority: int = 0) -> None:
        before = made.setdefault(priority, [])
        self.place = priority, len(before) % 2
        before.append(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and self.place == other.place

    def __hash__(self) -> int:
        return hash(self.place)

    def synchronize(self) -> None: ...


class FakeQueues:
    """In place of torch's streams where there are none: which is current, and in which a graph was captured."""

    def __init__(self, monkeypatch: Any) -> None:
        import torch

        from spcli.engines.cuda import capture

        self.current: list[object] = ["the caller's"]
        self.captured: list[object] = []
        queues = self

        made: dict[int, list[object]] = {}

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
        for name, fake in (
            ("Stream", partial(Queue, made)),
            ("stream", Selected),
            ("graph", graph),
            ("CUDAGraph", object),
        ):
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

    streams = [Stream(), Stream(), Stream()]
    for stream in streams:
        stream.capture(lambda: None)
    assert queues.captured[0] is queues.captured[1]
    later = Stream()
    assert all(stream._stream not in queues.captured for stream in (*streams, later))


@pytest.mark.parametrize("length", [0, 1, 63, 64, 1000, 12345, 2**20 + 1])
def test_capacities_have_slack_and_few_sizes(length: int) -> None:
    from spcli.engines.cuda.capacity import bucket

    assert length * 1.09 <= bucket(length) <= max(64, length * 1.42)
    assert bucket(bucket(length)) >= bucket(length)
