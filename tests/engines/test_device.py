"""Which engine is chosen, from what the CUDA driver says."""

from __future__ import annotations

import ctypes

import pytest

from spcli import engines
from spcli.engines import cuda, device, load_engine
from spcli.engines.device import CudaDriver, ask_driver, choose_engine, with_dtype
from spcli.errors import DeviceError


class Driver:
    """A libcuda that gives these answers."""

    def __init__(self, init: int = 0, count: int = 0, count_code: int = 0) -> None:
        self._answers = init, count, count_code

    def cuInit(self, flags):
        return self._answers[0]

    def cuDeviceGetCount(self, pointer):
        pointer._obj.value = self._answers[1]
        return self._answers[2]


@pytest.mark.parametrize(
    ("library", "answer"),
    [
        (None, CudaDriver(False)),
        (object(), CudaDriver(False)),
        (Driver(init=100), CudaDriver(True)),
        (Driver(init=34), CudaDriver(True)),
        (Driver(init=999), CudaDriver(True, 0, "the CUDA driver answers with error 999")),
        (Driver(count=2), CudaDriver(True, 2)),
        (Driver(count_code=3), CudaDriver(True, 0, "the CUDA driver answers with error 3")),
    ],
    ids=["no library", "no functions", "no device", "stub", "broken", "two devices", "broken later"],
)
def test_the_driver_is_asked_without_torch(monkeypatch, library, answer):
    def load(name):
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert ask_driver() == answer


@pytest.fixture
def without_cuda_engine(monkeypatch):
    """A device the engine cannot use."""
    monkeypatch.setattr(engines, "ENGINES", {"cpu": "spcli.engines.cpu"})


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        (CudaDriver(False), 0),
        (CudaDriver(True), 0),
        (CudaDriver(True, 1), 1),
        (CudaDriver(True, 0, "it is broken"), 1),
    ],
)
def test_auto_says_why_a_device_that_is_present_stays_unused(monkeypatch, without_cuda_engine, driver, told):
    said = []
    monkeypatch.setattr(device, "ask_driver", lambda: driver)
    assert choose_engine("auto", said.append).name == "cpu"
    assert len(said) == told
    assert all(sentence.endswith("; using the CPU") for sentence in said)


@pytest.mark.parametrize("driver", [CudaDriver(False), CudaDriver(True, 0, "broken"), CudaDriver(True, 1)])
def test_cuda_that_cannot_be_used_is_an_error(monkeypatch, without_cuda_engine, driver):
    monkeypatch.setattr(device, "ask_driver", lambda: driver)
    with pytest.raises(DeviceError):
        choose_engine("cuda", print)


def test_the_cpu_is_never_asked_about_cuda(monkeypatch):
    monkeypatch.setattr(device, "ask_driver", lambda: pytest.fail("asked"))
    assert choose_engine("cpu", print, threads=1).name == "cpu"


def test_the_cpu_computes_float32_only():
    engine = load_engine("cpu")
    assert with_dtype(engine, "float32") is engine
    for dtype in ("tf32", "float16", "bfloat16"):
        with pytest.raises(DeviceError, match=f"--dtype {dtype} needs a CUDA device"):
            with_dtype(engine, dtype)


@pytest.mark.parametrize("dtype", ["float32", "tf32", "float16", "bfloat16"])
def test_an_engine_is_given_in_the_arithmetic_that_was_asked_for(engine, dtype):
    if dtype in engine.dtypes:
        assert (with_dtype(engine, dtype).name, with_dtype(engine, dtype).dtype) == (engine.name, dtype)


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
