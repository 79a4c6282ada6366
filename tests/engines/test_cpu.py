"""What the CPU engine promises beyond the contract: the same bits on any number of threads and from wide builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import scene
from spcli.engines import load_engine
from spcli.engines.base import Epilogue, LayerParameters
from spcli.engines.cpu import set_threads
from spcli.engines.cpu.library import cpu_flags
from spcli.errors import DeviceError
from spcli.geometry import submanifold_geometry
from strategies import real_features

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "digests.py"
BUILDS = {"v4": "avx512bw", "v3": "avx2", "base": ""}


@cache
def digests(isa: str) -> dict[str, Any]:
    """What the script prints with that build loaded; skips where the processor cannot run it."""
    if BUILDS[isa] and BUILDS[isa] not in cpu_flags():
        pytest.skip(f"this processor has no {BUILDS[isa]}, so the {isa} build cannot run here")
    environ = os.environ | {"SPCLI_ISA": isa}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("isa", BUILDS)
def test_the_number_of_threads_changes_no_bit(isa: str) -> None:
    threads = digests(isa)["threads"]
    assert threads["1"] == threads["2"] == threads["3"]


@pytest.mark.parametrize("isa", BUILDS)
def test_every_build_rounds_no_worse_than_float32_must(isa: str) -> None:
    assert digests(isa)["worst_error"] < 1e-6


def test_avx2_and_avx512_give_the_same_bits() -> None:
    wide, narrow = digests("v4"), digests("v3")
    assert wide["isa"] != narrow["isa"]
    assert wide["threads"] == narrow["threads"]


def test_positions_do_not_depend_on_the_build() -> None:
    assert digests("base")["threads"]["1"]["voxels"] == digests("v3")["threads"]["1"]["voxels"]


@pytest.mark.parametrize("isa", ["v9", "avx"])
def test_a_build_that_does_not_exist_is_a_device_error(isa: str) -> None:
    code = "from spcli.engines import load_engine; load_engine('cpu')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"SPCLI_ISA": isa}, capture_output=True, text=True, check=False
    )
    assert DeviceError.__name__ in done.stderr and "v3" in done.stderr


def test_the_same_layer_twice_gives_the_same_bits_while_threads_change() -> None:
    engine, tensor = load_engine("cpu"), scene(51, 2000, (10, 40, 40))
    cube = submanifold_geometry((3, 3, 3), (1, 1, 1))
    packed = engine.pack(LayerParameters(real_features(1, 32, 27 * 16).reshape(32, 3, 3, 3, 16)))
    features = engine.upload(real_features(2, len(tensor.indices), 16))
    results = []
    try:
        for threads in (1, 4, 2, 1):
            set_threads(threads)
            source = engine.build(engine.sites(tensor.indices, tensor.spatial_shape, 1), cube)
            results.append(engine.download(engine.convolve(features, source, packed, Epilogue())).tobytes())
    finally:
        set_threads(None)
    assert len(set(results)) == 1


def test_neither_torch_nor_open3d_is_imported_by_the_engine() -> None:
    code = "import sys; from spcli.engines import load_engine; load_engine('cpu'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "open3d", "yaml", "click", "triton"} & set(done.stdout.split())


def test_features_begin_on_a_cache_line() -> None:
    """An array from numpy begins 16 bytes past one, and every wide load from it touches two lines."""
    uploaded = load_engine("cpu").upload(np.ones((5, 7), np.float32))
    assert uploaded.ctypes.data % 64 == 0
