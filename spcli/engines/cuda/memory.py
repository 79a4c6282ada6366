"""What the device or Triton cannot do, as one sentence instead of a traceback.

Every way into the engine from outside is wrapped in `device_errors()`: making a program ready, beginning a frame,
waiting for one.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import CalledProcessError

import torch
import triton

from spcli.engines import toolchain
from spcli.errors import DeviceError

SMALLER = "use larger voxels, a smaller range or --dtype float16"
SIZES = re.compile(
    r"Tried to allocate ([\d.]+ \w+).* total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", re.S
)


@contextmanager
def device_errors() -> Iterator[None]:
    """Turns errors that are the machine's into DeviceError; all others pass.

    Raises:
        DeviceError: the device has too little memory; Triton finds no compiler or cannot write its cache.
    """
    try:
        yield
    except (RuntimeError, OSError, CalledProcessError) as error:
        sentence = explained(error)
        if sentence is None:
            raise
        # Its frames hold the tensors of what failed, and a batch goes on with the next scan.
        traceback.clear_frames(error.__traceback__)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        raise DeviceError(sentence) from error


def explained(error: Exception) -> str | None:
    """One sentence on an error that the machine is the cause of; None for any other."""
    if isinstance(error, CalledProcessError):
        return _compiler_sentence(error)
    if isinstance(error, OSError):
        return _cache_sentence(error)
    if lacks_memory(error):
        return _memory_sentence(str(error))
    if "C compiler" in str(error):
        return toolchain.missing() or f"{error}".splitlines()[0]
    return None


def lacks_memory(error: Exception) -> bool:
    """Whether there was too little memory, of the device or pinned; torch's message alone tells the latter."""
    return "out of memory" in str(error)


def _memory_sentence(message: str) -> str:
    """torch's message says what was asked for and what is free; pinned host memory has a message without numbers."""
    sizes = SIZES.search(message)
    if sizes is None:
        return f"the device has not enough memory ({message.splitlines()[0]}); {SMALLER}"
    wanted, total, free = sizes.groups()
    return f"the device has not enough memory: {wanted} asked for, {free} of {total} free; {SMALLER}"


def _compiler_sentence(error: CalledProcessError) -> str | None:
    """Triton calls the C compiler and its own assembler; only the former is the machine's."""
    program = str(error.cmd[0] if isinstance(error.cmd, list) else error.cmd)
    if program != toolchain.compiler():
        return None
    failed = f"the C compiler {program}, which Triton needs, failed (exit {error.returncode}); name another one in CC"
    return toolchain.missing() or failed


def _cache_sentence(error: OSError) -> str | None:
    """The folder, a file in it, or a folder above it that would have to be made first."""
    folder, place = os.path.abspath(triton.knobs.cache.dir), os.path.abspath(str(error.filename))
    if os.path.commonpath([folder, place]) not in (folder, place):
        return None
    remedy = "set TRITON_CACHE_DIR to a folder that can be written"
    return f"Triton cannot keep compiled kernels in {folder} ({error.strerror}); {remedy}"
