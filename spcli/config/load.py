"""A configuration file, read and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from spcli.config.convert import Report, convert, shown, unknown_key, with_shorthands_expanded
from spcli.config.expand import RawLayer, expand_layers, with_defaults
from spcli.config.locations import Locations
from spcli.config.overrides import Override, apply_to_layers, apply_to_sections, read_overrides, stray_variables
from spcli.config.presets import find_config, preset_path
from spcli.config.sections import VERSION, Defaults, Voxelize, check_voxelize, voxelize_warnings
from spcli.config.yaml_text import YamlError, flow, parse
from spcli.errors import ConfigError, Problem, UsageError, suggestion
from spcli.grid import VoxelSpec
from spcli.layers import LAYERS, Layer
from spcli.lowering import Unreadable, lower_layers
from spcli.network import Network

MAX_BYTES = 1_000_000
_ROOT_KEYS = ("version", "name", "voxelize", "defaults", "layers")
_BESIDE_THE_GRID = frozenset(("max_points", "max_voxels", "reduce"))
_NOT_LAYERS = {
    "BatchNorm1d": "norm",
    "LayerNorm": "norm",
    "ReLU": "activation",
    "LeakyReLU": "activation",
    "GELU": "activation",
}


class Config(msgspec.Struct, frozen=True):
    """A configuration with repeats and defaults written out.

    Attributes:
        name: what the file calls itself.
        voxelize: how points become voxels; None where inputs are tensors.
        layers: the network's layers in order; empty for a file that only voxelizes.
        columns: what a reader is given of the file's columns: their names, their number, or nothing.
        resolved: the same configuration as YAML text with every default written out; loading it gives this again.
        source: the file's path.
        warnings: what is allowed but seldom meant, one sentence each.
        locations: where the values came from, for messages.
    """

    name: str
    voxelize: VoxelSpec | None
    layers: tuple[Layer, ...]
    resolved: str
    columns: int | tuple[str, ...] | None = None
    source: str = ""
    warnings: tuple[str, ...] = ()
    locations: Locations = msgspec.field(default_factory=Locations)

    @property
    def digest(self) -> str:
        """sha256 of `resolved`, in hexadecimal."""
        from hashlib import sha256

        return sha256(self.resolved.encode()).hexdigest()

    def network(self, in_channels: int | None = None, spatial_shape: tuple[int, ...] | None = None) -> Network:
        """The network, with what is known from a scan; as `build_network`, but problems carry their lines.

        Raises:
            ConfigError: the network does not fit that input.
        """
        network, problems = lower_layers(self.layers, self.voxelize, in_channels, spatial_shape)
        if network is None:
            raise ConfigError(self.locations.locate_all(problems), self.source)
        return network


def load_config(
    path: str, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None, only_voxelize: bool = False
) -> Config:
    """Read a configuration file, or a preset where no file has that name.

    Args:
        path: the file, or a preset's name.
        sets: `KEY=VALUE` overrides; they win over the environment, which wins over the file.
        environ: variables to look for `SPCLI_*` in; None is the process's own.
        only_voxelize: leave the layers and their defaults out, unread, and give a configuration that only voxelizes.

    Raises:
        UsageError: there is no such file or preset.
        ConfigError: carries everything that is wrong, with lines and keys.
    """
    source = find_config(path)
    return read_config(_text_of(source), sets, environ, source, only_voxelize)


def read_config(
    text: str,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    source: str = "",
    only_voxelize: bool = False,
) -> Config:
    """Read a configuration from its YAML text; arguments as `load_config`, `source` is for messages.

    Raises:
        ConfigError: carries everything that is wrong, with lines and keys.
    """
    return _Reader(source, only_voxelize).read(text, sets, os.environ if environ is None else environ)


def load_preset(
    name: str, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None, only_voxelize: bool = False
) -> Config:
    """Read a shipped configuration; arguments and errors as `load_config`."""
    return load_config(preset_path(name), sets, environ, only_voxelize)


def _text_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a configuration file") from error
    if len(content) > MAX_BYTES:
        raise ConfigError([Problem(f"is larger than {MAX_BYTES} bytes; give a configuration file")], path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start}); give a configuration file"
        raise ConfigError([Problem(message)], path) from error


class _Reader:
    """Reads one file; collects problems on the way."""

    def __init__(self, source: str, only_voxelize: bool = False) -> None:
        self._source = source
        self._left_out = ("defaults", "layers") if only_voxelize else ()
        self._locations = Locations()
        self._problems: list[Problem] = []
        self._of_overrides: list[Problem] = []

    def read(self, text: str, sets: Sequence[str], environ: Mapping[str, str]) -> Config:
        """All steps in order; raises what was found at the end."""
        root = self._data(text)
        overrides, self._of_overrides = read_overrides(sets, environ)
        overrides = [override for override in overrides if override.key.partition(".")[0] not in self._left_out]
        for left_out in self._left_out:
            root.pop(left_out, None)
        self._apply(apply_to_sections(root, [o for o in overrides if not o.key.startswith("layers.")]))
        name = self._header(root)
        section, trusted = self._voxelize(root.get("voxelize"))
        raw = self._raw_layers(root.get("layers") or [], self._defaults(root.get("defaults")))
        self._apply_to_layers(raw, [o for o in overrides if o.key.startswith("layers.")])
        layers = [self._layer(entry) for entry in raw]
        self._check_network(layers, trusted, "voxelize" in root)
        if self._problems or self._of_overrides:
            raise ConfigError(self._locations.locate_all(self._problems) + self._of_overrides, self._source)
        readable = tuple(layer for layer in layers if isinstance(layer, Layer))
        spec = section.spec() if section else None
        warnings = (*(voxelize_warnings(spec) if spec else ()), *stray_variables(environ))
        resolved, columns = _resolved(name, section, readable), section.columns if section else None
        return Config(name, spec, readable, resolved, columns, self._source, warnings, self._locations)

    def _data(self, text: str) -> dict[str, Any]:
        """The file as a mapping; what makes that impossible is raised at once."""
        try:
            document = parse(text)
        except YamlError as error:
            raise ConfigError([error.problem], self._source) from error
        if not isinstance(document.data, dict):
            got = "is empty" if document.data is None else f"holds {shown(document.data)}"
            message = f"{got}; a configuration has the keys {', '.join(_ROOT_KEYS)}"
            raise ConfigError([Problem(message)], self._source)
        self._locations.lines = document.lines
        self._problems += document.problems
        return document.data

    def _report(self, message: str, key: str) -> None:
        self._problems.append(Problem(message, key))

    def _below(self, prefix: str) -> Report:
        return lambda message, key: self._report(message, f"{prefix}.{key}" if key else prefix)

    def _apply(self, result: tuple[list[Override], list[Problem]]) -> None:
        written, problems = result
        self._of_overrides += problems
        self._locations.labels.update({override.key: override.label for override in written})

    def _header(self, root: Mapping[str, Any]) -> str:
        for key in root:
            if key not in _ROOT_KEYS:
                self._report(unknown_key(key, dict.fromkeys(_ROOT_KEYS), "a configuration"), key)
        version = root.get("version")
        if "version" not in root:
            self._report(f"is missing; begin the file with version: {VERSION}", "version")
        elif version != VERSION or isinstance(version, bool):
            self._report(f"is {shown(version)}, but this spcli reads version {VERSION}", "version")
        name = root.get("name", "network")
        if not isinstance(name, str) or not name:
            self._report(f"expected a name, got {shown(name)}", "name")
        return str(name)

    def _voxelize(self, data: Any) -> tuple[Voxelize | None, VoxelSpec | None]:
        """The section, and what layers may be checked against: nothing where grid or channels are in doubt."""
        if data is None:
            return None, None
        section, doubtful = convert(Voxelize, data, self._below("voxelize"))
        if section is None:
            return None, None
        spec = section.spec()
        problems = check_voxelize(spec, doubtful)
        self._problems += problems
        return section, None if problems or not doubtful <= _BESIDE_THE_GRID else spec

    def _defaults(self, data: Any) -> dict[str, Any]:
        """The defaults as plain data; none where they are wrong, so that no layer is blamed for them."""
        if data is None:
            return {}
        expanded = with_shorthands_expanded(data) if isinstance(data, dict) else data
        section, doubtful = convert(Defaults, expanded, self._below("defaults"))
        return {} if section is None or doubtful else dict(expanded)

    def _raw_layers(self, entries: Any, defaults: dict[str, Any]) -> list[RawLayer]:
        if not isinstance(entries, list):
            self._report(f"expected a list of layers, got {shown(entries)}", "layers")
            return []
        raw, problems = expand_layers(entries)
        self._problems += [Problem(p.message, p.key, self._locations.line(path)) for p, path in problems]
        for layer in raw:
            if isinstance(layer.fields, dict):
                layer.fields = with_defaults(layer.fields, defaults)
            if layer.key in self._locations.layers:
                line = self._locations.line(self._locations.layers[layer.key])
                layer.twin = True
                self._report(f"is {layer.name!r}, as that of the layer on line {line}; rename one", f"{layer.key}.name")
            self._locations.layers[layer.key] = layer.path
        return raw

    def _apply_to_layers(self, raw: Iterable[RawLayer], overrides: Sequence[Override]) -> None:
        by_name = {layer.name: layer.fields for layer in raw if layer.name is not None and not layer.twin}
        self._apply(apply_to_layers(by_name, overrides))

    def _layer(self, entry: RawLayer) -> Layer | Unreadable:
        """One layer; what is wrong with it is reported, and the rest of it is still checked with the network."""
        if not isinstance(entry.fields, dict):
            example = "{name: conv1, type: SubMConv3d, out_channels: 16, kernel_size: 3}"
            self._report(f"expected a layer such as {example}, got {shown(entry.fields)}", entry.key)
            return Unreadable(entry.reference)
        layer, doubtful = self._converted(entry)
        doubtful |= {"name"} if entry.twin else frozenset()
        if layer is not None and not doubtful:
            return layer
        if layer is not None and "name" in doubtful:
            layer = msgspec.structs.replace(layer, name=entry.reference)
        indice_key = entry.fields.get("indice_key")
        named = indice_key if isinstance(indice_key, str) else None
        return Unreadable(entry.reference, named, layer, doubtful, entry.key)

    def _converted(self, entry: RawLayer) -> tuple[Layer | None, frozenset[str]]:
        kind = entry.fields.get("type")
        if isinstance(kind, str) and kind in LAYERS:
            return convert(LAYERS[kind], with_shorthands_expanded(entry.fields), self._below(entry.key))
        if "type" not in entry.fields:
            self._report("lacks type, such as SubMConv3d", entry.key)
        elif isinstance(kind, str) and kind in _NOT_LAYERS:
            self._report(f"{kind} is no layer; set {_NOT_LAYERS[kind]} of the layer before", f"{entry.key}.type")
        else:
            hint = suggestion(str(kind), LAYERS) or f"; there are {', '.join(LAYERS)}"
            self._report(f"unknown layer type {shown(kind)}{hint}", f"{entry.key}.type")
        return None, frozenset()

    def _check_network(self, layers: list[Layer | Unreadable], spec: VoxelSpec | None, has_voxelize: bool) -> None:
        if layers:
            self._problems += lower_layers(layers, spec)[1]
        elif not (has_voxelize or self._left_out or self._problems):
            self._report("holds neither layers nor a voxelize section; add one", "layers")


def _resolved(name: str, voxelize: Voxelize | None, layers: Iterable[Layer]) -> str:
    """The configuration as YAML text: every default written, a layer on a line."""
    lines = [f"version: {VERSION}", f"name: {flow(name)}"]
    if voxelize is not None:
        lines.append("voxelize:")
        lines += [f"  {key}: {flow(value)}" for key, value in msgspec.to_builtins(voxelize).items()]
    entries = [f"  - {flow(_fields(layer))}" for layer in layers]
    if entries:
        lines += ["layers:", *entries]
    return "\n".join(lines) + "\n"


def _fields(layer: Layer) -> dict[str, Any]:
    """A layer's keys, name and type first; null is left out, being every key's default."""
    fields = {"name": layer.name, "type": layer.type, **msgspec.to_builtins(layer)}
    return {key: value for key, value in fields.items() if value is not None}
