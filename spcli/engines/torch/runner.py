"""A program carried out by torch, one operation after another; what torch cannot do becomes one sentence."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from spcli.engines.base import Engine, Frame, LayerParameters, Points, Want
from spcli.engines.eager import EagerRunner
from spcli.engines.tensors import memory_sentence
from spcli.errors import DeviceError
from spcli.program import Program
from spcli.sparse_tensor import SparseTensor


class TorchRunner(EagerRunner):
    """The walk, with times of the work itself on a device that computes while the host goes on."""

    def __init__(
        self,
        engine: Engine,
        program: Program,
        parameters: Mapping[str, LayerParameters],
        want: Want,
        device: torch.device,
    ) -> None:
        with device_errors():
            super().__init__(engine, program, parameters, want)
        self._device = device

    def compute(self, scan: Points | SparseTensor) -> Frame:
        """One frame, from its scan to host arrays."""
        with device_errors():
            return super().compute(scan)

    def wait(self) -> None:
        """Waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@contextmanager
def device_errors() -> Iterator[None]:
    """Turns too little memory on the device into DeviceError; all other errors pass.

    Raises:
        DeviceError: the device has too little memory.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        # Its frames hold the tensors of what failed, and a batch goes on with the next scan.
        traceback.clear_frames(error.__traceback__)
        torch.cuda.empty_cache()
        raise DeviceError(memory_sentence(str(error))) from error
