"""What the device, or the machine around Triton, cannot do is one sentence and exit code 3; a bug stays a bug."""

from __future__ import annotations

import subprocess
import sysconfig
import weakref
from typing import Any

import pytest

from spcli.engines import toolchain
from spcli.errors import DeviceError

torch = pytest.importorskip("torch", reason="the CUDA engine needs torch")
triton = pytest.importorskip("triton", reason="the CUDA engine needs triton")

# As torch words it.
FULL = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 5.22 GiB is "
    "free. Including non-PyTorch memory, this process has 73.88 GiB memory in use. Of the allocated memory 70.01 GiB "
    "is allocated by PyTorch, with 1.50 GiB allocated in private pools (e.g., CUDA Graphs), and 2.00 MiB is reserved"
)


def told(error: Exception) -> str:
    from spcli.engines.cuda.memory import device_errors

    with pytest.raises(DeviceError) as caught, device_errors():
        raise error
    sentence = str(caught.value)
    assert "\n" not in sentence and caught.value.exit_code == 3 and caught.value.__cause__ is error
    return sentence


def test_too_little_memory_names_what_was_asked_for_and_what_is_free() -> None:
    sentence = told(torch.cuda.OutOfMemoryError(FULL))
    assert "20.00 GiB asked for, 5.22 GiB of 79.11 GiB free" in sentence and "larger voxels" in sentence


def test_pinned_host_memory_that_runs_out_is_told_without_numbers() -> None:
    assert "CUDA error: out of memory" in told(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"))


def test_memory_that_runs_out_inside_a_capture_is_told_though_the_capture_fails_too() -> None:
    try:
        try:
            raise torch.cuda.OutOfMemoryError(FULL)
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
    except RuntimeError as error:
        broken = error
    assert "20.00 GiB asked for" in told(broken)


def test_what_failed_lets_go_of_its_tensors() -> None:
    """A batch goes on with the next scan, and the error is kept until its record is written."""
    from spcli.engines.cuda.memory import device_errors

    kept: list[Any] = []

    def work() -> None:
        tensor = torch.zeros(3)
        kept.append(weakref.ref(tensor))
        raise torch.cuda.OutOfMemoryError(FULL)

    with pytest.raises(DeviceError) as caught, device_errors():
        work()
    assert kept[0]() is None and caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape mismatch"), FileNotFoundError(2, "missing", "/a/scan.bin"), AssertionError("3 rows, not 4")],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    from spcli.engines.cuda.memory import device_errors

    with pytest.raises(type(error)) as caught, device_errors():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("place", ["cache/ABC", "cache", "."])
def test_a_cache_that_cannot_be_written_names_its_folder(monkeypatch, tmp_path, place: str) -> None:
    """A file in it, itself, or the folder it would have to be made in."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    sentence = told(PermissionError(13, "Permission denied", str(tmp_path / place)))
    assert f"{tmp_path / 'cache'} (Permission denied)" in sentence and "TRITON_CACHE_DIR" in sentence


@pytest.fixture
def tritons_search(monkeypatch) -> Any:
    """Triton's own search for the driver's library; what it asks the linker's cache is answered by the test."""
    driver = pytest.importorskip("triton.backends.nvidia.driver", reason="Triton has no driver for NVIDIA here")
    monkeypatch.delenv("TRITON_LIBCUDA_PATH", raising=False)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)

    def search(answer: Any) -> Exception:
        def asked(command: list[str], **options: Any) -> bytes:
            assert command[0] == "/sbin/ldconfig"
            if isinstance(answer, Exception):
                raise answer
            return bytes(answer)

        monkeypatch.setattr(driver.subprocess, "check_output", asked)
        with pytest.raises(Exception) as caught:
            driver.libcuda_dirs.__wrapped__()
        return caught.value

    return search


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the linker's cache does not list it; run /sbin/ldconfig as root"),
        (b"libcuda.so.1 (libc6) => /nowhere/libcuda.so.1", "does not list it; run /sbin/ldconfig as root"),
        (FileNotFoundError(2, "No such file or directory", "/sbin/ldconfig"), "cannot be run (No such file"),
        (
            subprocess.CalledProcessError(1, ["/sbin/ldconfig", "-p"]),
            "/sbin/ldconfig, which Triton asks for it, failed",
        ),
    ],
)
def test_a_driver_library_that_triton_does_not_find_is_told_with_what_to_set(
    tritons_search: Any, answer: Any, why: str
) -> None:
    sentence = told(tritons_search(answer))
    assert "libcuda.so.1" in sentence and why in sentence and "TRITON_LIBCUDA_PATH" in sentence


# As Triton words it.
ASSEMBLY = (
    "Internal Triton PTX codegen error\n`ptxas` stderr:\nptxas /tmp/k.ptx, line 5; fatal   : Unsupported .version 8.8\n"
    "ptxas fatal   : Ptx assembly aborted due to errors\n\nRepro command: ptxas -v --gpu-name=sm_90a /tmp/k.ptx\n"
)


@pytest.mark.parametrize(
    ("message", "why"),
    [(ASSEMBLY, "fatal   : Unsupported .version 8.8"), ("`ptxas` raised SIGSEGV", "SIGSEGV"), (None, "no reason")],
)
def test_an_assembler_that_fails_is_told_with_its_reason(message: str | None, why: str) -> None:
    from triton.runtime.errors import PTXASError

    sentence = told(PTXASError(message))
    assert why in sentence and "TRITON_PTXAS_PATH" in sentence and "Repro" not in sentence


def test_an_assembler_that_is_missing_is_told_to_be_installed() -> None:
    assert "TRITON_PTXAS_PATH" in told(RuntimeError("Cannot find ptxas"))


def test_a_kernel_too_large_for_the_device_is_told_with_both_sizes() -> None:
    from triton.runtime.errors import OutOfResources

    sentence = told(OutOfResources(147456, 101376, "shared memory"))
    assert "147456 bytes of shared memory" in sentence and "the device has 101376" in sentence and "--dtype" in sentence


@pytest.fixture
def bare(monkeypatch, tmp_path) -> Any:
    """A machine without compilers."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add_compiler(folder: Any, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\nexit 1\n")
    (folder / name).chmod(0o755)


def test_a_machine_without_a_compiler_is_told_what_to_install(bare) -> None:
    assert toolchain.compiler() is None
    assert "finds neither gcc nor clang" in str(toolchain.missing())
    assert told(RuntimeError("Failed to find C compiler. Please specify via CC")) == toolchain.missing()


def test_the_compiler_is_the_one_triton_calls(bare, monkeypatch) -> None:
    add_compiler(bare, "clang")
    assert toolchain.compiler() == str(bare / "clang")
    add_compiler(bare, "gcc")
    assert toolchain.compiler() == str(bare / "gcc")
    monkeypatch.setenv("CC", "nvc")
    assert toolchain.compiler() == "nvc" and "CC names nvc, which cannot be run" in str(toolchain.missing())


def test_a_python_without_its_header_is_told_what_to_install(bare, monkeypatch) -> None:
    add_compiler(bare, "gcc")
    monkeypatch.setattr(sysconfig, "get_paths", lambda *scheme: {"include": str(bare)})
    assert f"Python.h, which is not in {bare}" in str(toolchain.missing())
    assert told(subprocess.CalledProcessError(1, [str(bare / "gcc"), "main.c"])) == toolchain.missing()
    (bare / "Python.h").touch()
    assert toolchain.missing() is None
    assert "failed (exit 1)" in told(subprocess.CalledProcessError(1, [str(bare / "gcc"), "main.c"]))


def test_tritons_own_programs_are_not_taken_for_the_compiler() -> None:
    from spcli.engines.cuda.memory import explained

    assert explained(subprocess.CalledProcessError(255, ["ptxas", "a.ptx"])) is None


def test_kernels_are_counted_by_whether_they_were_compiled() -> None:
    from spcli.engines.cuda.compiled import counted_kernels

    before = triton.knobs.compilation.listener
    with counted_kernels() as kernels:
        for hit in (True, False, False):
            triton.knobs.compilation.listener(src=None, metadata={}, metadata_group={}, times=None, cache_hit=hit)
    assert (kernels.compiled, kernels.found) == (2, 1) and triton.knobs.compilation.listener is before
