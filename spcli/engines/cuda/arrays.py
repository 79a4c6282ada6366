"""Host arrays to device tensors and back, and tensors of zeros for captured work."""

from __future__ import annotations

from contextvars import ContextVar, Token
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.cuda.launch import call, device, only_outside_frames
from spcli.engines.tensors import stored, to_host


def empty(shape: int | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the device."""
    return torch.empty(shape, dtype=dtype, device=device())


class Arena:
    """Zeros for captured work: parts of one tensor, which a single step clears when the work begins.

    How many bytes it asks for is known when it has been gone through once. What finds no room is a tensor of its own
    with a step of its own, so that the first time, with an arena of 0 bytes, is as correct as any other.

    Attributes:
        asked: bytes that were asked for, those between the parts included.
    """

    def __init__(self, size: int) -> None:
        self.asked = 0
        self._room = empty(size, torch.uint8)
        self._before: Token[Arena | None] | None = None

    def __enter__(self) -> Arena:
        if len(self._room):
            call(self._room.zero_)
        self._before = _arena.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        assert self._before is not None
        _arena.reset(self._before)

    def part(self, shape: int | tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """Zeros, or None where there is no room; each part begins a line of the cache."""
        sizes = (shape,) if isinstance(shape, int) else shape
        start = -(-self.asked // _LINE) * _LINE
        self.asked = start + prod(sizes) * dtype.itemsize
        return None if self.asked > len(self._room) else self._room[start : self.asked].view(dtype).view(sizes)


_LINE = 128
_arena: ContextVar[Arena | None] = ContextVar("arena", default=None)


def zeroed(shape: int | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros on the device; inside an arena one of its parts."""
    arena = _arena.get()
    part = None if arena is None else arena.part(shape, dtype)
    if part is None:
        part = empty(shape, dtype)
        call(part.zero_)
    return part


def upload(array: NDArray[Any], dtype: str = "float32") -> Tensor:
    """A copy of a host array on the device; float arrays in the storage format of `dtype`, tf32 rounded."""
    only_outside_frames("an upload")
    tensor = torch.from_numpy(np.array(array, order="C")).to(device())
    return stored(tensor, dtype) if tensor.dtype == torch.float32 else tensor


def download(tensor: Tensor, count: int | None = None) -> NDArray[Any]:
    """The first `count` rows as a host array that the caller owns; features of any format as float32."""
    only_outside_frames("a download")
    return to_host(tensor, count)
