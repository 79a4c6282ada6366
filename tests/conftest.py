"""Fixtures and settings that every test shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

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
    from spcli.engines import load_engine
    from spcli.errors import DeviceError

    try:
        return load_engine(request.param)
    except DeviceError as reason:
        pytest.skip(f"engine {request.param}: {reason}")
