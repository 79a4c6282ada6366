"""Scans in: one file or standard input to points, or to a tensor voxelized before.

A new reader is one module with a `read` function and one row of `formats.READERS`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib import import_module
from typing import cast

from spcli.errors import InputError, UsageError
from spcli.points import PointCloud
from spcli.readers.columns import check_wanted, warned_of_no_returns
from spcli.readers.formats import READERS, Format, sniff
from spcli.readers.paths import ScanPath, colliding, find_scans, read_list, stem_of
from spcli.readers.scan import SORTED, STDIN, Columns, RawScan, Reader, Scan, StoredTensor

__all__ = [
    "READERS", "SORTED", "STDIN", "Columns", "Format", "RawScan", "Scan", "ScanPath", "StoredTensor", "colliding",
    "find_scans", "load", "parse", "read", "read_list", "stem_of",
]  # fmt: skip


def read(source: str, columns: Columns = None) -> Scan:
    """Read one scan.

    Args:
        source: a path, or "-" for the bytes of standard input.
        columns: the file's columns by number or by names; None lets the content decide.

    Raises:
        InputError: the file cannot be read, or is not what it should be.
        UsageError: `columns` cannot describe points, or standard input is a terminal.
        DeviceError: the format needs a package that is not installed.
    """
    check_wanted(columns)
    return parse(load(source), columns)


def load(source: str) -> RawScan:
    """The bytes of a file, or of standard input for "-", whatever they are.

    Raises:
        InputError: the file cannot be read.
        UsageError: standard input is a terminal.
    """
    return RawScan(_stdin_bytes() if source == STDIN else _file_bytes(source), source)


def parse(raw: RawScan, columns: Columns = None) -> Scan:
    """The scan in `raw`; arguments and errors as `read`."""
    check_wanted(columns)
    reader = cast(Reader, import_module(sniff(raw).module))
    content = reader.read(raw, columns)
    if isinstance(content, PointCloud):
        content = warned_of_no_returns(content)
    return Scan(content, hashlib.sha256(raw.data).hexdigest(), raw.source)


def _file_bytes(path: str) -> bytearray:
    try:
        with open(path, "rb") as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            del data[file.readinto(data) :]
            data += file.read()  # a pipe, or a file that is still growing, holds more than its size said
            return data
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; name a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the path") from None


def _stdin_bytes() -> bytearray:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("-: standard input is a terminal; pipe a scan in, or name a file")
    return bytearray(sys.stdin.buffer.read())
