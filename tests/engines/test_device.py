"""Which engine is chosen, from what the GPU driver and torch say."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace
from typing import Any

import pytest

from spcli import engines
from spcli.engines import cuda, device, driver, load_engine, torch_build
from spcli.engines import torch as torch_engine
from spcli.engines.device import choose_engine, fallback_for, with_dtype
from spcli.engines.driver import NO_CUDA, CudaDriver, ask_driver
from spcli.engines.torch_build import why_torch_has_no_gpu
from spcli.errors import DeviceError, UsageError


class Driver:
    """A libcuda that gives these answers."""

    def __init__(self, init: int = 0, count: int = 0, count_code: int = 0, version: int | None = 12040) -> None:
        self._answers = init, count, count_code
        if version is not None:
            self.cuDriverGetVersion = lambda pointer: setattr(pointer._obj, "value", version) or 0
            self.cuDeviceGetAttribute = self._capability

    def cuInit(self, flags):
        return self._answers[0]

    def cuDeviceGetCount(self, pointer):
        pointer._obj.value = self._answers[1]
        return self._answers[2]

    def _capability(self, pointer, attribute, device):
        pointer._obj.value = {75: 8, 76: 6}[attribute]
        return device


@pytest.mark.parametrize(
    ("library", "answer"),
    [
        (None, CudaDriver(False)),
        (object(), CudaDriver(False)),
        (Driver(init=100), CudaDriver(True)),
        (Driver(init=34), CudaDriver(True)),
        (Driver(init=999), CudaDriver(True, 0, "the CUDA driver answers with error 999")),
        (Driver(count=2), CudaDriver(True, 2, None, 12040, (8, 6))),
        (Driver(count=1, version=None), CudaDriver(True, 1)),
        (Driver(count_code=3), CudaDriver(True, 0, "the CUDA driver answers with error 3")),
    ],
    ids=["no library", "no functions", "no device", "stub", "broken", "two devices", "no version", "broken later"],
)
def test_the_driver_is_asked_without_torch(monkeypatch, library, answer):
    def load(name):
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert ask_driver() == answer


def test_a_driver_of_amds_is_seen_without_libcuda(monkeypatch, tmp_path):
    """That a GPU is there must not hang on NVIDIA's library."""

    def missing(name):
        raise OSError(name)

    (tmp_path / "kfd").touch()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(driver, "AMD_DRIVER", str(tmp_path / "kfd"))
    assert ask_driver() == CudaDriver(False, amd=True)
    assert ask_driver().offers and driver.why_no_cuda(ask_driver()) is None


@pytest.mark.parametrize(("version", "release"), [(12040, "12.4"), (13000, "13.0"), (11080, "11.8"), (0, "")])
def test_a_driver_names_the_newest_cuda_that_it_serves(version, release):
    assert CudaDriver(True, 1, version=version).release == release


# Which engine


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine: its driver, and why the Triton and the torch engine cannot use it (None where they can)."""

    def make(found: CudaDriver, triton: str | None = None, torch: str | None = None) -> list[str]:
        def load(name: str, threads: int | None = None, device: str | None = None) -> Any:
            reason = {"cuda": triton, "torch": torch if device == "cuda" else None, "cpu": None}[name]
            if reason:
                raise DeviceError(reason)
            return SimpleNamespace(name=name, device=device or "cuda", threads=threads)

        monkeypatch.setattr(device, "ask_driver", lambda: found)
        monkeypatch.setattr(device, "load_engine", load)
        return []

    return make


CARD = CudaDriver(True, 1, version=12040)


@pytest.mark.parametrize(
    ("choice", "found", "reasons", "chosen", "told"),
    [
        (("cpu", None), CARD, (), ("cpu", "cpu"), []),
        (("cpu", "torch"), CARD, (), ("torch", "cpu"), []),
        (("auto", None), CudaDriver(False), (), ("cpu", "cpu"), []),
        (("auto", "torch"), CudaDriver(False), (), ("torch", "cpu"), []),
        (("auto", None), CudaDriver(True), (), ("cpu", "cpu"), []),
        (("auto", None), CARD, (), ("cuda", "cuda"), []),
        (("cuda", None), CARD, (), ("cuda", "cuda"), []),
        (("cuda", "triton"), CARD, (), ("cuda", "cuda"), []),
        (("cuda", "torch"), CARD, (), ("torch", "cuda"), []),
        (("cuda", None), CARD, ("no triton",), ("torch", "cuda"), ["no triton; using the torch engine"]),
        (("auto", None), CARD, ("no triton",), ("torch", "cuda"), ["no triton; using the torch engine"]),
        (("auto", None), CARD, ("no triton", "no cuda"), ("cpu", "cpu"), ["no cuda; using the CPU"]),
        (("auto", "torch"), CARD, (None, "no cuda"), ("torch", "cpu"), ["no cuda; using the CPU"]),
        (("auto", None), CudaDriver(True, 0, "broken"), (), ("cpu", "cpu"),
         ["CUDA cannot be used: broken; using the CPU"]),
        (("auto", None), CudaDriver(False, amd=True), ("for ROCm",), ("torch", "cuda"),
         ["for ROCm; using the torch engine"]),
        (("cuda", None), CudaDriver(False, amd=True), ("for ROCm",), ("torch", "cuda"),
         ["for ROCm; using the torch engine"]),
    ],
)  # fmt: skip
def test_the_best_engine_is_taken_and_one_sentence_says_why_not_a_better(machine, choice, found, reasons, chosen, told):
    said = machine(found, *reasons)
    engine = choose_engine(choice[0], said.append, 3, choice[1])
    assert (engine.name, engine.device) == chosen
    assert said == told


@pytest.mark.parametrize(
    ("choice", "found", "reasons", "message"),
    [
        (("cuda", None), CudaDriver(False), (), NO_CUDA),
        (("cuda", "torch"), CudaDriver(False), (), NO_CUDA),
        (("auto", "triton"), CudaDriver(False), (), NO_CUDA),
        (("cuda", None), CudaDriver(True, 0, "broken"), (), "CUDA cannot be used: broken"),
        (("cuda", "triton"), CARD, ("no triton",), "no triton"),
        (("auto", "triton"), CARD, ("no triton",), "no triton"),
        (("cuda", None), CARD, ("no triton", "no cuda"), "no cuda"),
        (("cuda", "torch"), CARD, (None, "no cuda"), "no cuda"),
        (("cpu", "triton"), CARD, (), "the Triton engine computes on CUDA devices only; use --device cuda, or leave "
         "--engine out"),
    ],
)  # fmt: skip
def test_what_was_asked_for_and_cannot_be_had_is_an_error(machine, choice, found, reasons, message):
    said = machine(found, *reasons)
    with pytest.raises(DeviceError) as error:
        choose_engine(choice[0], said.append, None, choice[1])
    assert (str(error.value), error.value.exit_code, said) == (message, 3, [])


@pytest.mark.parametrize(
    ("choice", "message"),
    [(("tpu", None), "there is no device 'tpu'; there are auto, cpu, cuda"),
     (("cuda", "cpu"), "there is no engine 'cpu'; there are triton, torch")],
)  # fmt: skip
def test_a_name_that_there_is_not_is_refused(choice, message):
    with pytest.raises(UsageError) as error:
        choose_engine(choice[0], print, None, choice[1])
    assert str(error.value) == message


def test_the_cpu_is_never_asked_about_cuda(monkeypatch):
    monkeypatch.setattr(device, "ask_driver", lambda: pytest.fail("asked"))
    assert choose_engine("cpu", print, threads=1).name == "cpu"


def test_cuda_without_a_device_is_one_sentence_whatever_asks(monkeypatch):
    """The interpreter, which tests use, is no device for a user."""
    monkeypatch.setattr(device, "ask_driver", lambda: CudaDriver(False))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(DeviceError) as chosen:
        choose_engine("cuda", print)
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(cuda, "ask_driver", lambda: CudaDriver(False))
    with pytest.raises(DeviceError) as loaded:
        load_engine("cuda")
    assert str(chosen.value) == str(loaded.value) == "there is no CUDA device here; use --device cpu or auto"


@pytest.mark.parametrize(("name", "torch_works", "following"), [
    ("cuda", True, ("torch", "cuda", "float16")),
    ("cuda", False, ("cpu", "cpu", "float32")),
    ("torch", True, ("cpu", "cpu", "float32")),
])  # fmt: skip
def test_what_goes_on_after_an_engine_that_is_wrong(monkeypatch, name, torch_works, following):
    monkeypatch.setattr(torch_engine, "_why_no_gpu", lambda: None if torch_works else "no cuda")
    found = fallback_for(SimpleNamespace(name=name, device="cuda", dtype="float16"))
    assert (found.name, found.device, found.dtype) == following


# What torch and Triton are built for


@pytest.fixture
def torch_that(monkeypatch):
    """Makes torch say that it is another build, or that it sees another card."""
    import torch

    def make(
        version: str,
        cuda_version: str | None = None,
        hip: str | None = None,
        card: tuple[str, tuple[int, int]] | None = None,
        compiled: tuple[str, ...] = ("sm_75", "sm_80", "sm_86", "sm_90", "compute_90"),
    ) -> None:
        monkeypatch.setattr(torch, "__version__", version)
        monkeypatch.setattr(torch_build, "version", lambda name: version)
        monkeypatch.setattr(torch.version, "cuda", cuda_version)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: card is not None)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(compiled))
        if card is not None:
            monkeypatch.setattr(torch.cuda, "get_device_name", lambda: card[0])
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: card[1])

    return make


WHEELS = "pip install torch --index-url https://download.pytorch.org/whl/"


@pytest.mark.parametrize(
    ("build", "version", "message"),
    [
        (("2.13.0+cpu",), 13000, f"torch 2.13.0+cpu is a build without CUDA; {WHEELS}cu130"),
        (("2.13.0+cpu",), 0, "torch 2.13.0+cpu is a build without CUDA; install torch as "
         "https://pytorch.org/get-started/locally says"),
        (("2.13.0", "13.0"), 12040,
         f"torch 2.13.0 is built for CUDA 13.0, and the driver here serves CUDA 12.4 at most; {WHEELS}cu126"),
        (("2.13.0", "13.0"), 12080,
         f"torch 2.13.0 is built for CUDA 13.0, and the driver here serves CUDA 12.8 at most; {WHEELS}cu128"),
        (("2.6.0+cu124", "12.4"), 11070, "torch 2.6.0+cu124 is built for CUDA 12.4, and the driver here serves CUDA "
         "11.7 at most; install a newer driver (525 or later)"),
        (("2.13.0", "13.0"), 13000, "torch 2.13.0 is built for CUDA 13.0 and finds no device, although the driver "
         "knows 1; see nvidia-smi"),
        (("2.9.0+rocm6.4", None, "6.4"), 0, "torch 2.9.0+rocm6.4 for ROCm 6.4 finds no GPU; rocminfo shows what the "
         "driver knows"),
        (("2.13.0+cu128", "12.8", None, ("Tesla V100", (7, 0))), 12080, "torch 2.13.0+cu128 has no kernels for Tesla "
         f"V100 (compute capability 7.0); {WHEELS}cu126"),
        (("2.6.0+cu124", "12.4", None, ("B200", (10, 0))), 13000, "torch 2.6.0+cu124 has no kernels for B200 (compute "
         f"capability 10.0); {WHEELS}cu130"),
        (("2.13.0", "13.0", None, ("RTX 3060", (8, 6))), 13000, None),
        (("2.13.0", "13.0", None, ("RTX 4090", (8, 9))), 13000, None),
        (("2.9.0+rocm6.4", None, "6.4", ("MI300X", (9, 4)), ("gfx942",)), 0, None),
    ],
)  # fmt: skip
def test_what_is_wrong_with_torch_names_both_versions_and_what_to_install(torch_that, build, version, message):
    torch_that(*build)
    assert why_torch_has_no_gpu(CudaDriver(True, 1, version=version)) == message


def test_torchs_own_words_on_an_old_driver_are_not_heard(torch_that, monkeypatch, recwarn):
    """They are several lines, and one sentence of ours says the same."""
    import warnings

    import torch

    torch_that("2.13.0", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(warnings.warn("too old", stacklevel=1)))
    assert "serves CUDA 12.4 at most" in str(why_torch_has_no_gpu(CARD))
    assert not recwarn.list


@pytest.fixture
def a_card(monkeypatch):
    from spcli.engines.cuda import engine, launch  # all of it, before the interpreter is hidden

    assert engine.CudaEngine.name == "cuda"

    monkeypatch.setattr(launch, "INTERPRETED", False)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(cuda, "ask_driver", lambda: CARD)
    monkeypatch.setattr(cuda.toolchain, "missing", lambda: None)


@pytest.mark.parametrize(
    ("missing", "version", "message"),
    [
        (("torch",), "", "the Triton engine needs the package torch, which is not installed; install torch as "
         "https://pytorch.org/get-started/locally says"),
        (("triton",), "2.13.0", "the Triton engine needs the package triton, which is not installed"),
        (("triton",), "2.13.0+cpu", f"torch 2.13.0+cpu is a build without CUDA; {WHEELS}cu126"),
    ],
)  # fmt: skip
def test_a_missing_triton_is_not_blamed_where_torch_is_the_wrong_one(monkeypatch, a_card, missing, version, message):
    def find(name: str) -> object | None:
        return None if name in missing else object()

    monkeypatch.setattr(cuda, "find_spec", find)
    monkeypatch.setattr(torch_build, "find_spec", find)
    monkeypatch.setattr(torch_build, "version", lambda name: version)
    assert cuda.unavailable() == message


@pytest.mark.parametrize(("release", "message"), [
    ("3.0.0", "the Triton engine needs triton 3.4, which comes with torch 2.8, and 3.0.0 is installed"),
    ("3.4.0", None),
    ("3.10.0+git1", None),
    ("4.0.0", None),
])  # fmt: skip
def test_a_triton_that_is_too_old_is_left_unused(monkeypatch, a_card, release, message):
    monkeypatch.setattr(cuda, "version", lambda name: release)
    assert cuda.unavailable() == message


@pytest.mark.parametrize(
    ("build", "compiler", "message"),
    [
        (("2.13.0+cu126", "12.6", None, ("Tesla T4", (7, 5))), None,
         "Tesla T4 has compute capability 7.5, and the Triton kernels need 8.0"),
        (("2.9.0+rocm6.4", None, "6.4", ("MI300X", (9, 4))), None,
         "the Triton kernels are written for CUDA, and torch 2.9.0+rocm6.4 is built for ROCm"),
        (("2.13.0", "12.8", None, ("H100", (9, 0))), "Triton needs a C compiler", "Triton needs a C compiler"),
    ],
)  # fmt: skip
def test_what_triton_cannot_use_is_left_to_torch(monkeypatch, torch_that, a_card, build, compiler, message):
    torch_that(*build)
    monkeypatch.setattr(cuda.toolchain, "missing", lambda: compiler)
    monkeypatch.setattr(device, "ask_driver", lambda: CARD)
    monkeypatch.setattr(torch_engine, "ask_driver", lambda: CARD)
    said: list[str] = []
    engine = choose_engine("cuda", said.append)
    assert (engine.label, engine.device, said) == ("torch", "cuda", [f"{message}; using the torch engine"])
    with pytest.raises(DeviceError) as error:
        choose_engine("cuda", said.append, None, "triton")
    assert str(error.value) == message


@pytest.fixture
def without_engines(monkeypatch):
    """A version of spcli that has the CPU engine only."""
    monkeypatch.setattr(engines, "ENGINES", {"cpu": "spcli.engines.cpu"})


def test_an_engine_that_is_not_in_the_table_is_refused_with_those_that_are(without_engines):
    with pytest.raises(DeviceError, match="there is no engine 'cuda' in this version of spcli; there are: cpu"):
        load_engine("cuda")


# Number formats


def test_the_cpu_computes_float32_only():
    engine = load_engine("cpu")
    assert with_dtype(engine, "float32") is engine
    for dtype in ("tf32", "float16", "bfloat16"):
        with pytest.raises(DeviceError, match=f"--dtype {dtype} needs a CUDA device or --engine torch"):
            with_dtype(engine, dtype)


@pytest.mark.parametrize("dtype", ["float32", "tf32", "float16", "bfloat16"])
def test_an_engine_is_given_in_the_arithmetic_that_was_asked_for(engine, dtype):
    if dtype in engine.dtypes:
        assert (with_dtype(engine, dtype).name, with_dtype(engine, dtype).dtype) == (engine.name, dtype)
