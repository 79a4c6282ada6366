"""Questions to rulebooks: how large they are, which rules match, and the hash tables that stand behind them."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.errors import InputError, UsageError
from spcli.geometry import ConvGeometry
from spcli.rulebook import Rulebook, RuleCounts

FIRST_CHUNK, LARGEST_CHUNK = 256, 65536

# What reading a damaged archive can end with.
_BROKEN = (OSError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, RuntimeError, SyntaxError,
           zipfile.BadZipFile, zlib.error)  # fmt: skip

Site = tuple[int, ...]
"""One integer is a row; D integers are a site of any batch, 1 + D a site and its batch."""


class KeyedRulebook(Struct, frozen=True):
    """A rulebook, the key it is known by, and the layers that use it."""

    key: str
    layers: tuple[str, ...]
    rulebook: Rulebook


class Query(Struct, frozen=True):
    """Which rules to show; None and the empty tuple mean all.

    Attributes:
        keys: rulebooks by key.
        tap: a kernel index by number.
        offset: the same by its centred offset, z, y, x.
        inputs, outputs: the site at either end.
        limit: most rules to show.
    """

    keys: tuple[str, ...] = ()
    tap: int | None = None
    offset: tuple[int, ...] | None = None
    inputs: Site | None = None
    outputs: Site | None = None
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


def load_rulebooks(path: str | os.PathLike[str]) -> dict[str, Rulebook]:
    """The rulebooks of a dump by key, as a run gives them.

    Raises:
        InputError: the file cannot be read or is no dump.
    """
    source = os.fspath(path)
    try:
        with open(source, "rb") as file:
            found = load_dump(file, source)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    if found is None:
        raise InputError(f"{source}: is no rulebook dump; write one with spcli run")
    return {keyed.key: keyed.rulebook for keyed in found}


def load_dump(file: BinaryIO, source: str, keys: Sequence[str] = ()) -> tuple[KeyedRulebook, ...] | None:
    """The rulebooks of a dump, those of `keys` if any are given, in the dump's order.

    None where `file` is no dump: an npz without `keys`, or no npz at all.

    Raises:
        InputError: the file is damaged, or its arrays are not a rulebook's.
        UsageError: the dump lacks one of `keys`.
    """
    if not zipfile.is_zipfile(file):
        file.seek(0)
        if file.read(4) == b"PK\x03\x04":
            raise InputError(f"{source}: is cut short, a zip without its end; copy or write it again")
        return None
    try:
        file.seek(0)
        with np.load(file, allow_pickle=False) as data:
            if "keys" not in data.files or data["keys"].dtype.kind != "U":
                return None
            known = data["keys"].tolist()
            check_keys(keys, known)
            return tuple(_load_key(data, key, source) for key in known if not keys or key in keys)
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: is not a whole rulebook dump ({reason}); write it again with spcli run") from error


def _load_key(data: Mapping[str, NDArray[Any]], key: str, source: str) -> KeyedRulebook:
    def sizes(field: str) -> tuple[int, ...]:
        return tuple(data[f"{key}/{field}"].tolist())

    geometry = ConvGeometry(
        kernel_size=sizes("kernel_size"),
        stride=sizes("stride"),
        padding=sizes("padding"),
        dilation=sizes("dilation"),
        output_padding=sizes("output_padding"),
        submanifold=bool(data[f"{key}/submanifold"]),
        transposed=bool(data[f"{key}/transposed"]),
    )
    in_indices, out_indices = data[f"{key}/in_indices"], data[f"{key}/out_indices"]
    batches = [int(indices[:, 0].max()) + 1 for indices in (in_indices, out_indices) if len(indices)]
    rulebook = Rulebook(
        geometry,
        in_indices,
        out_indices,
        data[f"{key}/in_rows"],
        data[f"{key}/out_rows"],
        data[f"{key}/pair_splits"],
        sizes("in_spatial_shape"),
        sizes("out_spatial_shape"),
        int(data[f"{key}/batch_size"]) if f"{key}/batch_size" in data else max(batches, default=1),
    )
    _check_integers(rulebook, f"{source}: {key}")
    _check(rulebook, f"{source}: {key}")
    return KeyedRulebook(key, tuple(str(name) for name in data[f"{key}/layers"]), rulebook)


def _check_integers(rulebook: Rulebook, place: str) -> None:
    axes = {"in_indices": 2, "out_indices": 2, "in_rows": 1, "out_rows": 1, "pair_splits": 1}
    for name, ndim in axes.items():
        array = getattr(rulebook, name)
        if array.dtype.kind not in "iu" or array.ndim != ndim:
            found = f"{array.dtype} of shape {list(array.shape)}"
            raise InputError(f"{place}/{name}: is {found}, not integers in {ndim} dimensions; write the dump again")


def _check(rulebook: Rulebook, place: str) -> None:
    """Refuses rules that point outside the sites, which a damaged or foreign file may hold."""
    geometry = rulebook.geometry
    shapes = [rulebook.in_indices.shape[1:], rulebook.out_indices.shape[1:]]
    sizes = (geometry.kernel_size, geometry.stride, rulebook.in_spatial_shape, rulebook.out_spatial_shape)
    if shapes != [(1 + geometry.ndim,)] * 2 or any(len(size) != geometry.ndim for size in sizes):
        raise InputError(f"{place}: its sizes and sites have different numbers of axes; write the dump again")
    splits = rulebook.pair_splits
    rules = len(rulebook.in_rows)
    if len(splits) != geometry.volume + 1 or splits[0] != 0 or splits[-1] != rules or np.any(np.diff(splits) < 0):
        raise InputError(f"{place}/pair_splits: does not divide {rules} rules among {geometry.volume} taps")
    ends = (("in", rulebook.in_rows, rulebook.in_indices), ("out", rulebook.out_rows, rulebook.out_indices))
    for end, rows, indices in ends:
        if len(rows) != rules or (rules and not 0 <= rows.min() <= rows.max() < len(indices)):
            raise InputError(f"{place}/{end}_rows: needs {rules} rows from 0 to {len(indices) - 1}")


def rule_counts(rulebook: Rulebook) -> RuleCounts:
    """A rulebook's sizes."""
    outputs = rulebook.out_rows
    return RuleCounts(
        len(rulebook.in_indices),
        len(rulebook.out_indices),
        rulebook.in_spatial_shape,
        rulebook.out_spatial_shape,
        rulebook.batch_size,
        tuple(np.diff(rulebook.pair_splits).tolist()),
        int(np.bincount(outputs).max()) if len(outputs) else 0,
    )


def summary(key: str, layers: Sequence[str], geometry: ConvGeometry, counts: RuleCounts) -> dict[str, Any]:
    """One rulebook in numbers, as `inspect-rulebook --summary` prints it."""
    mean = counts.pairs / counts.out_sites if counts.out_sites else None
    return {
        "key": key,
        "layers": list(layers),
        "kernel_size": list(geometry.kernel_size),
        "stride": list(geometry.stride),
        "padding": list(geometry.padding),
        "dilation": list(geometry.dilation),
        "submanifold": geometry.submanifold,
        "transposed": geometry.transposed,
        "in_sites": counts.in_sites,
        "out_sites": counts.out_sites,
        "in_spatial_shape": list(counts.in_spatial_shape),
        "out_spatial_shape": list(counts.out_spatial_shape),
        "batch_size": counts.batch_size,
        "pairs": counts.pairs,
        "pairs_per_offset": list(counts.pairs_per_offset),
        "offsets": [list(offset) for offset in geometry.offsets()],
        "pairs_per_output": {"mean": mean, "max": counts.pairs_per_output_max},
    }


def choose(rulebooks: Iterable[KeyedRulebook], keys: Sequence[str]) -> tuple[KeyedRulebook, ...]:
    """The rulebooks of `keys` in their own order, all of them where `keys` is empty.

    Raises:
        UsageError: a key does not exist.
    """
    rulebooks = tuple(rulebooks)
    check_keys(keys, [keyed.key for keyed in rulebooks])
    return tuple(keyed for keyed in rulebooks if not keys or keyed.key in keys)


def check_keys(keys: Sequence[str], known: Sequence[str]) -> None:
    """Every key that is asked for must exist.

    Raises:
        UsageError: one does not; lists those that do.
    """
    for key in keys:
        if key not in known:
            raise UsageError(f"--key {key}: no such rulebook; there are {', '.join(known) or 'none'}")


def rules(rulebooks: Iterable[KeyedRulebook], query: Query) -> Iterator[RuleChunk]:
    """The rules that match, in chunks that grow so that the first ones come at once.

    Raises:
        UsageError: a key, tap or offset that none of the rulebooks has, or a site with the wrong number of axes.
    """
    chosen = choose(rulebooks, query.keys)
    taps = {keyed.key: _taps(keyed.rulebook.geometry, query) for keyed in chosen}
    if chosen and not any(taps.values()):
        raise UsageError(f"{_tap_text(query)}: no such kernel index; {_kernels(chosen)}")
    left = query.limit
    for keyed in chosen:
        matches = _matches(keyed.rulebook, taps[keyed.key], query)[:left]
        left = None if left is None else left - len(matches)
        for positions in _chunks(matches):
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


def _matches(rulebook: Rulebook, taps: range, query: Query) -> NDArray[np.int64]:
    """Positions of the rules that match, ascending."""
    if not taps:
        return np.arange(0)
    start, stop = int(rulebook.pair_splits[taps.start]), int(rulebook.pair_splits[taps.stop])
    ends = (
        (query.inputs, "--in", rulebook.in_rows, rulebook.in_indices),
        (query.outputs, "--out", rulebook.out_rows, rulebook.out_indices),
    )
    mask: NDArray[np.bool_] | None = None
    for site, option, rows, indices in ends:
        if site is not None:
            hit = np.isin(rows[start:stop], rows_of(site, indices, option))
            mask = hit if mask is None else mask & hit
    return np.arange(start, stop) if mask is None else start + np.flatnonzero(mask)


def rows_of(site: Site, indices: NDArray[np.int32], option: str) -> NDArray[np.int64]:
    """The rows of `indices` `[N, 1 + D]` that a row number or a site names, none where it is not active.

    Raises:
        UsageError: the site has neither 1, D nor 1 + D numbers.
    """
    axes = indices.shape[1] - 1
    if len(site) == 1:
        return np.array([row for row in site if 0 <= row < len(indices)], np.int64)
    if len(site) not in (axes, axes + 1):
        given = ",".join(map(str, site))
        names = "Z,Y,X" if axes == 3 else "Y,X"
        raise UsageError(f"{option} {given}: give a row, {names} or B,{names} for sites of {axes} axes")
    return np.flatnonzero((indices[:, -len(site) :] == np.array(site)).all(axis=1))


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
        key: the rulebook's.
        table: `input` or `output`.
        indices: all sites of the table by row.
        rows: the rows of these entries.
    """

    key: str
    table: str
    indices: NDArray[np.int32]
    rows: NDArray[np.int64]


def hash_tables(rulebooks: Iterable[KeyedRulebook], query: Query) -> Iterator[TableChunk]:
    """The input and output tables of each rulebook; a submanifold one has the same table at both ends.

    `query.inputs` and `query.outputs` select entries of their table, one alone leaves the other table out.

    Raises:
        UsageError: a key that does not exist, or a site with the wrong number of axes.
    """
    left = query.limit
    for table in _tables(choose(rulebooks, query.keys), query):
        rows = table.rows[:left]
        left = None if left is None else left - len(rows)
        for some in _chunks(rows):
            yield TableChunk(table.key, table.table, table.indices, some)


def _tables(rulebooks: Sequence[KeyedRulebook], query: Query) -> Iterator[TableChunk]:
    one_end = (query.inputs is None) != (query.outputs is None)
    for keyed in rulebooks:
        ends = (
            ("input", query.inputs, "--in", keyed.rulebook.in_indices),
            ("output", query.outputs, "--out", keyed.rulebook.out_indices),
        )
        for table, site, option, indices in ends:
            if site is not None:
                yield TableChunk(keyed.key, table, indices, rows_of(site, indices, option))
            elif not one_end:
                yield TableChunk(keyed.key, table, indices, np.arange(len(indices)))
