"""How many columns a file of bare numbers has, and what they are called.

The size of a `.bin` does not decide: most real files divide by more than one of 3 to 7. The step test does: a LiDAR
writes neighbours one after the other, so with the right count consecutive points are close, and with a wrong one a
point's x is its neighbour's intensity and they are far apart. The right count has the smallest median step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError, UsageError
from spcli.points import PointCloud
from spcli.readers.scan import Columns

COUNTS = (3, 4, 5, 6, 7)

# KITTI's name for the fourth column, nuScenes' for the fifth; what comes after has no name of its own.
_FIRST_NAMES = ("x", "y", "z", "intensity", "ring")

# A count is trusted when every rival steps at least this many times further.
_CLEAR = 3.0
# Fewer steps than this say nothing; between the two limits a clear answer counts, and an unclear one is no reason to
# refuse a file.
_FEWEST_STEPS = 8
_ENOUGH_STEPS = 32
# What a file too small for the test most likely is: KITTI's layout, nuScenes', bare positions.
_LIKELIEST = (4, 5, 3, 6, 7)

_SAMPLED_STEPS = 1024
_FEW_NO_RETURNS = 100
_FLOAT16_MAX = 65504.0


class Steps(NamedTuple):
    """The distances between consecutive points under one column count: their median in metres, and how many."""

    median: float
    usable: int


def default_names(count: int) -> tuple[str, ...]:
    """`x, y, z, intensity, ring`, then `c5, c6, ...`, as many as there are columns."""
    return tuple(_FIRST_NAMES[:count]) + tuple(f"c{column}" for column in range(len(_FIRST_NAMES), count))


def names_for(count: int, wanted: Columns) -> tuple[str, ...]:
    """The names of `count` columns: the caller's where they were given."""
    return wanted if isinstance(wanted, tuple) else default_names(count)


def check_wanted(wanted: Columns) -> None:
    """Refuse a description of columns that no cloud can have.

    Raises:
        UsageError: a number below 3, names that repeat, or names without x, y and z.
    """
    if isinstance(wanted, int) and wanted < 3:
        raise UsageError(f"columns: {wanted} columns hold no x, y, z; give 3 or more")
    if isinstance(wanted, tuple):
        missing = [axis for axis in "xyz" if axis not in wanted]
        if missing or len(set(wanted)) != len(wanted):
            wrong = f"lack {', '.join(missing)}" if missing else "repeat a name"
            raise UsageError(f"columns: {','.join(wanted)} {wrong}; name each column once, x, y and z among them")


def measure_steps(values: NDArray[np.float32], count: int) -> Steps:
    """The steps of `values` `[n]` read as `count` columns.

    No-returns at (0, 0, 0), repeated points and non-finite ones make no step; only where all points are the same one
    are the steps 0. A long file is sampled evenly; where the sample holds too few steps, as in organised clouds that
    are mostly no-returns, all of it is measured.
    """
    rows = len(values) // count
    xyz = values[: rows * count].reshape(rows, count)[:, :3]
    if rows < 2:
        return Steps(np.inf, 0)
    if rows - 1 > _SAMPLED_STEPS:
        first = np.linspace(0, rows - 2, _SAMPLED_STEPS).astype(np.intp)
        sampled = _steps_between(xyz[first], xyz[first + 1])
        if sampled.usable >= _ENOUGH_STEPS:
            return sampled
    return _steps_between(xyz[:-1], xyz[1:])


def infer_count(values: NDArray[np.float32], source: str) -> tuple[int, tuple[str, ...]]:
    """The column count of `values` `[n]`, and warnings where it is an assumption.

    Raises:
        InputError: the points are cut short, or several counts fit and the steps do not tell them apart.
    """
    fits = tuple(count for count in COUNTS if len(values) % count == 0)
    steps = {count: measure_steps(values, count) for count in COUNTS}
    best = _shortest(steps, COUNTS)
    if steps[best].usable >= _FEWEST_STEPS:
        if best in fits and _is_clear(best, fits, steps):
            return best, _unconfirmed(best, fits, steps)
        if best not in fits and _is_clear(best, fits or COUNTS, steps):
            raise InputError(_cut_short(len(values), best, steps, source))
    return _settle(values, fits, steps, source)


def check_count(values: NDArray[np.float32], wanted: int | tuple[str, ...], source: str) -> tuple[int, tuple[str, ...]]:
    """The column count the caller gave, and warnings.

    A count given as a number is an order: the steps can only object. Names come from a configuration that is shared
    by many files, so a file whose steps clearly say otherwise is refused.

    Raises:
        InputError: the values do not divide by the count, or the points clearly have another one.
    """
    count = len(wanted) if isinstance(wanted, tuple) else wanted
    steps = {each: measure_steps(values, each) for each in {*COUNTS, count}}
    best = _shortest(steps, COUNTS)
    sure = best != count and steps[best].usable >= _ENOUGH_STEPS and _is_clear(best, (count,), steps)
    if len(values) % count:
        hint = f"its points step like {best} columns ({_against(best, count, steps)})" if sure else _fitting(values)
        raise InputError(
            f"{source}: {len(values)} float32 values do not divide into {count} columns ({len(values) % count} left "
            f"over); {hint}, so pass the right --columns, or copy the file again if it is cut short"
        )
    if not sure:
        return count, ()
    found = f"its points step like {best} columns, not {count} ({_against(best, count, steps)})"
    if isinstance(wanted, tuple):
        raise InputError(
            f"{source}: {found}; name its {best} columns, or pass --columns {count} to read it as {count} regardless"
        )
    return count, (f"read as {count} columns as asked, but {found}",)


def attribute_warnings(values: NDArray[np.float32], names: tuple[str, ...]) -> tuple[str, ...]:
    """A warning for each column of `values` `[P, C]` beside x, y, z that float16 cannot hold."""
    found = []
    for column, name in enumerate(names):
        if name in ("x", "y", "z"):
            continue
        size = np.abs(values[:, column])
        large = size[(size > _FLOAT16_MAX) & (size < np.inf)]
        if len(large):
            largest = float(large.max())
            found.append(
                f"column {name} reaches {largest:.6g}, beyond float16's 65504 and far from the 0 to 1 that most "
                f"networks expect; scale it in the configuration ({{name: {name}, scale: ...}})"
            )
    return tuple(found)


def warned_of_no_returns(cloud: PointCloud) -> PointCloud:
    """`cloud`, with a warning where more than 100 points and more than 1 % of them are at (0, 0, 0)."""
    few = max(_FEW_NO_RETURNS, len(cloud.values) // 100)
    zero = cloud.values[:, cloud.columns.index("x")] == 0
    for axis in "yz":
        if np.count_nonzero(zero) <= few:
            return cloud
        zero &= cloud.values[:, cloud.columns.index(axis)] == 0
    count = int(np.count_nonzero(zero))
    if count <= few:
        return cloud
    return replace(cloud, warnings=(*cloud.warnings, f"{count:,} points are (0,0,0), no-returns"))


def _steps_between(before: NDArray[np.float32], after: NDArray[np.float32]) -> Steps:
    with np.errstate(invalid="ignore", over="ignore"):
        start, end = before.astype(np.float64), after.astype(np.float64)
        squared = np.square(end - start).sum(axis=1)
    # NaN compares false, so this drops non-finite points as well.
    usable = (squared < np.inf) & start.any(axis=1) & end.any(axis=1)
    taken = squared[usable & (squared > 0)]
    if not len(taken):
        still = int(np.count_nonzero(usable))
        return Steps(0.0 if still else np.inf, still)
    # The upper median by a partition: numpy.median would import numpy.ma, which takes longer than reading the scan.
    middle = len(taken) // 2
    return Steps(float(np.sqrt(np.partition(taken, middle)[middle])), len(taken))


def _shortest(steps: Mapping[int, Steps], counts: Iterable[int]) -> int:
    return min(counts, key=lambda count: (steps[count].median, count))


def _is_clear(best: int, rivals: Iterable[int], steps: Mapping[int, Steps]) -> bool:
    """Whether `best` steps at least three times shorter than every rival.

    Six columns over a file of three take every other point and step only twice as far, so a multiple is no rival.
    It is answered by the counts that are none, whether they fit the size or not.
    """
    others = {count for count in rivals if count % best}
    if any(count % best == 0 and count != best for count in rivals):
        others |= {count for count in COUNTS if count % best}
    limit = steps[best].median * _CLEAR
    return np.isfinite(limit) and all(steps[count].median >= limit for count in others)


def _unconfirmed(best: int, fits: tuple[int, ...], steps: Mapping[int, Steps]) -> tuple[str, ...]:
    """A warning where only the size speaks for a count: shuffled points, or more columns than are looked for."""
    if len(fits) > 1 or steps[best].usable < _ENOUGH_STEPS or _is_clear(best, COUNTS, steps):
        return ()
    return (f"taken as {best} columns, the only count of 3 to 7 that fits, though consecutive points are not close",)


def _settle(
    values: NDArray[np.float32], fits: tuple[int, ...], steps: Mapping[int, Steps], source: str
) -> tuple[int, tuple[str, ...]]:
    """A count where the steps do not decide."""
    if not fits:
        raise InputError(
            f"{source}: {len(values)} float32 values do not divide into points of 3 to 7 columns; the file is cut "
            "short (copy it again) or has more columns (pass --columns)"
        )
    if len(fits) == 1:
        return fits[0], _unconfirmed(fits[0], fits, steps)
    if max(steps[count].usable for count in fits) < _ENOUGH_STEPS:
        count = next(count for count in _LIKELIEST if count in fits)
        listed = " or ".join(str(each) for each in fits)
        return count, (
            f"{listed} columns fit and there are too few points to decide, so it is taken as {count}; pass --columns",
        )
    listed = "; ".join(f"{count} columns: {len(values) // count} points, {_metres(steps[count])}" for count in fits)
    raise InputError(
        f"{source}: several column counts fit and the step between consecutive points does not tell them apart "
        f"({listed}); pass --columns"
    )


def _cut_short(values: int, best: int, steps: Mapping[int, Steps], source: str) -> str:
    rival = _shortest(steps, (count for count in COUNTS if count != best))
    return (
        f"{source}: its points step like {best} columns ({_against(best, rival, steps)}), which leaves {values % best} "
        f"of {values} float32 values over; the file is cut short: copy it again, or pass --columns"
    )


def _fitting(values: NDArray[np.float32]) -> str:
    fits = [str(count) for count in COUNTS if len(values) % count == 0]
    return f"they divide into {' or '.join(fits)}" if fits else "they divide into no count of 3 to 7"


def _against(best: int, other: int, steps: Mapping[int, Steps]) -> str:
    return f"{_metres(steps[best])} against {_metres(steps[other])}"


def _metres(steps: Steps) -> str:
    return f"median step {steps.median:.3g} m" if steps.usable else "no step"
