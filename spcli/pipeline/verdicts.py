"""What first frames were found to be, kept in the user's cache so that the next process need not look again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from spcli import __version__
from spcli.engines.base import Engine, LayerParameters
from spcli.errors import SpcliError
from spcli.program import Convolve, Program
from spcli.writers.atomic import replacing

SCHEMA = "spcli.check/1"


class Verdict(Struct, frozen=True):
    """How a frame compares with the CPU engine's.

    Attributes:
        wrong: what differs, part of a sentence; "" where all is right.
        layer: the layer with the largest error, or the first that is wrong; "" where no features were compared.
        error: its relative L2 error; None where values are finite on one side only.
        allowed: what the number format allows.
    """

    wrong: str = ""
    layer: str = ""
    error: float | None = 0.0
    allowed: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing differs by more than it may."""
        return not self.wrong


class Subject(Struct, frozen=True):
    """What a verdict is about, for people and for the digest of its file.

    Attributes:
        network: the configuration's name.
        engine, device, dtype: of the engine.
        identity: `card`, `driver` and versions.
        values: whether features were computed, not sites and rules only.
        digest: of all of these but the name, of the program and of how the kernels cut each layer.
    """

    network: str
    engine: str
    device: str
    dtype: str
    identity: dict[str, str]
    values: bool
    digest: str


Verdicts = dict[str, Verdict]
"""By the way that frames went, as `Frame.way` names it."""


class Stored(Struct, frozen=True):
    """A file of the cache."""

    schema: str
    subject: Subject
    verdicts: Verdicts

    @property
    def worst(self) -> Verdict:
        """The verdict that is wrong, or the one with the largest error."""
        return max(self.verdicts.values(), key=lambda verdict: (not verdict.ok, verdict.error or 0.0))


def subject_of(network: str, engine: Engine, program: Program, parameters: Mapping[str, LayerParameters]) -> Subject:
    """What the frames of `program` on `engine` are; without parameters, their index phase."""
    identity = {**engine.identity(), "spcli": __version__}
    cut = [(op.parameters, _blocks(engine, parameters[op.parameters])) for op in _convolutions(program) if parameters]
    facts = (engine.label, engine.device, engine.dtype, sorted(identity.items()), bool(parameters), cut)
    digest = hashlib.sha256(repr((SCHEMA, facts, program)).encode()).hexdigest()
    return Subject(network, engine.label, engine.device, engine.dtype, identity, bool(parameters), digest)


def layer_blocks(engine: Engine, parameters: Mapping[str, LayerParameters], layer: str) -> str:
    """How the engine cuts a layer with weights; "" for any other."""
    found = parameters.get(layer)
    return "" if found is None or found.weight is None else _blocks(engine, found)


def _convolutions(program: Program) -> Iterator[Convolve]:
    return (op for op in program.value_ops if isinstance(op, Convolve))


def _blocks(engine: Engine, parameters: LayerParameters) -> str:
    assert parameters.weight is not None
    out_channels, *kernel, in_channels = parameters.weight.shape
    volume = 1
    for size in kernel:
        volume *= size
    return engine.blocks(in_channels, out_channels, volume)


def folder() -> Path:
    """Where verdicts are kept: `checks` in SPCLI_CACHE_DIR, else in the user's cache."""
    given = os.environ.get("SPCLI_CACHE_DIR")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(given or os.path.join(cache, "spcli")) / "checks"


def recall(subject: Subject) -> Verdicts:
    """The verdicts that are kept on such frames."""
    stored = _read(folder() / f"{subject.digest}.json")
    return {} if stored is None else stored.verdicts


def keep(subject: Subject, way: str, verdict: Verdict) -> None:
    """Keep a verdict; where that cannot be written, or another process writes as well, the next one finds it anew."""
    stored = Stored(SCHEMA, subject, {**recall(subject), way: verdict})
    with suppress(SpcliError), replacing(str(folder() / f"{subject.digest}.json")) as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(stored)))


def kept() -> list[Stored]:
    """All verdicts of this version of spcli, by network, engine and number format."""
    with suppress(OSError):
        found = [_read(path) for path in folder().glob("*.json")]
        own = [each for each in found if each is not None and each.subject.identity.get("spcli") == __version__]
        return sorted(own, key=lambda each: _order(each.subject))
    return []


def _order(subject: Subject) -> tuple[Any, ...]:
    return subject.network, subject.engine, subject.dtype, not subject.values, subject.digest


def _read(path: Path) -> Stored | None:
    """A file of the cache; None for one that is not there or not one of this version's."""
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=Stored)
    except (OSError, msgspec.DecodeError):
        return None
    return stored if stored.schema == SCHEMA and stored.verdicts else None
