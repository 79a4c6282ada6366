"""The sample of the long runs: a share of the tests, the same at every run."""

from __future__ import annotations

import soak

NAMES = [f"tests/engines/test_convolve.py::test_wide_layers[cuda-{number}]" for number in range(1000)]


def test_a_sample_is_about_the_share_asked_for() -> None:
    assert 60 <= sum(soak.in_sample(name, 10) for name in NAMES) <= 140


def test_one_test_in_one_is_all_of_them() -> None:
    assert all(soak.in_sample(name, 1) for name in NAMES)


def test_a_name_alone_decides_whether_its_test_is_in_the_sample() -> None:
    assert [number for number, name in enumerate(NAMES[:60]) if soak.in_sample(name, 10)] == [0, 15, 24, 40, 57]
