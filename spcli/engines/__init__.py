"""The table of engines: name to the module whose `load()` gives one. A new engine is one line here."""

from __future__ import annotations

from importlib import import_module

from spcli.engines.base import Engine
from spcli.errors import DeviceError

ENGINES = {"cpu": "spcli.engines.cpu"}


def load_engine(name: str) -> Engine:
    """The engine of that name, ready to use.

    Raises:
        DeviceError: there is none of that name, or it cannot run on this machine; the message says why.
    """
    if name not in ENGINES:
        raise DeviceError(f"there is no engine {name!r} in this version of spcli; there are: {', '.join(ENGINES)}")
    engine: Engine = import_module(ENGINES[name]).load()
    reason = engine.unavailable()
    if reason:
        raise DeviceError(reason)
    return engine
