"""The JSON Schema of a configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from configurations import Load
from spcli.config import json_schema, load_preset, preset_names, preset_path
from spcli.config.yaml_text import parse
from spcli.errors import ConfigError
from spcli.layers import LAYERS


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, of the extra [test], is not installed")
    return jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("name", preset_names())
def test_shipped_files_and_their_resolved_texts_satisfy_the_schema(validator: Any, name: str) -> None:
    validator.validate(parse(Path(preset_path(name)).read_text()).data)
    validator.validate(parse(load_preset(name, (), {}).resolved).data)
    validator.validate(parse(load_preset(name, ["voxelize.columns=5", "voxelize.features=null"], {}).resolved).data)


@pytest.mark.parametrize(
    "text",
    [
        "name: x",
        "{version: 2}",
        "{version: 1, nmae: x}",
        "{version: 1, layers: [{name: a, type: SubMConv3D, out_channels: 4, kernel_size: 3}]}",
        "{version: 1, layers: [{name: a, type: SubMConv3d, out_channels: 4, kernel_size: 8}]}",
        "{version: 1, layers: [{name: a, type: SubMConv3d, out_channels: 4}]}",
        "{version: 1, layers: [{name: a/b, type: ToDense}]}",
        "{version: 1, layers: [{name: a, type: Linear, out_channels: 4, norm: BatchNorm}]}",
        "{version: 1, layers: [{repeat: 0, layers: [{name: a, type: ToDense}]}]}",
        "{version: 1, voxelize: {voxel_size: [1, 1]}}",
        "{version: 1, voxelize: {voxel_size: [1, 1, 1], columns: 8}}",
        "{version: 1, defaults: {stride: 2}}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(validator: Any, load: Load, text: str) -> None:
    assert not validator.is_valid(parse(text).data)
    with pytest.raises(ConfigError):
        load(text)


def test_the_schema_is_plain_json_and_knows_every_layer_type() -> None:
    schema = json.loads(json.dumps(json_schema(), allow_nan=False))
    assert set(LAYERS) <= set(schema["$defs"])
    assert schema["$defs"]["SparseConv3d"]["properties"]["stride"]["default"] == 1
    references = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert references <= set(schema["$defs"])
