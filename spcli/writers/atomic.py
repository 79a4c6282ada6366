"""Files that are either whole or not there: written to a temporary name beside the target, then renamed over it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from spcli.errors import UsageError


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A binary stream that becomes `path` when the block ends well and leaves nothing behind when it does not.

    A symbolic link keeps pointing where it did, its target is replaced. What is not a regular file (a pipe,
    `/dev/null`) is written to as it stands, since renaming over it would destroy it. Missing folders are made.

    Raises:
        UsageError: the place cannot be written to; says why.
    """
    target = os.path.realpath(path)
    try:
        if _is_special(target):
            with open(target, "wb") as stream:
                yield stream
            return
        folder, name = os.path.split(target)
        os.makedirs(folder, exist_ok=True)
        with _renamed(os.path.join(folder, f".{name}.{os.getpid()}.part"), target) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path}: cannot be written ({reason}); free the place or choose another") from error


@contextmanager
def _renamed(temporary: str, target: str) -> Iterator[BinaryIO]:
    try:
        with open(temporary, "wb") as stream:
            yield stream
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.remove(temporary)
        raise


def _is_special(path: str) -> bool:
    """Whether `path` exists and is neither a regular file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_text(path: str, text: str) -> None:
    """Make `path` a UTF-8 file holding `text`.

    Raises:
        UsageError: the place cannot be written to.
    """
    with replacing(path) as stream:
        stream.write(text.encode())
