"""The table of engines: name to a package with two functions. A new engine is one line here.

`unavailable()` says in one sentence why the engine cannot run here, or None, and imports nothing heavy; `load()` gives
the engine, ready to use.
"""

from __future__ import annotations

from importlib import import_module

from spcli.engines.base import Engine
from spcli.errors import DeviceError

ENGINES = {"cpu": "spcli.engines.cpu", "cuda": "spcli.engines.cuda"}


def load_engine(name: str) -> Engine:
    """The engine of that name, ready to use.

    Raises:
        DeviceError: there is none of that name, or it cannot run on this machine; the message says why.
    """
    if name not in ENGINES:
        raise DeviceError(f"there is no engine {name!r} in this version of spcli; there are: {', '.join(ENGINES)}")
    module = import_module(ENGINES[name])
    reason = module.unavailable()
    if reason:
        raise DeviceError(reason)
    engine: Engine = module.load()
    return engine
