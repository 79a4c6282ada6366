"""Values from outside the file: `--set KEY=VALUE` and `SPCLI_*` environment variables.

A key is the dotted path of a value: `voxelize.voxel_size`, `defaults.norm.eps`, `layers.conv2_down.out_channels`; a
layer is named, not numbered. In the environment it is in capitals, `__` stands for the point, and anything but a letter
or digit in a layer's name is `_`: `SPCLI_VOXELIZE__MAX_VOXELS=40000`, `SPCLI_LAYERS__CONV2_DOWN__OUT_CHANNELS=64`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from spcli.config.sections import Defaults, Voxelize
from spcli.config.yaml_text import YamlError, parse_value
from spcli.errors import Problem, suggestion

PREFIX = "SPCLI_"
SECTIONS = ("name", "voxelize", "defaults", "layers")
_SETTINGS = (
    "SPCLI_THREADS",
    "SPCLI_DEVICE",
    "SPCLI_ENGINE",
    "SPCLI_ISA",
    "SPCLI_CACHE_DIR",
    "SPCLI_LIBRARY_DIR",
)
"""Variables with the prefix that are not of the configuration."""


class Override(Struct, frozen=True):
    """One value from outside.

    Attributes:
        key: dotted path; `layers.CONV1__BIAS` where a variable names a layer, until the layers are known.
        label: what the user wrote, for messages.
        value: the parsed value.
        capitals: whether the key below `layers` is still a variable's.
    """

    key: str
    label: str
    value: Any
    capitals: bool = False


def read_overrides(sets: Sequence[str], environ: Mapping[str, str]) -> tuple[list[Override], list[Problem]]:
    """All overrides in the order they apply, the environment first, and what is wrong with them."""
    texts = [(*_key_of(name), name, environ[name]) for name in sorted(environ) if _is_ours(name)]
    problems: list[Problem] = []
    for entry in sets:
        key, equals, text = entry.partition("=")
        if equals:
            texts.append((key.strip(), False, f"--set {entry}", text))
        else:
            problems.append(Problem(f"--set {entry!r} has no '='; write --set KEY=VALUE"))
    overrides = []
    for key, capitals, label, text in texts:
        section = key.partition(".")[0]
        if section not in SECTIONS:
            hint = suggestion(section, SECTIONS) or f"; there are {', '.join(SECTIONS)}"
            problems.append(Problem(f"there is no section {section!r}{hint} ({label})", key))
            continue
        try:
            overrides.append(Override(key, label, parse_value(text), capitals))
        except YamlError as error:
            problems.append(Problem(f"{error.problem.message} ({label})", key))
    return overrides, problems


def stray_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each variable that looks like a setting and is none, such as one with a single underscore."""
    stray = [name for name in sorted(environ) if name.startswith(PREFIX) and not _is_ours(name)]
    return tuple(f"{name} is no setting and changes nothing{_meant(name)}" for name in stray if name not in _SETTINGS)


def _meant(variable: str) -> str:
    """The setting whose name is closest, looked for without the prefix they share."""
    word = variable[len(PREFIX) :]
    keys = [f"VOXELIZE__{key.upper()}" for key in Voxelize.__struct_fields__]
    keys += [f"DEFAULTS__{key.upper()}" for key in Defaults.__struct_fields__]
    known = [*(name[len(PREFIX) :] for name in _SETTINGS), *keys]
    hint = "" if word.startswith("LAYERS") else suggestion(word, known).replace("'", f"'{PREFIX}", 1)
    return hint or "; two underscores stand for the point of a key, as in SPCLI_VOXELIZE__MAX_POINTS"


def apply_to_sections(root: dict[str, Any], overrides: Sequence[Override]) -> tuple[list[Override], list[Problem]]:
    """Write the overrides of everything but layers into `root`; returns those written, and what is wrong."""
    written, problems = [], []
    for override in overrides:
        message = _write(root, override.key.split("."), override.value)
        if message:
            problems.append(Problem(f"{message} ({override.label})", override.key))
        else:
            written.append(override)
    return written, problems


def apply_to_layers(
    layers: Mapping[str, dict[str, Any]], overrides: Sequence[Override]
) -> tuple[list[Override], list[Problem]]:
    """Write the overrides of layers into `layers` (by name); returns those written, and what is wrong."""
    written, problems = [], []
    for override in overrides:
        rest = override.key.partition(".")[2]
        if override.capitals:
            rest = _from_capitals(rest, layers)
            override = replace(override, key=f"layers.{rest}")
        name = _layer_of(rest, layers)
        if name is None:
            hint = suggestion(rest.rpartition(".")[0] or rest, layers)
            message = f"does not lead to a layer; write layers.NAME.KEY{hint}"
        else:
            message = _write(layers[name], rest[len(name) + 1 :].split("."), override.value) or ""
        if message:
            problems.append(Problem(f"{message} ({override.label})", override.key))
        else:
            written.append(override)
    return written, problems


def _is_ours(name: str) -> bool:
    """`SPCLI_A__B` is a configuration key; single words such as `SPCLI_THREADS` belong to the command line."""
    return name.startswith(PREFIX) and "__" in name


def _key_of(variable: str) -> tuple[str, bool]:
    section, _, rest = variable[len(PREFIX) :].partition("__")
    if section == "LAYERS":
        return f"layers.{rest}", True
    return f"{section}.{rest}".replace("__", ".").lower(), False


def _from_capitals(rest: str, layers: Mapping[str, Any]) -> str:
    """`CONV1__BIAS` as `conv1.bias`, by the layer whose name it is in capitals; the longest wins."""
    by_capitals = {re.sub(r"[^A-Z0-9]", "_", name.upper()): name for name in layers}
    for capitals in sorted(by_capitals, key=len, reverse=True):
        if rest.startswith(capitals + "__"):
            return f"{by_capitals[capitals]}.{rest[len(capitals) + 2 :].lower().replace('__', '.')}"
    return rest.replace("__", ".").lower()


def _layer_of(rest: str, layers: Mapping[str, Any]) -> str | None:
    """The layer whose name `rest` begins with; names may hold points, the longest wins."""
    return max((name for name in layers if rest.startswith(name + ".")), key=len, default=None)


def _write(target: dict[str, Any], keys: Sequence[str], value: Any) -> str | None:
    """Write one value below `target`, making mappings on the way; returns what is wrong, if anything."""
    for depth, key in enumerate(keys[:-1]):
        below = target.get(key)
        if isinstance(below, str) and key in ("norm", "activation"):
            below = {"type": below}  # `norm: BatchNorm1d` has an eps too
        if below is not None and not isinstance(below, dict):
            return f"{'.'.join(keys[: depth + 1])} has no keys below it"
        target[key] = target = dict(below or {})
    target[keys[-1]] = value
    return None
