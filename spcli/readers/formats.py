"""Which reader a file needs: known by its first bytes; a suffix only decides where the content cannot."""

from __future__ import annotations

import os
from typing import NamedTuple

from spcli.errors import InputError
from spcli.readers.scan import RawScan


class Format(NamedTuple):
    """One row of the table.

    Attributes:
        name: what messages call the format.
        module: the module whose `read` understands it; imported when first needed.
        suffixes: file names that end so are scans when a directory is searched.
        magic: beginnings that give the format away; none for raw numbers and text.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...] = ()


BIN = Format("bin", "spcli.readers.kitti_bin", (".bin",))
TEXT = Format("text", "spcli.readers.text_file", (".xyz", ".xyzi", ".xyzn", ".xyzrgb", ".pts"))

READERS: tuple[Format, ...] = (
    BIN,
    TEXT,
    Format("npy", "spcli.readers.numpy_file", (".npy",), (b"\x93NUMPY",)),
    Format("npz", "spcli.readers.numpy_file", (".npz",), (b"PK\x03\x04", b"PK\x05\x06")),
    Format("pcd", "spcli.readers.open3d_file", (".pcd",), (b"# .PCD", b"#.PCD", b"VERSION", b"FIELDS")),
    Format("ply", "spcli.readers.open3d_file", (".ply",), (b"ply\n", b"ply\r")),
)

# Files that are often met where a scan is expected, and what to do with them.
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "is gzip-compressed; unpack it first (gunzip)"),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed; unpack it first (unzstd)"),
    (b"LASF", "is a LAS file; convert it to .ply or .npy first"),
    (b"\x89HDF", "is an HDF5 file; save its points as .npy first"),
    (b"\x80\x04\x95", "is a pickle, which can run code and is not read; save the array as .npy"),
)

_TEXT_BYTES = bytes(range(0x20, 0x7F)) + b"\t\n\r\f\v"
_TEXT_SAMPLE = 256


def scan_suffixes() -> tuple[str, ...]:
    """The suffixes by which a directory is searched for scans."""
    return tuple(suffix for known in READERS for suffix in known.suffixes)


def sniff(raw: RawScan) -> Format:
    """The format of `raw`, from its content.

    Raises:
        InputError: the content is of a kind that is not read, or the suffix promises a format it is not.
    """
    head = bytes(raw.data[:_TEXT_SAMPLE])
    if not head:
        return BIN
    for known in READERS:
        if head.startswith(known.magic):
            return known
    for magic, remedy in _FOREIGN:
        if head.startswith(magic):
            raise InputError(f"{raw.source}: {remedy}")
    _check_promise(raw.source)
    return BIN if head.translate(None, _TEXT_BYTES) else TEXT


def _check_promise(source: str) -> None:
    suffix = os.path.splitext(source)[1].lower()
    for known in READERS:
        if known.magic and suffix in known.suffixes:
            raise InputError(
                f"{source}: does not begin as a {suffix} file does; copy it again, or rename it if it holds raw "
                "float32 (.bin) or text (.xyz)"
            )
