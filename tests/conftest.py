"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import interpreter
import soak
from spcli.engines.cuda import OLDEST
from spcli.engines.driver import ask_driver
from spcli.engines.torch_build import is_built_without_gpus

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Triton reads this when it is imported, and when a kernel is defined: its interpreter stands in for a GPU that the
# kernels can use.
if ask_driver().capability < OLDEST or is_built_without_gpus():
    os.environ.setdefault("TRITON_INTERPRET", "1")

soak.register_profiles()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "the long runs")
    group.addoption("--soak", action="store_true", help="only tests marked soak, and more and new random examples")
    group.addoption("--sample", type=int, default=1, metavar="N", help="with --soak: one test in N, always the same")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is collected: a test's number of examples is settled when its module is imported."""
    settings.load_profile("soak" if config.getoption("soak") else "test")
    cache = tempfile.TemporaryDirectory(prefix="spcli-cache-")
    config.add_cleanup(cache.cleanup)
    os.environ["SPCLI_CACHE_DIR"] = cache.name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:], left_out = soak.choose(items, config.getoption("soak"), config.getoption("sample"))
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Where this test's verdicts on first frames are kept: no test knows those of another, or the user's."""
    folder = os.path.join(os.environ["SPCLI_CACHE_DIR"], sha256(request.node.nodeid.encode()).hexdigest()[:16])
    monkeypatch.setenv("SPCLI_CACHE_DIR", folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scans and reference vectors beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared (real scans and reference vectors), which is not here")
    return SHARED


def _engine_names() -> list[str]:
    from spcli.engines import ENGINES

    return list(ENGINES)


@pytest.fixture(scope="session", params=_engine_names())
def engine(request: pytest.FixtureRequest) -> Any:
    """Every engine of the table in turn; one that cannot run here skips with its own reason."""
    return _engine(request.param)


@pytest.fixture(scope="session")
def cuda() -> Any:
    """The CUDA engine, for tests of what is its own: on a GPU, else in Triton's interpreter, else they skip."""
    return _engine("cuda")


def _engine(name: str) -> Any:
    from spcli.engines import load_engine
    from spcli.errors import DeviceError

    try:
        engine = load_engine(name)
    except DeviceError as reason:
        pytest.skip(f"engine {name}: {reason}")
    if engine.label == "torch":
        import torch

        torch.set_num_threads(1)  # beside other workers its threads would only wait for each other
    return engine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Gives an engine its share of a test's hypothesis examples."""
    if "triton.runtime.interpreter" in sys.modules:
        interpreter.speed_up()
    usual = getattr(getattr(item, "obj", None), "_hypothesis_internal_use_settings", None)
    share = soak.share_of(soak.engine_of(item))
    if usual is None or share == 1:
        return (yield)
    # settings() refuses to decorate a test twice, and all engines share one test function.
    fewer = max(usual.max_examples // share, 3)
    item.obj._hypothesis_internal_use_settings = settings(usual, max_examples=fewer)
    try:
        return (yield)
    finally:
        item.obj._hypothesis_internal_use_settings = usual
