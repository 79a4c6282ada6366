"""The table of engines: name to a package with three functions. A new engine is one line here.

`unavailable()` says in one sentence why the engine cannot run here, or None, and imports nothing heavy; `load(threads,
device)` gives the engine, ready to use; `describe()` says what it runs on, in a few words each.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from spcli.engines.base import Engine
from spcli.errors import DeviceError

ENGINES = {"cpu": "spcli.engines.cpu", "cuda": "spcli.engines.cuda", "torch": "spcli.engines.torch"}


class EnginePackage(Protocol):
    """What a package of the table offers."""

    def unavailable(self) -> str | None:
        """Why the engine cannot run here, in one sentence, or None."""

    def load(self, threads: int | None = None, device: str | None = None) -> Engine:
        """The engine.

        Args:
            threads: what computes on the host does so on so many threads from now on; None leaves them.
            device: "cpu" or "cuda" for an engine that has both; None is what it takes by itself.

        Raises:
            DeviceError: it cannot run there.
        """

    def describe(self) -> tuple[str, ...]:
        """What the engine runs on: instruction set and threads, or devices and versions."""


def load_engine(name: str, threads: int | None = None, device: str | None = None) -> Engine:
    """The engine of that name, ready to use; `threads` and `device` as in `EnginePackage.load`.

    Raises:
        DeviceError: there is none of that name, or it cannot run on this machine; the message says why.
    """
    package = _package(name)
    reason = package.unavailable()
    if reason:
        raise DeviceError(reason)
    return package.load(threads, device)


def describe_engine(name: str) -> tuple[str, ...]:
    """What the engine of that name runs on, a few words each; it must be available.

    Raises:
        DeviceError: there is none of that name.
    """
    return _package(name).describe()


def _package(name: str) -> EnginePackage:
    if name not in ENGINES:
        raise DeviceError(f"there is no engine {name!r} in this version of spcli; there are: {', '.join(ENGINES)}")
    return cast(EnginePackage, import_module(ENGINES[name]))
