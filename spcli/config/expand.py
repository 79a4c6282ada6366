"""The `layers` list to one plain mapping a layer: repeats written out, defaults filled in.

An entry `{repeat: N, layers: [...]}` stands for its layers N times. In their strings `{i}` is the number of the
iteration, from 0, and a reference `$in` names the layer before the iteration (the network's input where there is none).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from spcli.config.sections import MAX_REPEAT
from spcli.config.yaml_text import Path
from spcli.errors import Problem
from spcli.layers import BEFORE, LAYERS
from spcli.program import INPUT

MAX_LAYERS = 10_000


class RawLayer(Struct):
    """One layer as plain data.

    Attributes:
        fields: the layer's keys; a list or scalar where it is wrong.
        path: where in the file it stands.
        number: its place among all layers, from 0.
        twin: an earlier layer has its name.
    """

    fields: Any
    path: Path
    number: int
    twin: bool = False

    @property
    def name(self) -> str | None:
        """Its name, None where it has none that is a string."""
        name = self.fields.get("name") if isinstance(self.fields, dict) else None
        return name if isinstance(name, str) else None

    @property
    def reference(self) -> str:
        """What other layers can call it."""
        return self.name if self.name is not None else f"[{self.number}]"

    @property
    def key(self) -> str:
        """How messages call it: by its name, or by its number where that is missing or taken."""
        by_number = self.twin or self.name is None
        return f"layers[{self.number}]" if by_number else f"layers.{self.name}"


def expand_layers(entries: list[Any]) -> tuple[list[RawLayer], list[tuple[Problem, Path]]]:
    """All layers in order, and what is wrong with repeats (with the path to blame)."""
    layers: list[RawLayer] = []
    problems: list[tuple[Problem, Path]] = []
    for position, entry in enumerate(entries):
        path: Path = ("layers", position)
        if not (isinstance(entry, dict) and "repeat" in entry):
            layers.append(RawLayer(entry, path, len(layers)))
            continue
        faults = list(_repeat_faults(entry))
        problems += [(Problem(message, f"layers[{position}]"), (*path, *below)) for message, below in faults]
        if not faults:
            layers += _iterations(entry, path, layers)
        if len(layers) > MAX_LAYERS:
            message = f"are more than {MAX_LAYERS} with repeats written out"
            return [], [*problems, (Problem(message, "layers"), path)]
    return layers, problems


def with_defaults(fields: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """A layer's fields with those of `defaults` it takes and does not have."""
    layer = LAYERS.get(fields.get("type", "")) if isinstance(fields.get("type"), str) else None
    return {**defaults, **fields} if layer is not None and layer.takes_defaults else dict(fields)


def _repeat_faults(entry: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    for key in entry:
        if key not in ("repeat", "layers"):
            yield f"unknown key {key!r}; a repeat takes repeat and layers", (key,)
    count = entry["repeat"]
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_REPEAT:
        yield f"repeat needs a whole number from 1 to {MAX_REPEAT}", ("repeat",)
    inner = entry.get("layers")
    if not isinstance(inner, list) or not inner:
        yield "a repeat needs a list of layers under the key layers", ("layers",)
        return
    for position, layer in enumerate(inner):
        if isinstance(layer, dict) and "repeat" in layer:
            yield "a repeat cannot hold another repeat; write the inner layers out", ("layers", position)


def _iterations(entry: dict[str, Any], path: Path, earlier: list[RawLayer]) -> list[RawLayer]:
    layers = list(earlier[-1:])
    for iteration in range(entry["repeat"]):
        before = layers[-1].reference if layers else INPUT
        for position, template in enumerate(entry["layers"]):
            number = layers[-1].number + 1 if layers else 0
            layers.append(RawLayer(_filled(template, iteration, before), (*path, "layers", position), number))
    return layers[len(earlier[-1:]) :]


def _filled(value: Any, iteration: int, before: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(child, iteration, before) for key, child in value.items()}
    if isinstance(value, list):
        return [_filled(child, iteration, before) for child in value]
    if isinstance(value, str):
        return before if value == BEFORE else value.replace("{i}", str(iteration))
    return value
