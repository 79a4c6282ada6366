"""Which site is meant: a row, a site, or a point in metres; and which row a site has."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.errors import UsageError
from spcli.placement import Placement

KEY_LIMIT = 2**62

Site = tuple[int, ...]
"""One integer is a row; D integers are a site of any batch, 1 + D a site and its batch."""


class Metres(Struct, frozen=True):
    """A point: metres in the frame of the scan."""

    x: float
    y: float
    z: float

    def __str__(self) -> str:
        return "@" + ",".join(f"{metres:g}" for metres in (self.x, self.y, self.z))


Where = Site | Metres
"""What names a site."""


def resolve(where: Where, placement: Placement | None, option: str) -> Site:
    """The row or site that is meant, among sites that lie as `placement` says.

    Raises:
        UsageError: metres, and it is not known where the sites lie, or no float32 counts the voxels to them.
    """
    if not isinstance(where, Metres):
        return where
    if placement is None:
        remedy = "give a row or a site, or a scan and its --config"
        raise UsageError(f"{option} {where}: this input does not say where its sites lie in metres; {remedy}")
    site = placement.site_at((where.x, where.y, where.z))
    if site is None:
        raise UsageError(f"{where}: lies too far away to be in any voxel; give metres in the frame of the scan")
    return site


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


def only_row(where: Where, placement: Placement | None, indices: NDArray[np.int32], name: str) -> int:
    """The row of an output site of `name`.

    Raises:
        UsageError: it is not active, names the nearest active one; or it is active in several scans of the batch.
    """
    site = resolve(where, placement, "SITE")
    rows = rows_of(site, indices, "SITE")
    if not len(rows):
        raise UsageError(absent(where, site, indices, f"output of {name}"))
    if len(rows) > 1:
        raise UsageError(f"SITE {text_of(where)}: is active in {len(rows)} scans of the batch; put the batch first")
    return int(rows[0])


def absent(where: Where, site: Site, indices: NDArray[np.int32], what: str) -> str:
    """That a site has no row, and the active one nearest to it by Euclidean distance in cells."""
    named = f"{where} is the site {text_of(site)}, which" if isinstance(where, Metres) else text_of(site)
    if not len(indices):
        return f"{named} is no active {what}; there is none"
    if len(site) == 1:
        return f"{named} names no {what}; there are rows 0 to {len(indices) - 1}"
    differences = indices[:, -len(site) :].astype(np.float64) - np.array(site, np.float64)
    row = int(np.argmin((differences**2).sum(axis=1)))
    near = text_of(tuple(indices[row, -len(site) :].tolist()))
    return f"{named} is no active {what}; the nearest one is {near}, row {row}"


def text_of(where: Where) -> str:
    """A site as the command line takes it."""
    return str(where) if isinstance(where, Metres) else ",".join(map(str, where))


class SiteTable:
    """From sites to rows, by binary search; a site that occurs twice gives one of its rows."""

    def __init__(self, indices: NDArray[np.integer[Any]]) -> None:
        """`indices` is `[N, 1 + D]` in any order."""
        columns = indices.astype(np.int64).T
        self._low = [int(column.min()) if len(column) else 0 for column in columns]
        self._sizes = [int(column.max()) - int(column.min()) + 1 if len(column) else 0 for column in columns]
        self._ranks: list[NDArray[np.int64]] | None = None
        product = 1
        for size in self._sizes:
            product *= size
        if product >= KEY_LIMIT:  # sites far apart: number the values that each axis takes
            self._ranks = [np.unique(column) for column in columns]
        keys = self._keys(columns)[0]
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def rows(self, sites: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The row of each of `sites` `[M, 1 + D]`, -1 where it is not in the table."""
        if not len(self._sorted):
            return np.full(len(sites), -1, np.int64)
        keys, known = self._keys(sites.astype(np.int64).T)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(known & (self._sorted[at] == keys), self._order[at], -1)

    def _keys(self, columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """One number per site, and whether every axis has a value that occurs in the table."""
        keys = np.zeros(columns.shape[1], np.int64)
        known = np.ones(columns.shape[1], bool)
        for axis, column in enumerate(columns):
            if self._ranks is None:
                digits, size = column - self._low[axis], self._sizes[axis]
                inside = (digits >= 0) & (digits < size)
            else:
                values = self._ranks[axis]
                digits, size = np.searchsorted(values, column), len(values)
                inside = (digits < size) & (values[np.minimum(digits, size - 1)] == column)
            known &= inside
            keys = keys * size + np.where(inside, digits, 0)
        return keys, known
