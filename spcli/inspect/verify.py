"""Is a rulebook right? Every invariant, each with the first rule or site that breaks it.

Nothing here asks an engine for rules: the pair equation is applied to the sites themselves. `verify_rulebook` looks
at one rulebook alone; `verify_inverse` also has an engine swap its ends, as an inverse layer does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.engines.base import Engine
from spcli.geometry import ConvGeometry
from spcli.inspect.sites import SiteTable
from spcli.inspect.summary import asymmetric_tap
from spcli.rulebook import Rulebook


class Check(Struct, frozen=True):
    """One invariant of one rulebook.

    Attributes:
        key: the rulebook's.
        name: one of `CHECKS`, or `inverse`.
        ok: whether it holds; None where an earlier one failed that it builds on, or it does not apply.
        found: what breaks it, naming the first rule or site; empty where nothing does.
    """

    key: str
    name: str
    ok: bool | None
    found: str = ""


CHECKS = {
    "splits": "pair_splits divides the rules among the taps",
    "rows": "every rule joins rows that exist",
    "shapes": "the output's shape follows from the input's",
    "sites": "every site lies in its shape and batch",
    "input table": "one site per row and one row per site, in canonical order",
    "output table": "the same for the outputs",
    "pair equation": "every rule satisfies the pair equation",
    "order": "rules stand by tap and then by output row",
    "duplicates": "no rule stands twice",
    "centre": "the centre tap of a submanifold rulebook joins every site with itself",
    "mirror": "tap k of a submanifold rulebook is tap V - 1 - k with its ends swapped",
    "transposed": "read from outputs to inputs, each tap's rules are canonical too",
    "complete": "no pair of sites that satisfies the equation lacks its rule, and every output has one",
}
"""What is checked, in order. The first six make sense of the rest, which are left out where one of them fails."""

GROUNDS = 6


def verify_rulebook(book: Rulebook, key: str = "") -> tuple[Check, ...]:
    """All checks of one rulebook; `key` is what the checks call it."""
    done: list[Check] = []
    for number, (name, look) in enumerate(_LOOKS.items()):
        broken = any(check.ok is False for check in done[: min(number, GROUNDS)])
        if broken or (name in ("centre", "mirror") and not book.geometry.submanifold):
            done.append(Check(key, name, None))
        else:
            found = look(book)
            done.append(Check(key, name, not found, found))
    return tuple(done)


def verify_inverse(book: Rulebook, engine: Engine, key: str = "") -> Check:
    """Whether the rules an engine's inverse map has are these with their ends swapped."""
    made = engine.build(engine.sites(book.in_indices, book.in_spatial_shape, book.batch_size), book.geometry)
    inverse = engine.rulebook(engine.invert(made))
    swapped = (
        ("splits", inverse.pair_splits, book.pair_splits),
        ("inputs", inverse.in_rows, book.out_rows),
        ("outputs", inverse.out_rows, book.in_rows),
        ("input sites", inverse.in_indices, book.out_indices),
        ("output sites", inverse.out_indices, book.in_indices),
    )
    for what, found, expected in swapped:
        if not np.array_equal(found, expected):
            return Check(key, "inverse", False, f"the {what} of the inverse are not those of the rules, swapped")
    return Check(key, "inverse", True)


def rule_text(book: Rulebook, rule: int) -> str:
    """A rule by its tap, offset, count, rows and, where they exist, sites."""
    tap = int(np.searchsorted(book.pair_splits, rule, side="right")) - 1
    offset = ",".join(map(str, book.geometry.offsets()[tap]))
    ends = []
    for name, rows, indices in (("in", book.in_rows, book.in_indices), ("out", book.out_rows, book.out_indices)):
        row = int(rows[rule])
        at = f" at {indices[row].tolist()}" if 0 <= row < len(indices) else ""
        ends.append(f"{name} {row}{at}")
    return f"tap {tap} (offset {offset}), rule {rule - int(book.pair_splits[tap])}: {', '.join(ends)}"


def _splits(book: Rulebook) -> str:
    splits, rules, volume = book.pair_splits, len(book.in_rows), book.geometry.volume
    if len(book.out_rows) != rules:
        return f"there are {rules} in_rows and {len(book.out_rows)} out_rows"
    if len(splits) != volume + 1:
        return f"there are {len(splits)} splits where {volume} taps need {volume + 1}"
    falls = np.flatnonzero(np.diff(splits) < 0)
    if len(falls):
        tap = int(falls[0])
        return f"tap {tap} starts at rule {splits[tap]} and ends at {splits[tap + 1]}"
    if splits[0] != 0 or splits[-1] != rules:
        return f"the taps hold rules {splits[0]} to {splits[-1]} and there are 0 to {rules}"
    return ""


def _rows(book: Rulebook) -> str:
    wrong = (book.in_rows < 0) | (book.in_rows >= len(book.in_indices))
    wrong |= (book.out_rows < 0) | (book.out_rows >= len(book.out_indices))
    return _first_rule(book, wrong, f"there are {len(book.in_indices)} inputs and {len(book.out_indices)} outputs")


def _first_rule(book: Rulebook, wrong: NDArray[np.bool_], why: str) -> str:
    rules = np.flatnonzero(wrong)
    if not len(rules):
        return ""
    more = f" ({len(rules)} such rules)" if len(rules) > 1 else ""
    return f"{rule_text(book, int(rules[0]))}: {why}{more}"


def _shapes(book: Rulebook) -> str:
    geometry = book.geometry
    for name, sizes in (("stride", geometry.stride), ("dilation", geometry.dilation)):
        if min(sizes) < 1:
            return f"the {name} is {list(sizes)} where every axis needs 1 or more"
    expected = book.geometry.out_spatial_shape(book.in_spatial_shape)
    if expected == book.out_spatial_shape:
        return ""
    return f"the output's shape is {list(book.out_spatial_shape)} where {list(expected)} follows from the input's"


def _sites(book: Rulebook) -> str:
    ends = (("input", book.in_indices, book.in_spatial_shape), ("output", book.out_indices, book.out_spatial_shape))
    for end, indices, shape in ends:
        bounds = np.array((book.batch_size, *shape), np.int64)
        outside = np.flatnonzero(((indices < 0) | (indices >= bounds)).any(axis=1))
        if len(outside):
            row = int(outside[0])
            return f"{end} row {row} at {indices[row].tolist()} lies outside batch and shape {bounds.tolist()}"
    return ""


def _table(end: str, indices: NDArray[np.int32]) -> str:
    """A hash table is bijective and its rows canonical exactly if each row comes strictly after the one before."""
    before, after = indices[:-1].astype(np.int64), indices[1:].astype(np.int64)
    steps = np.sign(after - before)
    first = np.zeros(len(steps), np.int64)
    for axis in range(steps.shape[1]):
        first = np.where(first == 0, steps[:, axis], first)
    wrong = np.flatnonzero(first <= 0)
    if not len(wrong):
        return _twice(end, indices)
    row = int(wrong[0]) + 1
    how = "is the same site as" if first[row - 1] == 0 else "comes before the site of"
    return f"{end} row {row} at {indices[row].tolist()} {how} row {row - 1}"


def _twice(end: str, indices: NDArray[np.int32]) -> str:
    """Looks every site up: the row that is found must be the row it came from."""
    rows = SiteTable(indices).rows(indices)
    wrong = np.flatnonzero(rows != np.arange(len(indices)))
    return (
        f"{end} row {wrong[0]} at {indices[wrong[0]].tolist()} is found in row {rows[wrong[0]]}" if len(wrong) else ""
    )


def _equation(book: Rulebook) -> str:
    geometry = book.geometry
    taps = np.repeat(np.arange(geometry.volume), np.diff(book.pair_splits))
    kernel = np.array(list(np.ndindex(*geometry.kernel_size)), np.int64)[taps]
    inputs, outputs = (
        indices[rows].astype(np.int64)
        for indices, rows in ((book.in_indices, book.in_rows), (book.out_indices, book.out_rows))
    )
    start, end = (inputs, outputs) if geometry.transposed else (outputs, inputs)
    reached = np.array(geometry.stride) * start[:, 1:] - geometry.padding + np.array(geometry.dilation) * kernel
    wrong = (reached != end[:, 1:]).any(axis=1) | (inputs[:, 0] != outputs[:, 0])
    ends = ("out", "in") if geometry.transposed else ("in", "out")
    return _first_rule(book, wrong, f"{ends[0]} is not stride * {ends[1]} - padding + dilation * k")


def _within_taps(book: Rulebook, rows: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The steps from each rule's row to the next one's, and which of them stay in one tap."""
    wide = rows.astype(np.int64)
    steps = wide[1:] - wide[:-1]
    inside = np.ones(len(steps), bool)
    borders = book.pair_splits[1:-1] - 1
    inside[borders[(borders >= 0) & (borders < len(steps))]] = False
    return steps, inside


def _order(book: Rulebook) -> str:
    steps, inside = _within_taps(book, book.out_rows)
    wrong = np.append(False, inside & (steps < 0)) if len(book.out_rows) else np.zeros(0, bool)
    return _first_rule(book, wrong, "its output row is below that of the rule before")


def _duplicates(book: Rulebook) -> str:
    taps = np.repeat(np.arange(book.geometry.volume, dtype=np.int64), np.diff(book.pair_splits))
    codes = (taps * max(1, len(book.in_indices)) + book.in_rows) * max(1, len(book.out_indices)) + book.out_rows
    first = np.unique(codes, return_index=True)[1]
    again = np.ones(len(codes), bool)
    again[first] = False
    return _first_rule(book, again, "stands twice")


def _centre(book: Rulebook) -> str:
    if not np.array_equal(book.in_indices, book.out_indices):
        return "the output sites are not the input sites"
    tap = book.geometry.volume // 2
    low, high = int(book.pair_splits[tap]), int(book.pair_splits[tap + 1])
    wrong = np.zeros(len(book.in_rows), bool)
    wrong[low:high] = book.in_rows[low:high] != book.out_rows[low:high]
    found = _first_rule(book, wrong, "the centre joins a site with itself")
    if found or high - low == len(book.in_indices):
        return found
    missing = np.setdiff1d(np.arange(len(book.in_indices)), book.in_rows[low:high])[:1].tolist()
    return f"the centre, tap {tap}, has {high - low} rules for {len(book.in_indices)} sites; row {missing} has none"


def _mirror(book: Rulebook) -> str:
    tap = asymmetric_tap(book)
    if tap is None:
        return ""
    other = book.geometry.volume - 1 - tap
    sides = [
        set(zip(ends[0][part].tolist(), ends[1][part].tolist(), strict=True))
        for part, ends in (
            (_slice(book, tap), (book.in_rows, book.out_rows)),
            (_slice(book, other), (book.out_rows, book.in_rows)),
        )
    ]
    for (has, lacks), pairs in (((tap, other), sides[0] - sides[1]), ((other, tap), sides[1] - sides[0])):
        if pairs:
            one, two = min(pairs)
            joined = (one, two) if has == tap else (two, one)
            return (
                f"tap {has} joins in {joined[0]} and out {joined[1]}, and tap {lacks} does not join them the other way"
            )
    return f"the rules of tap {tap} are those of tap {other}, swapped, in another order"


def _slice(book: Rulebook, tap: int) -> slice:
    return slice(int(book.pair_splits[tap]), int(book.pair_splits[tap + 1]))


def _transposed(book: Rulebook) -> str:
    steps, inside = _within_taps(book, book.in_rows)
    wrong = np.append(False, inside & (steps <= 0)) if len(book.in_rows) else np.zeros(0, bool)
    return _first_rule(book, wrong, "its input row does not come after that of the rule before")


def _complete(book: Rulebook) -> str:
    """Applies the pair equation to every input site and tap; the rules must be exactly what comes out."""
    table = SiteTable(book.out_indices)
    for tap, kernel in enumerate(np.ndindex(*book.geometry.kernel_size)):
        sites, rows = reached_sites(book, kernel)
        found = table.rows(sites)
        lost = np.flatnonzero(found < 0)
        if len(lost) and not book.geometry.submanifold:
            at, row = sites[lost[0]].tolist(), int(rows[lost[0]])
            return f"in {row} at {book.in_indices[row].tolist()} reaches {at} by tap {tap}, which is no output site"
        part, active = _slice(book, tap), found >= 0
        rows, found = rows[active], found[active]
        if np.array_equal(rows, book.in_rows[part]) and np.array_equal(found, book.out_rows[part]):
            continue
        expected = set(zip(rows.tolist(), found.tolist(), strict=True))
        have = set(zip(book.in_rows[part].tolist(), book.out_rows[part].tolist(), strict=True))
        if expected - have:
            row, out = min(expected - have)
            places = f"in {row} at {book.in_indices[row].tolist()} and out {out} at {book.out_indices[out].tolist()}"
            return f"tap {tap} lacks the rule that joins {places}"
    fed = np.bincount(book.out_rows, minlength=len(book.out_indices))
    alone = np.flatnonzero(fed == 0)
    return f"out {alone[0]} at {book.out_indices[alone[0]].tolist()} has no rule" if len(alone) else ""


def reached_sites(book: Rulebook, kernel: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The output cells `[M, 1 + D]` that inputs reach through one kernel index, and the rows of those inputs."""
    geometry: ConvGeometry = book.geometry
    sites = book.in_indices.astype(np.int64)
    stride, padding = np.array(geometry.stride), np.array(geometry.padding)
    shift = np.array(geometry.dilation) * kernel
    if geometry.transposed:
        cells = stride * sites[:, 1:] - padding + shift
        good = np.ones(len(sites), bool)
    else:
        cells, rest = np.divmod(sites[:, 1:] + padding - shift, stride)
        good = (rest == 0).all(axis=1)
    good &= ((cells >= 0) & (cells < np.array(book.out_spatial_shape))).all(axis=1)
    rows = np.flatnonzero(good)
    return np.concatenate([sites[rows, :1], cells[rows]], axis=1), rows


_LOOKS: dict[str, Callable[[Rulebook], str]] = {
    "splits": _splits,
    "rows": _rows,
    "shapes": _shapes,
    "sites": _sites,
    "input table": lambda book: _table("input", book.in_indices),
    "output table": lambda book: _table("output", book.out_indices),
    "pair equation": _equation,
    "order": _order,
    "duplicates": _duplicates,
    "centre": _centre,
    "mirror": _mirror,
    "transposed": _transposed,
    "complete": _complete,
}
