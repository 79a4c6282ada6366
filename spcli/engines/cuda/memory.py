"""What the device or Triton cannot do, as one sentence instead of a traceback.

Every way into the engine from outside is wrapped in `device_errors()`: making a program ready, beginning a frame,
waiting for one.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from subprocess import CalledProcessError
from typing import Any

import torch
import triton
from triton.runtime.errors import OutOfResources, PTXASError

from spcli.engines import toolchain
from spcli.engines.tensors import memory_sentence
from spcli.errors import DeviceError, EngineError

LDCONFIG = "/sbin/ldconfig"  # Triton asks it where the driver's library is


@contextmanager
def device_errors() -> Iterator[None]:
    """Turns errors that are the machine's into sentences; all others pass.

    What Triton prints meanwhile (all of a kernel's code, where its assembler fails) goes to standard error: standard
    output is for results.

    Raises:
        DeviceError: the device has too little memory.
        EngineError: it is too small for a kernel; Triton finds no compiler or no driver, its assembler fails, or it
            cannot write its cache.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (RuntimeError, OSError, CalledProcessError, AssertionError, OutOfResources, PTXASError) as error:
        sentence = explained(error)
        if sentence is None:
            raise
        # Its frames hold the tensors of what failed, and a batch goes on with the next scan.
        for each in (error, error.__context__):
            traceback.clear_frames(None if each is None else each.__traceback__)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        raise (DeviceError if lacks_memory(error) else EngineError)(sentence) from error


def explained(error: Exception) -> str | None:
    """One sentence on an error that the machine is the cause of; None for any other."""
    for kind, sentence in _SENTENCES.items():
        if isinstance(error, kind):
            return sentence(error)
    return None


def lacks_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the device or pinned; torch's message alone tells the latter.

    Where it ran out inside a capture, the end of the capture may raise another error over it.
    """
    return any("out of memory" in str(each) for each in (error, error.__context__))


def _runtime_sentence(error: RuntimeError) -> str | None:
    message = str(error)
    if lacks_memory(error):
        return memory_sentence(message if "out of memory" in message else str(error.__context__))
    if "C compiler" in message:
        return toolchain.missing() or message.splitlines()[0]
    if message.startswith("Cannot find ptxas"):
        return "Triton's assembler ptxas is missing; install triton again, or name a ptxas in TRITON_PTXAS_PATH"
    return None


def _program_sentence(error: CalledProcessError) -> str | None:
    """Triton calls the C compiler, the linker's cache and its own assembler; the last is not the machine's."""
    program = str(error.cmd[0] if isinstance(error.cmd, list) else error.cmd)
    if program == LDCONFIG:
        return _driver_sentence(f"{LDCONFIG}, which Triton asks for it, failed (exit {error.returncode})")
    if program != toolchain.compiler():
        return None
    failed = f"the C compiler {program}, which Triton needs, failed (exit {error.returncode}); name another one in CC"
    return toolchain.missing() or failed


def _file_sentence(error: OSError) -> str | None:
    """A program that cannot be started, or the cache."""
    if error.filename == LDCONFIG:
        return _driver_sentence(f"{LDCONFIG}, which Triton asks for it, cannot be run ({error.strerror})")
    return _cache_sentence(error)


def _assertion_sentence(error: AssertionError) -> str | None:
    if "libcuda.so cannot found" not in str(error):
        return None
    return _driver_sentence("the linker's cache does not list it", "run /sbin/ldconfig as root, or ")


def _driver_sentence(why: str, first: str = "") -> str:
    remedy = f"{first}set TRITON_LIBCUDA_PATH to the folder that holds it"
    return f"Triton does not find the driver's library libcuda.so.1: {why}; {remedy}"


def _assembler_sentence(error: PTXASError) -> str:
    """Triton's message holds the command and all that ptxas wrote; the first fatal line says why."""
    lines = str(error.error_message or "it gave no reason").splitlines()
    why = next((line for line in lines if re.search(r"\b(fatal|error)\s*:", line)), lines[0]).strip()
    remedy = (
        "install the triton that came with this torch, name another ptxas in TRITON_PTXAS_PATH, or use --device cpu"
    )
    return f"Triton's assembler ptxas cannot compile a kernel for this device ({why}); {remedy}"


def _resources_sentence(error: OutOfResources) -> str:
    units = {"shared memory": "bytes of shared memory", "tensor memory": "columns of tensor memory"}
    wanted = f"{error.required} {units.get(error.name, error.name)}, and the device has {error.limit}"
    return f"a kernel needs {wanted}; use another --dtype, or --device cpu"


def _cache_sentence(error: OSError) -> str | None:
    """The folder, a file in it, or a folder above it that would have to be made first."""
    folder, place = os.path.abspath(triton.knobs.cache.dir), os.path.abspath(str(error.filename))
    if os.path.commonpath([folder, place]) not in (folder, place):
        return None
    remedy = "set TRITON_CACHE_DIR to a folder that can be written"
    return f"Triton cannot keep compiled kernels in {folder} ({error.strerror}); {remedy}"


# By the error's class; the first that fits decides.
_SENTENCES: dict[type[Exception], Callable[[Any], str | None]] = {
    CalledProcessError: _program_sentence,
    OSError: _file_sentence,
    RuntimeError: _runtime_sentence,
    AssertionError: _assertion_sentence,
    PTXASError: _assembler_sentence,
    OutOfResources: _resources_sentence,
}
