"""Plain data to typed structs, field by field, so that every problem is found and none hides another.

msgspec converts and stops at the first fault; so it does the converting where there is none, and what a user must
read about faults is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from spcli.config.sections import Feature, Voxelize, check_voxelize
from spcli.config.yaml_text import flow
from spcli.errors import ConfigError, Problem, suggestion
from spcli.grid import FeatureColumn, VoxelSpec
from spcli.layers.base import GELU, BatchNorm1d, LayerNorm, LeakyReLU, ReLU
from spcli.program import INPUT

T = TypeVar("T", bound=msgspec.Struct)
Report = Callable[[str, str], None]
"""Takes a message and the dotted key below the struct it is about; an empty key is the struct itself."""

_VARIANTS: dict[str, dict[str, type[msgspec.Struct]]] = {
    "norm": {"BatchNorm1d": BatchNorm1d, "LayerNorm": LayerNorm},
    "activation": {"ReLU": ReLU, "LeakyReLU": LeakyReLU, "GELU": GELU},
}
"""Fields whose mapping names a type, and the types."""

_STAND_INS: dict[str, Any] = {
    "name": "unnamed",
    "voxel_size": (1.0, 1.0, 1.0),
    "out_channels": 1,
    "kernel_size": 1,
    "indice_key": "unnamed",
    "inputs": (INPUT, INPUT),
}
"""What required fields hold where the file has no value that can be used."""


def convert(cls: type[T], data: Any, report: Report) -> tuple[T | None, frozenset[str]]:
    """`data` as a `cls`, and the keys whose values are not what the file means, after reporting all that is wrong.

    A value that cannot be used gives way to the key's default; after an unknown key, which may be any other one
    misspelt, the defaults of all keys are such values. None where nothing can be made of `data`.
    """
    try:
        return msgspec.convert(data, cls), frozenset()
    except (msgspec.ValidationError, RecursionError):
        if isinstance(data, Mapping):
            return _salvaged(cls, data, report)
        report(f"expected keys and values, got {shown(data)}", "")
        return None, frozenset()


def check_spec(spec: VoxelSpec) -> None:
    """A specification made by hand must be one that a configuration could have said.

    Raises:
        ConfigError: names every key whose value cannot be used.
    """
    problems: list[Problem] = []
    data = {name: _plain(value) for name, value in vars(spec).items()}
    section, _ = convert(Voxelize, data, lambda message, key: problems.append(Problem(message, f"voxelize.{key}")))
    if section is not None and not problems:
        problems = check_voxelize(spec)
    if problems:
        raise ConfigError(problems)


def _plain(value: Any) -> Any:
    """A value as YAML would have given it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, FeatureColumn):
        return {name: _plain(item) for name, item in vars(value).items()}
    return value.item() if isinstance(value, np.generic) else value


def _salvaged(cls: type[T], data: Mapping[str, Any], report: Report) -> tuple[T, frozenset[str]]:
    """What `convert` gives where something is wrong."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    tag, owner = cls.__struct_config__.tag_field, str(cls.__struct_config__.tag or cls.__name__.lower())
    unknown = [key for key in data if key not in fields and key != tag]
    for key in unknown:
        report(unknown_key(key, fields, owner), key)
    missing = [name for name, field in fields.items() if field.required and name not in data]
    if missing:
        report(f"lacks {' and '.join(missing)}", "")
    values = {name: _STAND_INS[name] for name, field in fields.items() if field.required}
    doubtful = {name for name in fields if name not in data} if unknown else set(missing)
    hints = get_type_hints(cls, include_extras=True)
    for name in fields:
        if name in data:
            try:
                values[name] = msgspec.convert(data[name], hints[name])
            except msgspec.ValidationError:
                _explain_field(name, hints[name], data[name], report)
                doubtful.add(name)
    return cls(**values), frozenset(doubtful)


def _explain_field(name: str, hint: Any, value: Any, report: Report) -> None:
    """Report what is wrong with `value`, which is not of the type `hint`."""
    if name == "features" and isinstance(value, list):
        _explain_features(value, report)
    elif name in _VARIANTS and isinstance(value, Mapping):
        _explain_variant(name, value, report)
    elif name in _VARIANTS and isinstance(value, str):
        report(f"expected {expected(hint)}, got {shown(value)}{suggestion(value, _VARIANTS[name])}", name)
    else:
        report(f"expected {expected(hint)}, got {shown(value)}", name)


def _explain_features(entries: list[Any], report: Report) -> None:
    """The list of columns and what is made of them, entry by entry."""
    for position, entry in enumerate(entries):
        place = f"features[{position}]"
        if isinstance(entry, Mapping):
            convert(Feature, entry, _below(place, report))
        elif not isinstance(entry, str) or not entry:
            message = "expected a column's name or an entry such as {name: intensity, scale: 255}, got"
            report(f"{message} {shown(entry)}", place)


def _explain_variant(name: str, value: Mapping[str, Any], report: Report) -> None:
    """A mapping whose `type` chooses the struct, such as a norm."""
    variants = _VARIANTS[name]
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in variants:
        got = f"got {shown(kind)}{suggestion(str(kind), variants)}" if "type" in value else "but it is missing"
        report(f"expected type to be {' or '.join(variants)}, {got}", name)
        return
    convert(variants[kind], value, _below(name, report))


def _below(place: str, report: Report) -> Report:
    return lambda message, key: report(message, f"{place}.{key}" if key else place)


def unknown_key(key: str, known: Mapping[str, Any], owner: str) -> str:
    """The message for a key that nothing has."""
    hint = suggestion(key, known) or f"; {owner} takes {', '.join(known)}"
    return f"unknown key {key!r}{hint}"


def expected(hint: Any) -> str:
    """What a field's type says of itself."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is Annotated:
            for note in part.__metadata__:
                if isinstance(note, msgspec.Meta) and note.description:
                    return note.description
    return "another value"


def shown(value: Any) -> str:
    """A value as a message shows it: as YAML would, and short."""
    text = repr(value) if isinstance(value, str) else flow(value)
    return text if len(text) <= 60 else text[:57] + "..."


def with_shorthands_expanded(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with one spelling for each meaning, so that equal configurations have equal resolved texts.

    `norm: BatchNorm1d` becomes a mapping, `activation: {type: ReLU}` a word; LeakyReLU always has its slope.
    """
    out = dict(data)
    if out.get("norm") in ("BatchNorm1d", "LayerNorm"):
        out["norm"] = {"type": out["norm"]}
    elif out.get("norm") == "none":
        out["norm"] = None
    activation = out.get("activation")
    if activation == "LeakyReLU":
        out["activation"] = {"type": "LeakyReLU"}
    elif activation in ({"type": "ReLU"}, {"type": "GELU"}):
        out["activation"] = activation["type"]
    elif activation == "none":
        out["activation"] = None
    return out
