"""The configurations that come with spcli."""

from __future__ import annotations

import os

from spcli.errors import UsageError, suggestion

_EXAMPLE = "worked_example_"
"""How configurations begin that are there to be read: they take the tensor of the worked example, and no scan."""


def preset_names() -> tuple[str, ...]:
    """The shipped configurations for scans, in alphabetical order."""
    return tuple(name for name in _names() if not name.startswith(_EXAMPLE))


def _names() -> tuple[str, ...]:
    """All shipped configurations."""
    return tuple(sorted(entry[:-5] for entry in os.listdir(_directory()) if entry.endswith(".yaml")))


def preset_path(name: str) -> str:
    """The file of a shipped configuration.

    Raises:
        UsageError: there is none of that name.
    """
    names = _names()
    if name not in names:
        hint = suggestion(name, names) or f"; there are {', '.join(preset_names())}"
        raise UsageError(f"there is no preset {name!r}{hint}")
    return os.path.join(_directory(), f"{name}.yaml")


def find_config(path: str) -> str:
    """`path` where such a file exists, else the file of the preset of that name.

    Raises:
        UsageError: it is neither.
    """
    if os.path.exists(path):
        return path
    names = _names()
    if path not in names:
        hint = suggestion(path, names) or f"; presets are {', '.join(preset_names())}"
        raise UsageError(f"{path}: there is no such file and no such preset{hint}")
    return preset_path(path)


def _directory() -> str:
    """`configs/` inside the installed package, or beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "configs")
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(package), "configs")
