"""Which rules match, and the hash tables that stand behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.errors import UsageError
from spcli.geometry import ConvGeometry
from spcli.inspect.dump import KeyedRulebook, choose
from spcli.inspect.sites import Where, absent, resolve, rows_of

FIRST_CHUNK, LARGEST_CHUNK = 256, 65536


class Query(Struct, frozen=True):
    """Which rules to show; None and the empty tuple mean all.

    Attributes:
        keys: rulebooks by key.
        tap: a kernel index by number.
        offset: the same by its centred offset, z, y, x.
        inputs, outputs: the site at either end, or a point in metres.
        limit: most rules to show.
    """

    keys: tuple[str, ...] = ()
    tap: int | None = None
    offset: tuple[int, ...] | None = None
    inputs: Where | None = None
    outputs: Where | None = None
    limit: int | None = None


class RuleChunk(Struct, frozen=True):
    """Some rules of one rulebook, in canonical order.

    Attributes:
        source: the rulebook.
        taps: `[n]`, each rule's kernel index.
        counts: `[n]`, each rule's number within its tap, from 0, whatever was filtered out.
        in_rows, out_rows: `[n]`.
    """

    source: KeyedRulebook
    taps: NDArray[np.int64]
    counts: NDArray[np.int64]
    in_rows: NDArray[np.int32]
    out_rows: NDArray[np.int32]


def rules(rulebooks: Iterable[KeyedRulebook], query: Query) -> Iterator[RuleChunk]:
    """The rules that match, in chunks that grow so that the first ones come at once.

    Raises:
        UsageError: a key, tap or offset that none of the rulebooks has, or a site with the wrong number of axes.
    """
    left = query.limit
    for keyed, taps in _chosen(rulebooks, query):
        for chunk in _rules(keyed, taps, query, left):
            left = None if left is None else left - len(chunk.taps)
            yield chunk


def _chosen(rulebooks: Iterable[KeyedRulebook], query: Query) -> list[tuple[KeyedRulebook, range]]:
    """The rulebooks a query asks for, and their taps."""
    chosen = [(keyed, _taps(keyed.rulebook.geometry, query)) for keyed in choose(rulebooks, query.keys)]
    if chosen and not any(taps for _, taps in chosen):
        raise UsageError(f"{_tap_text(query)}: no such kernel index; {_kernels([keyed for keyed, _ in chosen])}")
    return chosen


def _rules(keyed: KeyedRulebook, taps: range, query: Query, limit: int | None) -> Iterator[RuleChunk]:
    for positions in _chunks(_matches(keyed, taps, query)[:limit]):
        yield _chunk(keyed, positions)


def _taps(geometry: ConvGeometry, query: Query) -> range:
    """The taps a query asks for, none where the kernel does not have them."""
    tap = query.tap
    if query.offset is not None:
        offsets = geometry.offsets()
        at = offsets.index(query.offset) if query.offset in offsets else -1
        tap = at if tap in (None, at) else -1
    if tap is None:
        return range(geometry.volume)
    return range(tap, tap + 1) if 0 <= tap < geometry.volume else range(0)


def _tap_text(query: Query) -> str:
    words = []
    if query.tap is not None:
        words.append(f"--tap {query.tap}")
    if query.offset is not None:
        words.append(f"--offset {','.join(map(str, query.offset))}")
    return " ".join(words)


def _kernels(rulebooks: Sequence[KeyedRulebook]) -> str:
    sizes = dict.fromkeys(keyed.rulebook.geometry.kernel_size for keyed in rulebooks)
    parts = []
    for size in sizes:
        offsets = ConvGeometry(size, size, size, size, size).offsets()
        low, high = (",".join(map(str, offsets[end])) for end in (0, -1))
        parts.append(f"a {'x'.join(map(str, size))} kernel has taps 0 to {len(offsets) - 1}, offsets {low} to {high}")
    return "; ".join(parts)


def _matches(keyed: KeyedRulebook, taps: range, query: Query) -> NDArray[np.int64]:
    """Positions of the rules that match, ascending."""
    if not taps:
        return np.arange(0)
    rulebook = keyed.rulebook
    start, stop = int(rulebook.pair_splits[taps.start]), int(rulebook.pair_splits[taps.stop])
    mask: NDArray[np.bool_] | None = None
    for end, where in (("in", query.inputs), ("out", query.outputs)):
        if where is not None:
            rows = rulebook.in_rows if end == "in" else rulebook.out_rows
            hit = np.isin(rows[start:stop], rows_at(keyed, where, end))
            mask = hit if mask is None else mask & hit
    return np.arange(start, stop) if mask is None else start + np.flatnonzero(mask)


def rows_at(keyed: KeyedRulebook, where: Where, end: str, option: str = "") -> NDArray[np.int64]:
    """The rows of one end ("in" or "out") that a row, a site or a point names, none where it is not active.

    Raises:
        UsageError: the site has the wrong number of axes, or metres are given and nothing says where sites lie.
    """
    option = option or f"--{end}"
    indices, placement = keyed.sites(end)
    return rows_of(resolve(where, placement, option), indices, option)


def absence(keyed: KeyedRulebook, where: Where, end: str) -> str | None:
    """Why a site of one end ("in" or "out") has no row, with the active one nearest to it; None where it has one."""
    indices, placement = keyed.sites(end)
    site = resolve(where, placement, f"--{end}")
    if len(rows_of(site, indices, f"--{end}")):
        return None
    return absent(where, site, indices, f"{end}put site of {keyed.key}")


def _chunks(positions: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    start, size = 0, FIRST_CHUNK
    while start < len(positions):
        yield positions[start : start + size]
        start += size
        size = min(2 * size, LARGEST_CHUNK)


def _chunk(keyed: KeyedRulebook, positions: NDArray[np.int64]) -> RuleChunk:
    rulebook = keyed.rulebook
    taps = np.searchsorted(rulebook.pair_splits, positions, side="right") - 1
    return RuleChunk(
        keyed,
        taps,
        positions - rulebook.pair_splits[taps],
        rulebook.in_rows[positions],
        rulebook.out_rows[positions],
    )


class TableChunk(Struct, frozen=True):
    """Some entries of one hash table: a site is the key and its row the value.

    Attributes:
        source: the rulebook.
        table: `input` or `output`.
        indices: all sites of the table by row.
        rows: the rows of these entries.
    """

    source: KeyedRulebook
    table: str
    indices: NDArray[np.int32]
    rows: NDArray[np.int64]


def hash_tables(rulebooks: Iterable[KeyedRulebook], query: Query) -> Iterator[TableChunk | RuleChunk]:
    """What the papers draw of each rulebook: the input table, the output table, and the rules between them.

    A submanifold rulebook has the same table at both ends. `query.inputs` and `query.outputs` select entries of their
    table and the rules of these sites; one alone leaves the other table out.

    Raises:
        UsageError: a key, tap or offset that does not exist, or a site with the wrong number of axes.
    """
    left = query.limit
    for keyed, taps in _chosen(rulebooks, query):
        for table in _tables(keyed, query):
            rows = table.rows[:left]
            left = None if left is None else left - len(rows)
            for some in _chunks(rows):
                yield TableChunk(keyed, table.table, table.indices, some)
        for chunk in _rules(keyed, taps, query, left):
            left = None if left is None else left - len(chunk.taps)
            yield chunk


def _tables(keyed: KeyedRulebook, query: Query) -> Iterator[TableChunk]:
    one_end = (query.inputs is None) != (query.outputs is None)
    ends = (
        ("input", query.inputs, "in", keyed.rulebook.in_indices),
        ("output", query.outputs, "out", keyed.rulebook.out_indices),
    )
    for table, where, end, indices in ends:
        if where is not None:
            yield TableChunk(keyed, table, indices, rows_at(keyed, where, end))
        elif not one_end:
            yield TableChunk(keyed, table, indices, np.arange(len(indices)))
