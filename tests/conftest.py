"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Derandomized: the same examples on every machine and run. HYPOTHESIS_PROFILE=thorough looks for new ones.
settings.register_profile(
    "stable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.register_profile("thorough", settings.get_profile("stable"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "stable"))


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
