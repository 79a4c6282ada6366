"""A frame's device work made into something that can be played again: a CUDA graph, or a recording in tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from time import perf_counter
from typing import Protocol, TypeVar

import torch

from spcli.engines.cuda.arrays import Arena
from spcli.engines.cuda.launch import INTERPRETED, call, device, recorded

Made = TypeVar("Made")


class Replay(Protocol):
    """Device work on fixed buffers."""

    def replay(self) -> None:
        """Starts it all again on the current stream."""


class Clock:
    """Moments on the device, marked inside a frame and read after it."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._events = [] if INTERPRETED else [torch.cuda.Event(enable_timing=True, external=True) for _ in names]
        self._moments = [0.0] * len(names)

    def mark(self, name: str) -> None:
        """The end of phase `name`; part of what is captured."""
        number = self._names.index(name)
        if INTERPRETED:
            call(self._now, number)
        else:
            self._events[number].record()

    def seconds(self) -> dict[str, float]:
        """Seconds from each mark to the next, under the later one's name; all marks must have passed."""
        pairs = range(1, len(self._names))
        if INTERPRETED:
            return {self._names[n]: self._moments[n] - self._moments[n - 1] for n in pairs}
        return {self._names[n]: self._events[n - 1].elapsed_time(self._events[n]) / 1000 for n in pairs}

    def _now(self, number: int) -> None:
        self._moments[number] = perf_counter()


class Stream:
    """A queue of device work; on host tensors, where work is done at once, nothing."""

    def __init__(self) -> None:
        self._stream = None if INTERPRETED else torch.cuda.Stream()
        self._entered: list[AbstractContextManager[object]] = []

    def __enter__(self) -> Stream:
        entered = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        entered.__enter__()
        self._entered.append(entered)
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.pop().__exit__(None, None, None)

    def wait(self) -> None:
        """Waits until everything in the queue is done."""
        if self._stream is not None:
            self._stream.synchronize()

    def capture(self, work: Callable[[], Made]) -> tuple[Replay, Made]:
        """What `work` starts, to be played again, and what it returned. Nothing is carried out yet.

        `work` runs once before, outside the capture, because compiling and loading a kernel inside one fails; that
        also shows how many bytes of zeros it needs, which one step clears whenever it is played.
        """
        if INTERPRETED:
            with recorded(run=False), Arena(0) as zeros:
                work()
            with recorded(run=False) as recording, Arena(zeros.asked):
                made = work()
            return recording, made
        with self, Arena(0) as zeros:
            work()
            self.wait()
        graph, stream = torch.cuda.CUDAGraph(), _for_captures(device())
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"), Arena(zeros.asked):
            made = work()
        return graph, made


@cache
def _for_captures(device: torch.device) -> torch.cuda.Stream:
    """A queue that only captures use. Host memory of copies may be given back at any time, by other threads too, and
    torch then marks an event in the queue that copied them: in one that is captured that event could not be asked.

    torch hands streams out in turn and the same ones again, those of each priority by themselves: only another
    priority than that of the queues that copy makes sure that it is none of them.
    """
    return torch.cuda.Stream(device, priority=-1)


def host_buffer(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Host memory that the device reads and writes while the host goes on."""
    return torch.empty(shape, dtype=dtype, pin_memory=not INTERPRETED)
