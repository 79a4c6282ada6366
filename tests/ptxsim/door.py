"""Puts the simulator behind the engine's door: host tensors as in the interpreter, compiled kernels instead of it.

Importing this module does it, so it comes before anything else of the engine. It takes what it needs of the engine by
name; where a name is gone, the error says which, and this file is the one to change.
"""

from __future__ import annotations

import os
import pkgutil
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import sim
import torch
import triton
from simulator import ROOT
from torch.utils._python_dispatch import TorchDispatchMode

REPO = str(ROOT)
# Bytes that torch read although nobody had written them: by function and shape.
NOTES: dict[tuple[str, tuple[int, ...]], int] = {}
# A test that looks at what a frame left alone switches this off.
POISON_REPLAYS = True


def hook(owner: Any, name: str) -> Any:
    """An attribute that the simulator depends on."""
    if not hasattr(owner, name):
        where = getattr(owner, "__module__", None) or ""
        raise SystemExit(
            f"{where} {owner.__name__} has no {name} any more: adapt {os.path.relpath(__file__, REPO)}".strip()
        )
    return getattr(owner, name)


def _modules(package: str) -> dict[str, ModuleType]:
    names = [found.name for found in pkgutil.iter_modules(import_module(package).__path__)]
    return {name: import_module(f"{package}.{name}") for name in names}


def _tensors(*values: Any) -> list[torch.Tensor]:
    parts = (part for value in values for part in (value if isinstance(value, (tuple, list)) else (value,)))
    return [part for part in parts if isinstance(part, torch.Tensor)]


def _note_unwritten(name: str, tensor: torch.Tensor) -> None:
    shadow = sim.shadow_of(tensor)
    if shadow is None or not tensor.numel() or not tensor.is_contiguous():
        return
    first = tensor.storage_offset() * tensor.element_size()
    unwritten = int((shadow[first : first + sim.extent(tensor)] == 0).sum())
    if unwritten:
        NOTES[name, tuple(tensor.shape)] = NOTES.get((name, tuple(tensor.shape)), 0) + unwritten


def _carry_out(function: Any, *arguments: Any, **options: Any) -> None:
    """A torch operation; what it writes counts as written."""
    for tensor in _tensors(*arguments):
        _note_unwritten(getattr(function, "__name__", str(function)), tensor)
    function(*arguments, **options)
    for tensor in _tensors(options.get("out"), getattr(function, "__self__", None)):
        sim.written(tensor)


def _open_launch(launch: ModuleType) -> None:
    start, recording = hook(launch, "_start"), hook(launch, "Recording")
    made, replay = recording.__init__, hook(recording, "replay")
    hook(launch, "call")

    def call(function: Any, *arguments: Any, **options: Any) -> None:
        start(partial(_carry_out, function, *arguments, **options))

    def remember(self: Any, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **options)
        self.made = []

    def poison_and_replay(self: Any) -> None:
        for tensor in self.made if POISON_REPLAYS else ():
            sim.poison(tensor)
        replay(self)

    launch.call, recording.__init__, recording.replay = call, remember, poison_and_replay


def _open_arrays(arrays: ModuleType, launch: ModuleType) -> None:
    hook(arrays, "empty")
    recordings = hook(launch, "_recordings")

    def empty(shape: Any, dtype: torch.dtype) -> torch.Tensor:
        tensor = sim.poison(torch.empty(shape, dtype=dtype))
        if not hasattr(tensor, "_shadow"):
            tensor._shadow = np.zeros(tensor.untyped_storage().nbytes(), np.uint8)
        for recording in recordings:
            recording.made.append(tensor)
        return tensor

    arrays.empty = empty


def _open_inputs(inputs: ModuleType) -> None:
    mirror = hook(inputs, "Mirror")
    fill = hook(mirror, "fill")

    def poison_and_fill(self: Any, values: Any) -> None:
        sim.poison(self.device)
        fill(self, values)
        sim.written(self.device[: len(values)])

    mirror.fill = poison_and_fill


def _set_compiler() -> None:
    """Leaves out the step from PTX to machine code, which nobody looks at, and keeps capabilities apart."""
    from triton.backends.nvidia.compiler import CUDABackend

    hook(CUDABackend, "make_cubin")
    CUDABackend.make_cubin = lambda *_: b""
    # Triton keeps what it has compiled by the device's number and asks for its capability once.
    hook(sim.Driver, "get_current_device")
    sim.Driver.get_current_device = lambda _: sim.S.capability


def _open() -> None:
    _set_compiler()
    # Kernels are defined while Triton does not interpret; the engine is imported as if it did, which gives it host
    # tensors and recordings. Whatever takes a name from launch or arrays must find the simulator's there.
    _modules("spcli.engines.cuda.kernels")
    os.environ["TRITON_INTERPRET"] = "1"
    launch = import_module("spcli.engines.cuda.launch")
    if not hook(launch, "INTERPRETED"):
        raise SystemExit("a kernel's module imports launch.py: the simulator must come between the two")
    _open_launch(launch)
    _open_arrays(import_module("spcli.engines.cuda.arrays"), launch)
    engine = _modules("spcli.engines.cuda")
    os.environ.pop("TRITON_INTERPRET")
    triton.knobs.runtime.interpret = False
    if not isinstance(import_module("spcli.engines.cuda.kernels.convolve").convolve, triton.JITFunction):
        raise SystemExit("the kernels were defined for the interpreter: import door before anything of the engine")
    _open_inputs(engine["inputs"])


class Writes(TorchDispatchMode):
    """Whatever torch writes past the door counts as written too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = (kwargs or {}).get(argument.name, args[place] if place < len(args) else None)
                for tensor in _tensors(given):
                    sim.written(tensor)
        return out


def watch() -> None:
    """From here on, for callers that fill tensors themselves."""
    Writes().__enter__()


_open()
