"""Two sets of rulebooks compared by what they say, whatever the numbers of their rows: keys, sizes, sites and rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.inspect.sites import SiteTable
from spcli.rulebook import Rulebook

SIZES = ("kernel_size", "stride", "padding", "dilation", "output_padding", "submanifold", "transposed")
SHAPES = ("in_spatial_shape", "out_spatial_shape", "batch_size")


class Difference(Struct, frozen=True):
    """Something that only one side has.

    Attributes:
        only_in: "a" or "b"; "both" for sizes that differ.
        key: the rulebook's.
        what: `key`, `size`, `input_site`, `output_site` or `rule`.
        tap, offset: of a rule.
        in_site, out_site: batch, z, y, x; of a rule both.
        size: name and both values, of a size.
    """

    only_in: str
    key: str
    what: str
    tap: int | None = None
    offset: tuple[int, ...] | None = None
    in_site: tuple[int, ...] | None = None
    out_site: tuple[int, ...] | None = None
    size: tuple[str, object, object] | None = None


def diff_rulebooks(ours: Mapping[str, Rulebook], theirs: Mapping[str, Rulebook]) -> Iterator[Difference]:
    """All differences between a (`ours`) and b (`theirs`), key by key; where sizes differ, rules are not compared."""
    for key in dict.fromkeys((*ours, *theirs)):
        if key not in theirs or key not in ours:
            yield Difference("b" if key in theirs else "a", key, "key")
            continue
        sizes = list(_sizes(key, ours[key], theirs[key]))
        yield from sizes
        if not any(difference.size and difference.size[0] in SIZES for difference in sizes):
            yield from _sites(key, ours[key], theirs[key])
            yield from _rules(key, ours[key], theirs[key])


def _sizes(key: str, a: Rulebook, b: Rulebook) -> Iterator[Difference]:
    for names, one, other in ((SIZES, a.geometry, b.geometry), (SHAPES, a, b)):
        for name in names:
            values = getattr(one, name), getattr(other, name)
            if values[0] != values[1]:
                yield Difference("both", key, "size", size=(name, *values))


def _sites(key: str, a: Rulebook, b: Rulebook) -> Iterator[Difference]:
    for what, end in (("input_site", "in"), ("output_site", "out")):
        ours, theirs = (getattr(book, f"{end}_indices") for book in (a, b))
        for side, indices, others in (("a", ours, theirs), ("b", theirs, ours)):
            for row in np.flatnonzero(SiteTable(others).rows(indices) < 0).tolist():
                site = tuple(indices[row].tolist())
                yield (
                    Difference(side, key, what, in_site=site)
                    if end == "in"
                    else Difference(side, key, what, out_site=site)
                )


def _rules(key: str, a: Rulebook, b: Rulebook) -> Iterator[Difference]:
    """Rules by tap and sites."""
    codes = _codes(a, b)
    offsets = a.geometry.offsets()
    for side, book, own, others in (("a", a, *codes), ("b", b, *codes[::-1])):
        for rule in np.flatnonzero(~np.isin(own, others)).tolist():
            tap = int(np.searchsorted(book.pair_splits, rule, side="right")) - 1
            ends = book.in_indices[book.in_rows[rule]], book.out_indices[book.out_rows[rule]]
            in_site, out_site = (tuple(site.tolist()) for site in ends)
            yield Difference(side, key, "rule", tap, offsets[tap], in_site, out_site)


def _codes(a: Rulebook, b: Rulebook) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One number per rule, the same on both sides for the same tap and sites."""
    ends = [_common_rows(getattr(a, f"{end}_indices"), getattr(b, f"{end}_indices")) for end in ("in", "out")]
    (in_a, in_b, ins), (out_a, out_b, outs) = ends
    return _coded(a, in_a, out_a, ins, outs), _coded(b, in_b, out_b, ins, outs)


def _common_rows(a: NDArray[np.int32], b: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Numbers of the sites of both sides, equal for equal sites, and how many there may be."""
    rows = SiteTable(a).rows(b)
    return np.arange(len(a)), np.where(rows < 0, len(a) + np.arange(len(b)), rows), len(a) + len(b)


def _coded(
    book: Rulebook, in_numbers: NDArray[np.int64], out_numbers: NDArray[np.int64], ins: int, outs: int
) -> NDArray[np.int64]:
    taps = np.repeat(np.arange(book.geometry.volume, dtype=np.int64), np.diff(book.pair_splits))
    return (taps * max(ins, 1) + in_numbers[book.in_rows]) * max(outs, 1) + out_numbers[book.out_rows]
