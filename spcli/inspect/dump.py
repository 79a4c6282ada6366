"""Rulebook dumps in: the arrays of `STEM.rulebooks.npz` back to rulebooks."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.errors import InputError, UsageError
from spcli.geometry import ConvGeometry
from spcli.placement import Placement
from spcli.readers.strict_json import parse_json
from spcli.rulebook import Rulebook

# What reading a damaged archive can end with.
_BROKEN = (OSError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, RuntimeError, SyntaxError,
           zipfile.BadZipFile, zlib.error)  # fmt: skip


class KeyedRulebook(Struct, frozen=True):
    """A rulebook, the key it is known by, the layers that use it, and where its two ends lie if that is known."""

    key: str
    layers: tuple[str, ...]
    rulebook: Rulebook
    in_placement: Placement | None = None
    out_placement: Placement | None = None

    def sites(self, end: str) -> tuple[NDArray[np.int32], Placement | None]:
        """The indices of one end, "in" or "out", and where they lie."""
        if end == "in":
            return self.rulebook.in_indices, self.in_placement
        return self.rulebook.out_indices, self.out_placement


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


def load_dump(
    file: BinaryIO, source: str, keys: Sequence[str] = (), *, check: bool = True
) -> tuple[KeyedRulebook, ...] | None:
    """The rulebooks of a dump, those of `keys` if any are given, in the dump's order.

    None where `file` is no dump: an npz without `keys`, or no npz at all. `check` False lets rules through that
    point outside the sites, for `verify` to name.

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
            meta = _meta(data)
            return tuple(_load_key(data, key, source, meta, check) for key in known if not keys or key in keys)
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: is not a whole rulebook dump ({reason}); write it again with spcli run") from error


def _meta(data: Any) -> Any:
    """The dump's `meta` object; None where it has none, or none that can be read."""
    try:
        return parse_json(str(data["meta"]))
    except (KeyError, ValueError):
        return None


def _load_key(data: Mapping[str, NDArray[Any]], key: str, source: str, meta: Any, check: bool) -> KeyedRulebook:
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
    _check_axes(rulebook, f"{source}: {key}")
    if check:
        _check_rules(rulebook, f"{source}: {key}")
    layers = tuple(str(name) for name in data[f"{key}/layers"])
    return KeyedRulebook(key, layers, rulebook, *_placements(meta, key, geometry.ndim))


def _placements(meta: Any, key: str, ndim: int) -> tuple[Placement | None, Placement | None]:
    """Where the input and output sites of a key lie, by the dump's `meta`."""
    try:
        strides = [meta["strides"][key][end] for end in ("in", "out")]
    except (KeyError, TypeError):
        return None, None
    found = [Placement.from_meta({**meta, "stride": stride}, ndim) for stride in strides]
    return found[0], found[1]


def _check_integers(rulebook: Rulebook, name: str) -> None:
    axes = {"in_indices": 2, "out_indices": 2, "in_rows": 1, "out_rows": 1, "pair_splits": 1}
    for field, ndim in axes.items():
        array = getattr(rulebook, field)
        if array.dtype.kind not in "iu" or array.ndim != ndim:
            found = f"{array.dtype} of shape {list(array.shape)}"
            raise InputError(f"{name}/{field}: is {found}, not integers in {ndim} dimensions; write the dump again")


def _check_axes(rulebook: Rulebook, name: str) -> None:
    """Refuses sizes and sites of different numbers of axes."""
    geometry = rulebook.geometry
    shapes = [rulebook.in_indices.shape[1:], rulebook.out_indices.shape[1:]]
    sizes = (geometry.kernel_size, geometry.stride, rulebook.in_spatial_shape, rulebook.out_spatial_shape)
    if shapes != [(1 + geometry.ndim,)] * 2 or any(len(size) != geometry.ndim for size in sizes):
        raise InputError(f"{name}: its sizes and sites have different numbers of axes; write the dump again")


def _check_rules(rulebook: Rulebook, name: str) -> None:
    """Refuses rules that point outside the sites, which a damaged or foreign file may hold."""
    geometry = rulebook.geometry
    splits = rulebook.pair_splits
    rules = len(rulebook.in_rows)
    if len(splits) != geometry.volume + 1 or splits[0] != 0 or splits[-1] != rules or np.any(np.diff(splits) < 0):
        raise InputError(f"{name}/pair_splits: does not divide {rules} rules among {geometry.volume} taps")
    ends = (("in", rulebook.in_rows, rulebook.in_indices), ("out", rulebook.out_rows, rulebook.out_indices))
    for end, rows, indices in ends:
        if len(rows) != rules or (rules and not 0 <= rows.min() <= rows.max() < len(indices)):
            raise InputError(f"{name}/{end}_rows: needs {rules} rows from 0 to {len(indices) - 1}")


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
