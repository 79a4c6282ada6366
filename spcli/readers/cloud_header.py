"""The headers of `.pcd` and `.ply` files: how many points they promise, and whether the file holds them.

open3d fills what a truncated file lacks with whatever lay in memory, so the promise is checked before it reads.
Formats: the PCD 0.7 description of the Point Cloud Library; Greg Turk's "The PLY Polygon File Format" (1994).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from spcli.errors import InputError
from spcli.readers.scan import RawScan

_LONGEST_HEADER = 65536

_PLY_SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64", "int64", "uint64"), 8),
}


# open3d 0.20 ends the process where a file has some of these and not all.
_NORMALS = {"normal_x", "normal_y", "normal_z"}


class CloudHeader(NamedTuple):
    """What a header says.

    Attributes:
        points: points promised.
        fields: names of a point's values, in file order.
        encoding: `ascii`, `binary` or `compressed`.
        point_bytes: bytes of one point in a binary body.
        body: offset of the first byte after the header.
    """

    points: int
    fields: tuple[str, ...]
    encoding: str
    point_bytes: int
    body: int


def read_header(raw: RawScan, name: str) -> CloudHeader:
    """The header of a `name` ("pcd" or "ply") file whose body holds all that it promises.

    Raises:
        InputError: the header is broken, or the body is shorter than it says.
    """
    try:
        header = _pcd(raw.data) if name == "pcd" else _ply(raw.data)
    except (ValueError, KeyError, IndexError):
        raise InputError(f"{raw.source}: its {name.upper()} header is broken; copy or save it again") from None
    _check_body(header, raw)
    return header


def _pcd(data: bytearray) -> CloudHeader:
    entries: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in entries:
        position, words = _next_line(data, position)
        if words and not words[0].startswith("#"):
            entries[words[0]] = words[1:]
    fields = entries["FIELDS"]
    counts = [int(count) for count in entries.get("COUNT", ["1"] * len(fields))]
    sizes = [int(size) for size in entries["SIZE"]]
    points = int(entries["POINTS"][0]) if "POINTS" in entries else int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])
    encoding = {"ascii": "ascii", "binary": "binary", "binary_compressed": "compressed"}[entries["DATA"][0]]
    if len(sizes) != len(fields) or points < 0 or len(_NORMALS & set(fields)) not in (0, 3):
        raise ValueError
    point_bytes = sum(size * count for size, count in zip(sizes, counts, strict=True))
    return CloudHeader(points, tuple(fields), encoding, point_bytes, position)


def _ply(data: bytearray) -> CloudHeader:
    position, _ = _next_line(data, 0)
    position, words = _next_line(data, position)
    if words[0] != "format":
        raise ValueError
    encoding = "ascii" if words[1] == "ascii" else "binary"
    elements: list[tuple[str, int]] = []
    properties: list[list[str]] = []
    while words != ["end_header"]:
        position, words = _next_line(data, position)
        if words[:1] == ["element"]:
            elements.append((words[1], int(words[2])))
        elif words[:1] == ["property"] and elements[-1][0] == "vertex":
            properties.append(words[1:])
    # What stands before the vertices may have any length, and nothing but meshes puts anything there.
    if not elements or elements[0][0] != "vertex" or elements[0][1] < 0:
        raise ValueError
    point_bytes = sum(_PLY_SIZES[kind] for kind, _ in properties)
    return CloudHeader(elements[0][1], tuple(name for _, name in properties), encoding, point_bytes, position)


def _next_line(data: bytearray, position: int) -> tuple[int, list[str]]:
    end = data.index(b"\n", position, _LONGEST_HEADER)
    return end + 1, data[position:end].decode("latin-1").split()


def _check_body(header: CloudHeader, raw: RawScan) -> None:
    if header.encoding == "ascii":
        held = _whole_lines(raw.data[header.body :], len(header.fields), header.points)
    elif header.encoding == "binary":
        held = (len(raw.data) - header.body) // max(header.point_bytes, 1)
    else:
        held = header.points if _is_compressed_whole(header, raw.data) else 0
    if held < header.points:
        raise InputError(
            f"{raw.source}: promises {header.points} points but holds {held}; the file is cut short: copy it again"
        )


def _whole_lines(body: bytearray, fields: int, wanted: int) -> int:
    """Lines with as many values as there are fields, up to the first that has fewer."""
    held = 0
    for line in body.split(b"\n")[:wanted]:
        if len(line.split(None, fields)) < fields:
            break
        held += 1
    return held


def _is_compressed_whole(header: CloudHeader, data: bytearray) -> bool:
    if header.points == 0:
        return True
    if len(data) < header.body + 8:
        return False
    packed: int
    size: int
    packed, size = struct.unpack_from("<II", data, header.body)
    return len(data) - header.body - 8 >= packed and size == header.points * header.point_bytes
