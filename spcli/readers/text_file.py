"""Points as text: `.xyz` and its relatives, one point a line, numbers apart by blanks, commas or semicolons.

Read with numpy rather than open3d: open3d takes 1.5 s to import, drops every column after z of an `.xyz`, and gives no
points at all, without a reason, where one line is wrong.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError
from spcli.points import PointCloud
from spcli.readers.columns import attribute_warnings, names_for
from spcli.readers.convert import to_float32
from spcli.readers.scan import Columns, RawScan

# What the suffix says about columns beyond x, y, z; other names have x, y, z, intensity, ring.
_NAMES_BY_SUFFIX = {
    (".xyzn", 6): ("x", "y", "z", "nx", "ny", "nz"),
    (".xyzrgb", 6): ("x", "y", "z", "r", "g", "b"),
    (".pts", 6): ("x", "y", "z", "r", "g", "b"),
    (".pts", 7): ("x", "y", "z", "intensity", "r", "g", "b"),
}

# Every decimal fraction is rounded; only coordinates far from the origin lose what matters, a millimetre.
_LOSS_TO_TELL = 1e-3

_SEPARATORS = bytes.maketrans(b",;\r", b"   ")


def read(raw: RawScan, columns: Columns) -> PointCloud:
    """The points of a text file; empty lines and those that begin with `#` or `//` are skipped.

    A first line of one number is the count that `.pts` files begin with.

    Raises:
        InputError: a line is not numbers, or has another number of columns than the first; names the line.
    """
    lines = [
        (number, line)
        for number, line in enumerate(bytes(raw.data).translate(_SEPARATORS).split(b"\n"), start=1)
        if line.strip() and not line.lstrip().startswith((b"#", b"//"))
    ]
    lines = _without_count(lines, raw.source)
    if not lines:
        names = names_for(columns if isinstance(columns, int) else 4, columns)
        return PointCloud(np.zeros((0, len(names)), np.float32), names, raw.source, ("holds no points",))
    table = _table(lines, raw.source)
    names = _names(table.shape[1], columns, raw.source)
    values, warnings = to_float32(table, "the text", _LOSS_TO_TELL)
    return PointCloud(values, names, raw.source, warnings + attribute_warnings(values, names))


def _without_count(lines: list[tuple[int, bytes]], source: str) -> list[tuple[int, bytes]]:
    if not lines or len(lines[0][1].split()) != 1 or not lines[0][1].strip().isdigit():
        return lines
    declared, points = int(lines[0][1]), len(lines) - 1
    if declared != points:
        raise InputError(f"{source}: says it has {declared} points but has {points} lines of them; copy it again")
    return lines[1:]


def _table(lines: list[tuple[int, bytes]], source: str) -> NDArray[np.float64]:
    try:
        table = np.array(b" ".join(line for _, line in lines).split(), np.float64)
        width = len(lines[0][1].split())
        if width >= 3 and all(len(line.split()) == width for _, line in lines):
            return table.reshape(-1, width)
    except ValueError:
        pass
    raise InputError(_first_wrong(lines, source))


def _first_wrong(lines: list[tuple[int, bytes]], source: str) -> str:
    width = len(lines[0][1].split())
    for number, line in lines:
        words = line.split()
        shown = line.decode("ascii", "replace").strip()[:40]
        if not all(_is_number(word) for word in words):
            return f"{source}: line {number} ({shown!r}) is not a point; a text scan has x y z and more on each line"
        if len(words) != width or width < 3:
            wanted = width if width >= 3 else "3 or more"
            return f"{source}: line {number} ({shown!r}) has {len(words)} columns instead of {wanted}; correct it"
    return f"{source}: cannot be read as text points"


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _names(count: int, columns: Columns, source: str) -> tuple[str, ...]:
    wanted = len(columns) if isinstance(columns, tuple) else columns
    if wanted not in (None, count):
        raise InputError(f"{source}: has {count} columns, not {wanted}; name its {count} columns with --columns")
    if isinstance(columns, tuple):
        return columns
    return _NAMES_BY_SUFFIX.get((os.path.splitext(source)[1].lower(), count), names_for(count, columns))
