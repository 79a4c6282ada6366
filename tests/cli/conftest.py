"""The command line in two ways: inside the test process (quick), and as a process of its own (pipes, signals)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spcli.cli.console import console
from spcli.cli.main import _guarded

NETWORK = """\
version: 1
name: tiny
voxelize: {voxel_size: [0.5, 0.5, 0.5], point_cloud_range: [0, -20, -3, 40, 20, 3], columns: [x, y, z, intensity]}
defaults: {norm: BatchNorm1d, activation: ReLU, bias: false}
layers:
  - {name: enter, type: SubMConv3d, out_channels: 8, kernel_size: 3, indice_key: subm1}
  - {name: down, type: SparseConv3d, out_channels: 8, kernel_size: 3, stride: 2, padding: 1, indice_key: down}
  - {name: up, type: SparseInverseConv3d, out_channels: 8, kernel_size: 3, indice_key: down}
  - {name: join, type: Concat, inputs: [up, enter]}
  - {name: leave, type: Linear, out_channels: 3}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as NDJSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def record(self) -> Any:
        """The one JSON object on standard output."""
        (record,) = self.lines
        return record


Call = Callable[..., Outcome]


@pytest.fixture
def spcli(capfdbinary, monkeypatch) -> Call:
    """`spcli(*arguments, stdin=b"")`, in this process."""

    def call(*arguments: object, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(console, "verbosity", 0)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        code = _guarded([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Outcome(code, out, err.decode())

    return call


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """A process's environment: this checkout first, no settings of the user's, and a device only if there is one."""
    root = str(Path(__file__).resolve().parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPCLI_", "TRITON_INTERPRET"))}
    kept["SPCLI_CACHE_DIR"] = os.environ["SPCLI_CACHE_DIR"]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH", "")]))}


@pytest.fixture
def process(environment) -> Call:
    """`process(*arguments, stdin=b"")`, as a process of its own."""

    def call(*arguments: object, stdin: bytes = b"", **extra: str) -> Outcome:
        command = [sys.executable, "-m", "spcli", *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, env=environment | extra, timeout=120)
        return Outcome(done.returncode, done.stdout, done.stderr.decode())

    return call


@pytest.fixture
def shell(environment, tmp_path) -> Call:
    """`shell(script)`: bash with pipefail, where `$SPCLI` is the command."""

    def call(script: str) -> Outcome:
        env = environment | {"SPCLI": f"{sys.executable} -m spcli"}
        command = ["bash", "-o", "pipefail", "-c", script]
        done = subprocess.run(command, capture_output=True, env=env, cwd=tmp_path, timeout=120)
        return Outcome(done.returncode, done.stdout, done.stderr.decode())

    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Files no test changes: `scan.bin` (a thin synthetic scan), `other.bin`, `tiny.yaml`, `one.bin` (one point)."""
    from spcli.sample import street_scan

    folder = tmp_path_factory.mktemp("inputs")
    street_scan(0, 9000).values.tofile(folder / "scan.bin")
    street_scan(1, 9000).values.tofile(folder / "other.bin")
    np.array([[1, 2, 0, 0.5]], np.float32).tofile(folder / "one.bin")
    (folder / "empty.bin").touch()
    (folder / "tiny.yaml").write_text(NETWORK)
    return folder


@pytest.fixture(scope="session")
def scan(folder) -> Path:
    return folder / "scan.bin"


@pytest.fixture(scope="session")
def config(folder) -> Path:
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def results(folder, tmp_path_factory) -> Path:
    """The results of `spcli run` on `scan.bin` with `tiny.yaml`, which no test changes."""
    from spcli.cli.main import _guarded

    out = tmp_path_factory.mktemp("results")
    assert _guarded(["-q", "run", "--config", str(folder / "tiny.yaml"), str(folder / "scan.bin"), "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def dump(results) -> Path:
    """The rulebooks among `results`."""
    return results / "scan.rulebooks.npz"
