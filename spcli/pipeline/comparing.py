"""A frame beside the CPU engine's: sites and rules must be equal, features within the bound of the number format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import ALLOWED_ERROR, Frame
from spcli.pipeline.verdicts import Verdict
from spcli.rulebook import Rulebook

FLOAT16_MAX = float(np.finfo(np.float16).max)


def overflows_float16(frame: Frame) -> bool:
    """Whether float16 could not hold some value: then infinities would be compared with numbers."""
    return any(bool((np.abs(output.features) > FLOAT16_MAX).any()) for output in frame.outputs.values())


def verdict_on(frame: Frame, right: Frame, dtype: str, describe: Callable[[str], str]) -> Verdict:
    """How a frame compares with one that is right, in all that both hold.

    Args:
        frame: what was computed in `dtype`.
        right: the CPU engine's frame, in float32.
        dtype: the number format.
        describe: a layer's name to words for a message.
    """
    wrong = next(_differences(frame, right), None)
    if wrong is not None:
        return Verdict(wrong)
    allowed, worst = ALLOWED_ERROR[dtype], ("", 0.0)
    for name, expected in right.outputs.items():
        if name not in frame.outputs:
            continue
        error = relative_error(frame.outputs[name].features, expected.features)
        if not np.isfinite(error):
            return Verdict(f"{describe(name)} has values that are finite on one side only", name, None, allowed)
        if error > allowed:
            differs = f"{describe(name)} has a relative L2 error of {error:.2g}, and {allowed:g} is allowed"
            return Verdict(differs, name, error, allowed)
        worst = max(worst, (name, error), key=lambda each: each[1])
    return Verdict("", *worst, allowed)


def _differences(frame: Frame, right: Frame) -> Iterator[str]:
    """What differs in voxels, sites and rules, in the order in which they are made."""
    if frame.scan != right.scan:
        yield f"its points and voxels are {_counts(frame)}, and {_counts(right)} are right"
    for key in right.counts:
        yield from _rule_differences(key, frame, right)
    if frame.sites != right.sites:
        yield f"it has {list(frame.sites)} sites, and {list(right.sites)} are right"
    if frame.shapes != right.shapes:
        yield f"it has the shapes {list(map(list, frame.shapes))}, and {list(map(list, right.shapes))} are right"
    for name in frame.outputs:
        if not np.array_equal(frame.outputs[name].indices, right.outputs[name].indices):
            yield f"layer {name} has other sites"


def _rule_differences(key: str, frame: Frame, right: Frame) -> Iterator[str]:
    found, counted = frame.counts[key], right.counts[key]
    if found.pairs != counted.pairs:
        yield f"rulebook {key} has {found.pairs} rules, and {counted.pairs} are right"
    elif found.pairs_per_offset != counted.pairs_per_offset:
        yield f"rulebook {key} has rules of other taps"
    elif key in frame.rulebooks and not _same_rules(frame.rulebooks[key], right.rulebooks[key]):
        yield f"rulebook {key} has other sites or rules"


def _counts(frame: Frame) -> str:
    scan = frame.scan
    return "unknown" if scan is None else f"{scan.points.in_range} in {scan.voxels.active}"


def _same_rules(found: Rulebook, right: Rulebook) -> bool:
    names = ("in_indices", "out_indices", "in_rows", "out_rows", "pair_splits")
    return all(np.array_equal(getattr(found, name), getattr(right, name)) for name in names)


def relative_error(found: NDArray[Any], right: NDArray[Any]) -> float:
    """Relative L2 error; NaN equals NaN, and infinity an infinity of its sign. Infinite where only one is finite."""
    finite = np.isfinite(right)
    if found.shape != right.shape or not np.array_equal(found[~finite], right[~finite], equal_nan=True):
        return float("inf")
    one, other = (values[finite].astype(np.float64) for values in (found, right))
    if not np.isfinite(one).all():
        return float("inf")
    difference, size = np.linalg.norm(one - other), np.linalg.norm(other)
    if size == 0:
        return float("inf") if difference else 0.0
    return float(difference / size)
