"""From what stands on the command line to a list of scans."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from spcli.errors import InputError, UsageError
from spcli.readers.formats import scan_suffixes
from spcli.readers.scan import STDIN

# What spcli itself writes beside its voxels: results, which a directory search must not take for scans.
_RESULT = re.compile(r"\.(rulebooks|features(\.[A-Za-z0-9_.-]+)?)\.npz$")

# A 2-D tensor to be read on paper, which lies beside the sample scans and fits no network for them.
_EXAMPLE = "worked_example.npz"


@dataclass(frozen=True)
class ScanPath:
    """One input of a batch.

    Attributes:
        source: the path, or "-" for standard input.
        stem: what the outputs are called; matches `[A-Za-z0-9_.-]+`.
        relative_dir: the folders between the directory that was given and the file; "" for a file given by name.
    """

    source: str
    stem: str
    relative_dir: str = ""


def stem_of(source: str) -> str:
    """The name of a scan's outputs: `a` for `a.bin`, `a.voxels.npz` and `a.features.npz`, `stdin` for "-".

    Characters outside `[A-Za-z0-9_.-]` become "_".
    """
    if source == STDIN:
        return "stdin"
    stem = os.path.splitext(os.path.basename(source))[0]
    stem = re.sub(r"(?<=.)\.(voxels|features)$", "", stem)
    return re.sub(r"[^A-Za-z0-9_.-]", "_", stem) or "_"


def find_scans(paths: Iterable[str]) -> list[ScanPath]:
    """The scans that `paths` name, in that order; a directory stands for the scans below it, sorted by path.

    Files given by name are not looked at: reading reports what is wrong with them, one by one.

    Raises:
        InputError: a directory holds no scan.
    """
    found: list[ScanPath] = []
    for path in paths:
        if path != STDIN and os.path.isdir(path):
            found += _scans_below(path)
        else:
            found.append(ScanPath(path, stem_of(path)))
    return found


def read_list(stream: IO[bytes], nul: bool = False) -> list[str]:
    """The paths in `stream`, one a line, or ended by NUL bytes; empty ones are left out.

    Raises:
        UsageError: a list of lines holds NUL bytes, which no path can.
    """
    data = stream.read()
    if not nul and b"\0" in data:
        raise UsageError("--from-file: the list holds NUL bytes; pass -0 if they end its paths, else name a text file")
    lines = data.split(b"\0") if nul else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(line) for line in lines if line]


def colliding(scans: Sequence[ScanPath], keep_tree: bool = False) -> tuple[str, str] | None:
    """The first two sources whose outputs would have the same name; None where all differ.

    With `keep_tree` the outputs lie in each scan's `relative_dir`, so only that folder is compared within.
    """
    first: dict[tuple[str, str], str] = {}
    for scan in scans:
        name = (scan.relative_dir if keep_tree else "", scan.stem)
        if name in first:
            return first[name], scan.source
        first[name] = scan.source
    return None


def _scans_below(directory: str) -> list[ScanPath]:
    files = sorted(_files_below(directory, {os.path.realpath(directory)}))
    suffixes = scan_suffixes()
    scans = [file for file in files if file.lower().endswith(suffixes) and not _is_aside(file)]
    if not scans:
        raise InputError(f"{directory}: holds no scan; scans are files named *{', *'.join(suffixes)}")
    return [ScanPath(file, stem_of(file), _folder_between(directory, file)) for file in scans]


def _is_aside(file: str) -> bool:
    return bool(_RESULT.search(file)) or os.path.basename(file) == _EXAMPLE


def _folder_between(directory: str, file: str) -> str:
    folder = os.path.relpath(os.path.dirname(file), directory)
    return "" if folder == os.curdir else folder


def _files_below(directory: str, seen: set[str]) -> Iterator[str]:
    """The files below `directory`, through links to other directories, each directory once; hidden ones left out."""
    try:
        entries = [entry for entry in os.scandir(directory) if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{directory}: cannot be searched ({error.strerror}); check the directory") from None
    for entry in entries:
        if not entry.is_dir():
            yield entry.path
        elif (target := os.path.realpath(entry.path)) not in seen:
            seen.add(target)
            yield from _files_below(entry.path, seen)
