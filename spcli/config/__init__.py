"""Configuration files: YAML text to a checked, typed `Config`.

A file is read in steps that each collect what is wrong instead of stopping: text to plain data with lines
(`yaml_text`), values from outside (`overrides`), repeats and defaults (`expand`), plain data to structs (`convert`),
and at last the network they describe (`spcli.network`). All problems are reported at once.
"""

from spcli.config.load import Config, load_config, load_preset, read_config
from spcli.config.presets import preset_names, preset_path
from spcli.config.schema import json_schema

__all__ = ["Config", "json_schema", "load_config", "load_preset", "preset_names", "preset_path", "read_config"]
