"""npz archives written in one pass: a zip of `.npy` members whose bytes depend on the arrays alone.

`numpy.savez` imports zipfile and copies every array through it; here the buffers go straight to the stream, which
need not be seekable. Layout: PKWARE APPNOTE 6.3.3, with the zip64 records (4.3.14, 4.5.3) where a size or an offset
does not fit 32 bits. Every time stamp is the format's zero, 1980-01-01.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.writers.atomic import replacing

Target = str | BinaryIO

ZIP64_LIMIT = 0xFFFFFFFF
STORED, DEFLATED = 0, 8
UTF8_NAMES = 0x800
MIDNIGHT, FIRST_DAY = 0, 0x21
DEFLATE_LEVEL = 6


class _Member(Struct, frozen=True):
    """One `.npy` inside the archive, as its central directory entry needs it."""

    name: bytes
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def save_npz(target: Target, arrays: Mapping[str, NDArray[Any]], *, compress: bool = False) -> None:
    """Write `arrays` to a path (atomically) or to an open stream, readable with `numpy.load(allow_pickle=False)`.

    Raises:
        UsageError: the path cannot be written to.
    """
    if isinstance(target, str):
        with replacing(target) as stream:
            _write_archive(stream, arrays, compress)
    else:
        _write_archive(target, arrays, compress)


def _write_archive(stream: BinaryIO, arrays: Mapping[str, NDArray[Any]], compress: bool) -> None:
    members = []
    offset = 0
    for name, array in arrays.items():
        member, length = _write_member(stream, f"{name}.npy".encode(), array, offset, compress)
        members.append(member)
        offset += length
    _write_directory(stream, members, offset)


def _write_member(
    stream: BinaryIO, name: bytes, array: NDArray[Any], offset: int, compress: bool
) -> tuple[_Member, int]:
    """Write one member at `offset`; returns its entry and how many bytes it took."""
    header, data = _npy(array)
    crc = zlib.crc32(data, zlib.crc32(header))
    size = len(header) + len(data)
    parts: list[Any] = [header, data]
    if compress:
        deflate = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -15)
        parts = [deflate.compress(header), deflate.compress(data), deflate.flush()]
    method = DEFLATED if compress else STORED
    member = _Member(name, method, crc, sum(map(len, parts)), size, offset)
    local = _local_header(member)
    for part in (local, *parts):
        stream.write(part)
    return member, len(local) + member.packed


def _npy(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    """The header and the C-order bytes of a `.npy` file."""
    array = np.asarray(array, order="C")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return head.getvalue(), array.reshape(-1).view(np.uint8).data


def _local_header(member: _Member) -> bytes:
    large = max(member.packed, member.size) >= ZIP64_LIMIT
    extra = struct.pack("<HHQQ", 1, 16, member.size, member.packed) if large else b""
    packed, size = (0xFFFFFFFF,) * 2 if large else (member.packed, member.size)
    fixed = struct.pack("<4s5H3I2H", b"PK\3\4", 45, UTF8_NAMES, member.method, MIDNIGHT, FIRST_DAY, member.crc,
                        packed, size, len(member.name), len(extra))  # fmt: skip
    return fixed + member.name + extra


def _central_header(member: _Member) -> bytes:
    large = max(member.packed, member.size, member.offset) >= ZIP64_LIMIT
    extra = struct.pack("<HHQQQ", 1, 24, member.size, member.packed, member.offset) if large else b""
    packed, size, offset = (0xFFFFFFFF,) * 3 if large else (member.packed, member.size, member.offset)
    regular_file = 0o100644 << 16
    fixed = struct.pack("<4sBB5H3I5H2I", b"PK\1\2", 45, 3, 45, UTF8_NAMES, member.method, MIDNIGHT, FIRST_DAY,
                        member.crc, packed, size, len(member.name), len(extra), 0, 0, 0, regular_file,
                        offset)  # fmt: skip
    return fixed + member.name + extra


def _write_directory(stream: BinaryIO, members: list[_Member], offset: int) -> None:
    directory = b"".join(map(_central_header, members))
    stream.write(directory)
    count = len(members)
    if max(offset, len(directory)) >= ZIP64_LIMIT or count >= 0xFFFF:
        stream.write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), offset))
        stream.write(struct.pack("<4sIQI", b"PK\6\7", 0, offset + len(directory), 1))
    end = (min(count, 0xFFFF), min(len(directory), 0xFFFFFFFF), min(offset, 0xFFFFFFFF))
    stream.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, end[0], end[0], end[1], end[2], 0))
