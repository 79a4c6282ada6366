"""The one place where device work is started, so that a frame can be recorded and played again.

Under `TRITON_INTERPRET=1` the kernels run on host tensors, one program after another: that is for tests. There a
recording keeps the calls themselves; on a device a CUDA graph takes their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import triton

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)

Step = Callable[[], object]
Observer = Callable[[Any, tuple[Any, ...], dict[str, Any]], None]

_recordings: list[Recording] = []
_observers: list[Observer] = []


class Recording:
    """Device work in the order in which it was started, on fixed buffers.

    Attributes:
        run: whether it is carried out as well while it is recorded.
        steps, names: each step, and the kernel or operation that it starts.
    """

    def __init__(self, run: bool = True) -> None:
        self.run = run
        self.steps: list[Step] = []
        self.names: list[str] = []

    def replay(self) -> None:
        """Starts everything again."""
        for step in self.steps:
            step()


def device() -> torch.device:
    """Where the engine's tensors live."""
    return torch.device("cpu") if INTERPRETED else torch.device("cuda", torch.cuda.current_device())


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Start a Triton kernel over `grid`; nothing where the grid is empty.

    Whatever varies from frame to frame is read by the kernel through a pointer: the arguments are kept by a graph.
    """
    for observer in _observers:
        observer(kernel, arguments, constants)
    if 0 not in grid:
        start = np.errstate(all="ignore")(kernel[grid]) if INTERPRETED else kernel[grid]  # a device does not warn
        _start(partial(start, *arguments, **constants), getattr(kernel, "__name__", ""))


def call(function: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Start a torch operation that writes into tensors it is given (`out=`, or in place)."""
    _start(partial(function, *arguments, **options), getattr(function, "__name__", ""))


@contextmanager
def recorded(run: bool = True) -> Iterator[Recording]:
    """Records what is started inside. It is carried out as well unless `run` is False, as in the capture of a graph."""
    recording = Recording(run)
    _recordings.append(recording)
    try:
        yield recording
    finally:
        _recordings.remove(recording)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Calls `observer` with every kernel launched inside: the kernel, its arguments and its constants."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def only_outside_frames(what: str) -> None:
    """A copy between host and device, or a wait, cannot be part of a frame that is replayed.

    Raises:
        RuntimeError: a recording that carries nothing out, as a graph's capture, is going on.
    """
    if not all(recording.run for recording in _recordings):
        raise RuntimeError(f"{what} inside a frame, which must not wait for the host")


def _start(step: Step, name: str = "") -> None:
    for recording in _recordings:
        recording.steps.append(step)
        recording.names.append(name)
    if all(recording.run for recording in _recordings):
        step()
