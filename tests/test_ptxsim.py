"""The CUDA engine's compiled kernels, carried out instruction by instruction by the simulator beside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent / "ptxsim"
ROOT = FOLDER.parents[1]
DTYPES = ("float32", "tf32", "float16", "bfloat16")
# On every 80th point; sm_80 and sm_90 in turn.
SPECS = [f"{FOLDER / 'two_layers.yaml'}:{dtype}:street0:thin=80" for dtype in DTYPES]
FRAME = re.compile(r"^(?P<where>sm_\d+) \S+ (?P<dtype>\w+), frame \d \(street0\): .*: (?P<verdict>equal|DIFFERS.*)$")


def _loaded(name: str) -> Any:
    """A module of the folder, which is no package."""
    spec = spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _simulate(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command of tests/ptxsim/run.py; kernels are kept in build/ between runs."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "TRITON_CACHE_DIR")
    }
    command = [sys.executable, str(FOLDER / "run.py"), *words]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"PTXSIM_OPTIMISE": "-Og"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def simulator() -> Any:
    """Skips where the simulator cannot run."""
    module = _loaded("simulator")
    if reason := module.missing():
        pytest.skip(reason)
    return module


def test_compiled_kernels_give_the_cpu_engines_frames_in_every_number_format(simulator: Any) -> None:
    done = _simulate("frame", *SPECS, "--cc", "80,90", "--layers", "--threads", "1")
    frames = [found.groups() for line in done.stdout.splitlines() if (found := FRAME.match(line))]
    # Each once step by step, and once as the recording that a graph is.
    assert frames == [
        (where, dtype, "equal") for where, dtype in zip(("sm_80", "sm_90") * 2, DTYPES, strict=True) for _ in range(2)
    ], done.stdout + done.stderr
    assert "\nmessages: 0, " in done.stdout, done.stdout
    assert done.returncode == 0, done.stderr


def test_a_machine_without_the_simulator_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = _loaded("simulator")
    monkeypatch.setattr(module, "SOURCES", tmp_path)
    assert module.missing() == "needs the simulator in ../shared/tools/ptxsim, which is not here"
