"""A JSON Schema of configuration files, from the same types that read them."""

from __future__ import annotations

from typing import Any

from spcli.config.sections import MAX_REPEAT, VERSION, Defaults, Voxelize
from spcli.layers import LAYERS

_DEFS = "#/$defs/{name}"


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) editors and validators can use; every call gives a new dict."""
    import msgspec

    types = [Voxelize, Defaults, *LAYERS.values()]
    _, definitions = msgspec.json.schema_components(types, ref_template=_DEFS)
    layer: dict[str, Any] = {
        "type": "object",
        "required": ["type"],
        "oneOf": [{"$ref": _DEFS.format(name=name)} for name in LAYERS],
    }
    repeat = {
        "description": "layers written out several times; {i} is the iteration, $in the layer before it",
        "type": "object",
        "properties": {
            "repeat": {"type": "integer", "minimum": 1, "maximum": MAX_REPEAT},
            "layers": {"type": "array", "minItems": 1, "items": {"$ref": _DEFS.format(name="Layer")}},
        },
        "required": ["repeat", "layers"],
        "additionalProperties": False,
    }
    entry = {"anyOf": [{"$ref": _DEFS.format(name="Layer")}, {"$ref": _DEFS.format(name="Repeat")}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "spcli configuration",
        "type": "object",
        "properties": {
            "version": {"const": VERSION},
            "name": {"type": "string"},
            "voxelize": {"anyOf": [{"$ref": _DEFS.format(name="Voxelize")}, {"type": "null"}]},
            "defaults": {"$ref": _DEFS.format(name="Defaults")},
            "layers": {"type": "array", "items": entry},
        },
        "required": ["version"],
        "additionalProperties": False,
        "$defs": {**definitions, "Layer": layer, "Repeat": repeat},
    }
