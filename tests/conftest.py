"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from spcli.engines.device import ask_driver

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Triton reads this when it is imported, and when a kernel is defined: its interpreter stands in for a GPU.
if not ask_driver().devices:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# One example costs the interpreter as much as a few hundred cost compiled code.
INTERPRETED_SHARE = 12

# Derandomized: the same examples on every machine and run; `strategies.examples` says how to look for new ones.
settings.register_profile(
    "stable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("stable")


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
        return load_engine(name)
    except DeviceError as reason:
        pytest.skip(f"engine {name}: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves whole scans out for interpreted engines, except in a long search (SPCLI_EXAMPLES)."""
    if "SPCLI_EXAMPLES" in os.environ:
        return
    too_long = pytest.mark.skip(reason="a whole scan takes an interpreter minutes; SPCLI_EXAMPLES=2 runs it")
    for item in items:
        call = getattr(item, "callspec", None)
        if item.get_closest_marker("whole_scan") and call and is_interpreted(call.params.get("engine")):
            item.add_marker(too_long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Gives an interpreted engine a share of a test's hypothesis examples; every other engine gets all of them."""
    call = getattr(item, "callspec", None)
    usual = getattr(getattr(item, "obj", None), "_hypothesis_internal_use_settings", None)
    if usual is None or call is None or not is_interpreted(call.params.get("engine")):
        return (yield)
    # settings() refuses to decorate a test twice, and all engines share one test function.
    fewer = max(usual.max_examples // INTERPRETED_SHARE, 3)
    item.obj._hypothesis_internal_use_settings = settings(usual, max_examples=fewer)
    try:
        return (yield)
    finally:
        item.obj._hypothesis_internal_use_settings = usual


def is_interpreted(engine: str | None) -> bool:
    """Whether the engine's kernels are carried out one tensor operation after another by Python."""
    return engine == "cuda" and os.environ.get("TRITON_INTERPRET") == "1"
