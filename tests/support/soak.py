"""What `make test` leaves to `make soak`: new random examples, and what an interpreted engine takes long for.

An interpreter stands in for a GPU where there is none; on a card nothing is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# One example costs the interpreter as much as a few hundred cost compiled code.
INTERPRETED_SHARE = 12
# The torch engine's sites and maps are the CPU engine's, which gets all examples.
TORCH_SHARE = 3
EXAMPLES = 30
# How many times as many examples the long runs have.
LONGER = 10


def register_profiles() -> None:
    """`test` has the same examples on every machine and run, `soak` more, which the seed given to pytest decides."""
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    common = settings(database=None, deadline=None, suppress_health_check=unhurried)
    settings.register_profile("test", common, derandomize=True, max_examples=EXAMPLES)
    settings.register_profile("soak", common, derandomize=False, max_examples=EXAMPLES * LONGER)


def is_interpreted(engine: str | None) -> bool:
    """Whether the engine's kernels are carried out one tensor operation after another by Python."""
    return engine == "cuda" and os.environ.get("TRITON_INTERPRET") == "1"


def share_of(engine: str | None) -> int:
    """One example in how many an engine gets."""
    return INTERPRETED_SHARE if is_interpreted(engine) else TORCH_SHARE if engine == "torch" else 1


def engine_of(item: pytest.Item) -> str | None:
    """Which engine of the table the test runs on in this turn, None where it does not take them in turn."""
    call = getattr(item, "callspec", None)
    return call.params.get("engine") if call else None


def is_long(item: pytest.Item) -> bool:
    """Whether `make test` leaves the test out."""
    engine = "cuda" if "cuda" in getattr(item, "fixturenames", ()) else engine_of(item)
    return item.get_closest_marker("soak") is not None and is_interpreted(engine)


def is_of_the_long_runs(item: pytest.Item) -> bool:
    """Tests of the long runs: those that are left out otherwise, and those that draw examples."""
    return is_long(item) or hasattr(getattr(item, "obj", None), "hypothesis")


def in_sample(name: str, one_in: int) -> bool:
    """Whether a test is one of a sample: by a hash of its name, so that every run of a sample has the same tests.

    A limit of time instead would make the machine's speed decide which tests run.
    """
    return int.from_bytes(sha256(name.encode()).digest()[:4], "big") % one_in == 0


def choose(items: list[Any], long_runs: bool, one_in: int) -> tuple[list[Any], list[Any]]:
    """The tests that run and those that do not."""
    if not long_runs:
        return _parted(items, (not is_long(item) for item in items))
    return _parted(items, (is_of_the_long_runs(item) and in_sample(item.nodeid, one_in) for item in items))


def _parted(items: list[Any], chosen: Iterable[bool]) -> tuple[list[Any], list[Any]]:
    marked = list(zip(items, chosen, strict=True))
    return [item for item, runs in marked if runs], [item for item, runs in marked if not runs]
