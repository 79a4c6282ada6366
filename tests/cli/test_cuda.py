"""`spcli` on a CUDA device. Where there is none, Triton's interpreter stands in for one inside this process."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from planted import plant
from spcli.engines import device
from spcli.engines.driver import CudaDriver

NO_DEVICE = "spcli: error: there is no CUDA device here; use --device cpu or auto\n"


@pytest.fixture
def with_device(cuda, monkeypatch):
    """A driver that knows one device, and the engine behind it."""
    monkeypatch.setattr(device, "ask_driver", lambda: CudaDriver(True, 1))
    return cuda


@pytest.fixture
def without_device(monkeypatch):
    monkeypatch.setattr(device, "ask_driver", lambda: CudaDriver(False))


@pytest.fixture(scope="session")
def thin(tmp_path_factory):
    """A scan of a few hundred voxels: the interpreter is slow."""
    from spcli.sample import street_scan

    path = tmp_path_factory.mktemp("thin") / "thin.bin"
    street_scan(0, 600).values.tofile(path)
    return path


def test_a_run_on_cuda_writes_what_the_cpu_writes(spcli, with_device, thin, config, tmp_path):
    """The rulebooks bit for bit, with a graph and without; the features to rounding."""
    records = {}
    for name, options in {"cpu": ["cpu"], "graph": ["cuda"], "steps": ["cuda", "--no-graph"]}.items():
        outcome = spcli("-q", "run", "--config", config, thin, "-o", tmp_path / name, "--device", *options)
        assert outcome.code == 0, outcome.err
        records[name] = outcome.record
    assert {name: record["device"] for name, record in records.items()} == {
        "cpu": "cpu",
        "graph": "cuda",
        "steps": "cuda",
    }
    assert records["cpu"]["layers"] == records["graph"]["layers"] == records["steps"]["layers"]
    rules = [(tmp_path / name / "thin.rulebooks.npz").read_bytes() for name in records]
    assert rules[0] == rules[1] == rules[2]
    features = [np.load(tmp_path / name / "thin.features.npz") for name in records]
    assert features[1]["features"].tobytes() == features[2]["features"].tobytes()
    np.testing.assert_array_equal(features[0]["indices"], features[1]["indices"])
    np.testing.assert_allclose(features[0]["features"], features[1]["features"], rtol=1e-4, atol=1e-5)


def test_no_graph_reaches_the_engine(spcli, with_device, thin, config, tmp_path, monkeypatch):
    asked = []

    def compile(self, program, parameters, want, graph=True):
        asked.append(graph)
        return compiled(self, program, parameters, want, False)

    compiled = type(with_device).compile
    monkeypatch.setattr(type(with_device), "compile", compile)
    for options in ([], ["--no-graph"]):
        words = ("run", "--config", config, thin, "-o", tmp_path, "--overwrite", "--check", "none", *options)
        assert spcli(*words).code == 0
    assert asked == [True, False]


def test_no_graph_changes_nothing_on_the_cpu(spcli, thin, config, tmp_path):
    for name, options in (("a", []), ("b", ["--no-graph"])):
        outcome = spcli("run", "--config", config, thin, "-o", tmp_path / name, "--device", "cpu", *options)
        assert outcome.code == 0
    names = sorted(path.name for path in (tmp_path / "a").glob("*.npz"))
    assert names and all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


@pytest.mark.parametrize("dtype", ["tf32", "float16", "bfloat16"])
def test_other_arithmetic_is_the_devices(spcli, with_device, thin, config, tmp_path, dtype):
    outcome = spcli("run", "--config", config, thin, "-o", tmp_path, "--dtype", dtype, "--device", "cuda", "--no-graph")
    assert (outcome.code, outcome.record["device"]) == (0, "cuda")
    stored = np.load(tmp_path / "thin.features.npz")["features"].dtype
    assert stored == (np.float16 if dtype == "float16" else np.float32)


@pytest.fixture
def too_small(with_device, monkeypatch, thin):
    """The device has too little memory for the thin scan."""
    import torch

    from spcli.engines.cuda import voxelize

    voxelized = voxelize.voxelize

    def tried(points, *arguments):
        if points.values.nbytes == thin.stat().st_size:
            raise torch.cuda.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which "
                "5.22 GiB is free."
            )
        return voxelized(points, *arguments)

    monkeypatch.setattr(voxelize, "voxelize", tried)


@pytest.mark.parametrize("command", ["run", "voxelize"])
def test_too_little_memory_is_exit_3_and_one_sentence(spcli, too_small, thin, config, tmp_path, command):
    outcome = spcli(command, "--config", config, thin, "-o", tmp_path / "out", "--device", "cuda")
    assert (outcome.code, outcome.record["error"]["code"]) == (3, 3)
    assert "20.00 GiB asked for, 5.22 GiB of 79.11 GiB free" in outcome.record["error"]["message"]
    assert not list(tmp_path.rglob("*.npz"))


def test_too_little_memory_for_one_scan_does_not_stop_the_others(spcli, too_small, thin, folder, config, tmp_path):
    outcome = spcli("run", "--config", config, thin, folder / "one.bin", "-o", tmp_path, "--device", "cuda")
    assert (outcome.code, [record["ok"] for record in outcome.lines]) == (4, [False, True])
    assert outcome.lines[0]["error"]["code"] == 3


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--config", "{config}", "{thin}", "-o", "{out}"),
        ("voxelize", "{thin}", "--preset", "quickstart", "-o", "{out}"),
    ],
)
def test_cuda_without_a_device_is_exit_3_before_anything_is_written(
    spcli, without_device, command, thin, config, tmp_path
):
    places = {"config": config, "thin": thin, "out": tmp_path / "out"}
    outcome = spcli(*(part.format(**places) for part in command), "--device", "cuda")
    assert (outcome.code, outcome.out, outcome.err) == (3, b"", NO_DEVICE)
    assert not (tmp_path / "out").exists()


# What torch, the driver and Triton lack

DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : 0; return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, for a stand-in of the driver's library")
def test_a_torch_for_the_processor_beside_a_card_is_exit_3_and_what_to_install(process, thin, config, tmp_path):
    import torch

    if torch.version.cuda is not None:
        pytest.skip("the torch here is one for CUDA")
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    words = ("run", "--config", config, thin, "-o", tmp_path / "out", "--device", "cuda")
    outcome = process(*words, LD_LIBRARY_PATH=str(tmp_path))
    assert (outcome.code, outcome.out) == (3, b"")
    assert outcome.err == (
        f"spcli: error: torch {torch.__version__} is a build without CUDA; "
        "pip install torch --index-url https://download.pytorch.org/whl/cu126\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def torch_on_a_card(monkeypatch):
    """A card that torch can use; the processor stands in its place."""
    from spcli.engines import torch
    from spcli.engines.torch import engine

    class OnHost(engine.TorchEngine):
        def __init__(self, where="cpu", dtype="float32"):
            super().__init__("cpu", dtype)
            self.device = where

        def identity(self):
            return {"card": "Tesla T4", "torch": "2.13.0", "driver": "12.4"} if self.device == "cuda" else {}

    for module in (device, torch):
        monkeypatch.setattr(module, "ask_driver", lambda: CudaDriver(True, 1, version=12040, capability=(7, 5)))
    monkeypatch.setattr(torch, "why_torch_has_no_gpu", lambda driver: None)
    monkeypatch.setattr(engine, "TorchEngine", OnHost)


@pytest.fixture
def card_without_triton(torch_on_a_card, monkeypatch):
    """A card that torch can use on a machine without Triton."""
    from spcli.engines import cuda, torch_build

    def find(name):
        return None if name == "triton" else object()

    monkeypatch.setattr(cuda, "ask_driver", device.ask_driver)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(cuda, "find_spec", find)
    monkeypatch.setattr(cuda, "is_built_without_gpus", lambda: False)
    monkeypatch.setattr(torch_build, "find_spec", find)


NO_TRITON = "the Triton engine needs the package triton, which is not installed"


@pytest.mark.parametrize("where", ["cuda", "auto"])
def test_a_card_without_triton_is_the_torch_engines_and_one_sentence_says_so(
    spcli, card_without_triton, thin, config, tmp_path, where
):
    outcome = spcli("run", "--config", config, thin, "-o", tmp_path, "--device", where, "--dtype", "float16")
    record = outcome.record
    assert outcome.code == 0
    assert outcome.err.splitlines()[0] == f"spcli: warning: {NO_TRITON}; using the torch engine"
    assert (record["device"], record["engine"], record["card"]) == ("cuda", "torch", "Tesla T4")
    assert record["versions"] == {"torch": "2.13.0", "driver": "12.4"}
    checked = record["checked"]
    assert (checked["ok"], checked["frame"], checked["allowed"]) == (True, "this", 5e-3)
    assert 0 < checked["error"] < 5e-3 and checked["layer"] in [layer["name"] for layer in record["layers"]]
    words = ("-q", "run", "--config", config, thin, "-o", tmp_path, "--overwrite", "--device", where)
    table = spcli(*words, "--dtype", "float16", "--format", "table").out.decode()
    assert "device     Tesla T4, the torch engine\nchecked    an earlier frame agrees with the CPU engine's" in table


def test_a_card_without_triton_is_exit_3_where_triton_was_asked_for(spcli, card_without_triton, thin, config, tmp_path):
    words = ("run", "--config", config, thin, "-o", tmp_path / "out", "--device", "cuda", "--engine", "triton")
    outcome = spcli(*words)
    assert (outcome.code, outcome.out, outcome.err) == (3, b"", f"spcli: error: {NO_TRITON}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["run", "voxelize"])
def test_the_torch_engine_on_the_processor_is_a_second_opinion(spcli, thin, config, tmp_path, command):
    records = {}
    for name, options in {"cpu": [], "torch": ["--engine", "torch"]}.items():
        words = ("-q", command, "--config", config, thin, "-o", tmp_path / name, "--device", "cpu", *options)
        records[name] = spcli(*words).record
    assert {name: (record["device"], record["engine"]) for name, record in records.items()} == {
        "cpu": ("cpu", "cpu"), "torch": ("cpu", "torch"),
    }  # fmt: skip
    assert records["cpu"]["voxels"] == records["torch"]["voxels"] and records["cpu"]["versions"] == {}


# A wrong first frame


@pytest.fixture
def wrong_kernel(with_device, torch_on_a_card, monkeypatch, tmp_path_factory):
    """The convolution leaves out the first row."""
    folder = tmp_path_factory.mktemp("planted")
    plant(monkeypatch, folder, "convolve", "mask = (sources >= 0)", "mask = (sources > 0)")


WRONG = re.compile(
    r"the first frame of tiny by the triton engine on the interpreter is wrong: layer enter \(\d+x\d+x\d+, \d+ taps, "
    r".* stages?\) has a relative L2 error of \S+, and 1e-05 is allowed; the torch engine goes on"
)


def test_a_wrong_first_frame_is_the_torch_engines_and_the_warning_names_layer_blocks_and_error(
    spcli, wrong_kernel, thin, config, tmp_path
):
    outcome = spcli("run", "--config", config, thin, "-o", tmp_path / "out", "--device", "cuda")
    assert outcome.code == 0
    assert WRONG.fullmatch(outcome.record["warnings"][0])
    assert f"\nspcli: warning: {thin}: the first frame of tiny by the triton engine on " in outcome.err
    assert (outcome.record["engine"], outcome.record["checked"]["ok"]) == ("torch", True)
    spcli("run", "--config", config, thin, "-o", tmp_path / "cpu", "--device", "cpu")
    found, right = (np.load(tmp_path / name / "thin.features.npz")["features"] for name in ("out", "cpu"))
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
    doctor = spcli("doctor")
    listed = [each for each in doctor.record["checks"] if each["name"] == "frames of tiny"]
    assert [(each["ok"], "torch engine" in each["detail"]) for each in listed] == [(True, True), (False, False)]
    assert "is allowed" in listed[1]["detail"] and doctor.code == 3


def test_a_wrong_first_frame_under_a_strict_check_is_exit_7_and_nothing_is_written(
    spcli, wrong_kernel, thin, folder, config, tmp_path
):
    words = ("run", "--config", config, thin, folder / "one.bin", "-o", tmp_path / "out", "--device", "cuda")
    outcome = spcli(*words, "--check", "strict")
    assert (outcome.code, outcome.out) == (7, b"")
    assert "spcli: error: the first frame of tiny by the triton engine on the interpreter is wrong: " in outcome.err
    assert outcome.err.endswith("; leave out --check strict to go on with another engine\n")
    assert not list(tmp_path.rglob("*.npz")) and not list(tmp_path.rglob("*.json*"))


def test_without_a_check_a_wrong_frame_is_written(spcli, wrong_kernel, thin, config, tmp_path):
    outcome = spcli("run", "--config", config, thin, "-o", tmp_path, "--device", "cuda", "--check", "none")
    assert (outcome.code, outcome.record["engine"], outcome.record["checked"]) == (0, "triton", None)


# doctor


def test_doctor_warms_nothing_up_without_a_device(spcli, without_device):
    outcome = spcli("doctor", "--warmup", "--dtype", "float16")
    assert (outcome.code, outcome.out, outcome.err) == (3, b"", NO_DEVICE)


def test_doctor_takes_a_dtype_for_warming_up_only(spcli):
    outcome = spcli("doctor", "--dtype", "float16")
    assert outcome.code == 2 and "--warmup" in outcome.err


def test_doctor_warms_up_each_dtype(spcli, with_device, monkeypatch):
    """Every preset for every dtype of the list; the last lines say how many kernels and how long."""
    from spcli.cli import doctor
    from spcli.config import preset_names
    from spcli.pipeline.warmup import Warmth

    warmed = []

    def warm_up(engine, names):
        warmed.append((engine.dtype, tuple(names)))
        return Warmth(12, 3, 4.56, "/cache")

    monkeypatch.setattr(doctor, "warm_up", warm_up)
    outcome = spcli("doctor", "--warmup", "--dtype", "float16,float32", "--format", "table")
    assert outcome.code == 0
    assert warmed == [("float32", preset_names()), ("float16", preset_names())]
    assert outcome.out.decode().splitlines()[-2:] == [
        f"OK    warm-up for {dtype}: 12 kernels compiled and 3 found in /cache, 4.6 s"
        for dtype in ("float32", "float16")
    ]


def test_warming_up_compares_a_frame_step_by_step_and_one_that_is_a_recording(cuda, monkeypatch):
    from spcli.pipeline.verdicts import kept
    from spcli.pipeline.warmup import warm_up

    runners = []
    compiled = type(cuda).compile

    def compile(self, *arguments):
        runner = compiled(self, *arguments)
        submit = runner.submit
        runner.submit = lambda scan: runners.append(runner) or submit(scan)
        return runner

    monkeypatch.setattr(type(cuda), "compile", compile)
    warmth = warm_up(cuda, ["quickstart"], points=300)
    # The frame that is compared layer by layer, the one that shows how long lists are, and the first that is replayed.
    assert [type(runner).__name__ for runner in runners] == ["StepRunner", "CudaRunner", "CudaRunner"]
    assert warmth.seconds > 0 and warmth.folder and warmth.wrong == ()
    (stored,) = kept()
    assert stored.subject.network == "quickstart"
    steps, replayed = sorted(stored.verdicts, key=len)
    assert replayed == f"replayed, {steps}" and steps.startswith("bb 512s 512s ")
    assert stored.worst.ok


def lines(outcome):
    return {check["name"]: check for check in outcome.record["checks"]}


def test_doctor_describes_a_device_and_tests_itself_on_it(spcli, with_device, monkeypatch):
    from spcli import doctor
    from spcli.engines import cuda

    facts = ("H100 (9.0, 80 GiB)", "torch 2.13.0 for CUDA 13.0", "Triton 3.7.1")
    monkeypatch.setattr(doctor, "ask_driver", lambda: CudaDriver(True, 1, version=12040))
    monkeypatch.setattr(cuda, "describe", lambda: facts)
    monkeypatch.setattr(doctor.toolchain, "missing", lambda: None)
    found = lines(spcli("doctor"))
    assert found["GPU"]["detail"] == "driver for CUDA 12.4 and older, 1 device"
    assert found["Triton engine"]["detail"] == "H100 (9.0, 80 GiB), torch 2.13.0 for CUDA 13.0, Triton 3.7.1"
    assert found["self-test on the GPU: strided convolution"]["ok"] is True
    assert found["C compiler"]["ok"] is True


def test_doctor_tells_of_a_missing_compiler_where_there_is_a_device(spcli, with_device, monkeypatch):
    """That is no failure: the CPU engine needs none."""
    from spcli import doctor

    monkeypatch.setattr(doctor, "ask_driver", lambda: CudaDriver(True, 1))
    monkeypatch.setattr(doctor.toolchain, "missing", lambda: "Triton needs a C compiler")
    outcome = spcli("doctor")
    assert lines(outcome)["C compiler"] == {"name": "C compiler", "ok": None, "detail": "Triton needs a C compiler"}


def test_doctor_says_why_a_device_cannot_be_used(spcli, monkeypatch):
    from spcli import doctor
    from spcli.errors import DeviceError

    def load(name, device=None):
        if name == "cuda":
            raise DeviceError("torch 2.13.0+cpu is a build without CUDA")
        return loaded(name)

    loaded = doctor.load_engine
    monkeypatch.setattr(doctor, "ask_driver", lambda: CudaDriver(True, 1))
    monkeypatch.setattr(doctor, "load_engine", load)
    outcome = spcli("doctor")
    assert outcome.code == 0
    assert lines(outcome)["Triton engine"]["detail"] == "torch 2.13.0+cpu is a build without CUDA"


def test_doctor_without_a_driver_looks_no_further(spcli, monkeypatch):
    from spcli import doctor

    monkeypatch.setattr(doctor, "ask_driver", lambda: CudaDriver(False))
    found = lines(spcli("doctor"))
    assert found["GPU"] == {"name": "GPU", "ok": None, "detail": "no driver (libcuda.so.1)"}
    assert "Triton engine" not in found and "C compiler" not in found
