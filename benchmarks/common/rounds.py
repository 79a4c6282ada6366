"""Fair timings: everyone is asked once in every round, so that a busy moment of the machine strikes all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median


def rounds(
    asked: Mapping[str, Callable[[], Mapping[str, float]]], count: int, warm_up: int
) -> dict[str, dict[str, float]]:
    """Medians of what each gives, by label, over `count` rounds after `warm_up` ones that do not count.

    Who goes first changes from round to round, since the one before leaves its traces in caches and clocks.
    """
    taken: dict[str, list[Mapping[str, float]]] = {label: [] for label in asked}
    order = list(asked)
    for number in range(warm_up + count):
        turn = number % len(order)
        for label in order[turn:] + order[:turn]:
            answer = asked[label]()
            if number >= warm_up:
                taken[label].append(answer)
    return {label: _medians(answers) for label, answers in taken.items()}


def _medians(answers: list[Mapping[str, float]]) -> dict[str, float]:
    return {name: median(answer[name] for answer in answers) for name in answers[0]}
