"""`manifest.jsonl`: one line for every scan whose results are in a folder, the newest last."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from spcli.errors import UsageError

MANIFEST = "manifest.jsonl"


def append_manifest(folder: str, entry: Mapping[str, Any]) -> None:
    """Add one line in one write, so that programs writing to the same folder do not mix their lines.

    Raises:
        UsageError: the file cannot be written to.
    """
    import json

    path = os.path.join(folder, MANIFEST)
    line = json.dumps(entry, allow_nan=False).encode() + b"\n"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, _newline_if_cut(descriptor) + line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); free the place or choose another") from error


def _newline_if_cut(descriptor: int) -> bytes:
    """A newline where the last line has none because a program was killed while writing it."""
    size = os.fstat(descriptor).st_size
    return b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""


def read_manifest(folder: str) -> list[dict[str, Any]]:
    """The entries of a folder, oldest first; none where there is no manifest. Lines that were cut are left out.

    Raises:
        UsageError: the manifest is there and cannot be read.
    """
    import json

    entries = []
    try:
        with open(os.path.join(folder, MANIFEST), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(entry, dict):
                    entries.append(entry)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{folder}/{MANIFEST}: cannot be read ({error.strerror}); choose another -o") from error
    return entries
