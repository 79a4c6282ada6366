"""Parameters: drawn from a seed, read from and written to files, checked against a network, folded for engines.

Names and shapes are those of docs/files.md: `L.weight` is `[Cout, *kernel_size, Cin]` for every kind of layer, in
float32. `READERS` is the table of file formats; one for another project's checkpoints is one more line and gives the
same names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from math import prod, sqrt
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import LayerParameters
from spcli.errors import CheckpointError, ConfigError, Problem, UsageError
from spcli.layers.base import BatchNorm1d, LayerNorm
from spcli.network import LayerInfo, Network
from spcli.writers.atomic import replacing
from spcli.writers.npz import save_npz

Parameters = dict[str, NDArray[np.float32]]

_BOUNDS = {
    "bias": (-0.1, 0.1),
    "norm.weight": (0.5, 1.5),
    "norm.bias": (-0.5, 0.5),
    "norm.running_mean": (-0.5, 0.5),
    "norm.running_var": (0.5, 1.5),
}
_PIECE = 1 << 15


def initial_parameters(network: Network, seed: int) -> Parameters:
    """Seeded parameters, layer by layer, as docs/files.md defines them.

    Each layer has its own generator, so a layer's values depend on its name, its shapes and the seed alone. The bound
    of a weight is He's for uniform draws, sqrt(6 / (V * Cin)), which keeps the variance through deep sparse networks.

    Raises:
        ConfigError: a layer's input channels are not known.
    """
    layers = [layer for layer in network.layers if layer.parameters]
    unknown = [
        Problem("has no known number of input channels", f"layers.{x.name}") for x in layers if not x.in_channels
    ]
    if unknown:
        raise ConfigError([*unknown, Problem("name the file's columns or the features", "voxelize.columns")])
    drawn: Parameters = {}
    for layer in layers:
        drawn |= _draw(layer, seed)
    return drawn


def _draw(layer: LayerInfo, seed: int) -> Parameters:
    """One layer's parameters, in the order of its `parameters`."""
    generator = np.random.Generator(np.random.PCG64([seed, crc32(layer.name.encode())]))
    bound = sqrt(6 / (layer.kernel_volume * layer.in_channels))
    bounds = {"weight": (-bound, bound), **_BOUNDS}
    return {
        name: _uniform(generator, *bounds[name[len(layer.name) + 1 :]], shape)
        for name, shape in layer.parameters.items()
    }


def _uniform(generator: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Float64 draws rounded to float32, a piece at a time so that the doubles stay in cache."""
    values = np.empty(prod(shape), np.float32)
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE]
        piece[:] = generator.uniform(low, high, len(piece))
    return values.reshape(shape)


def fold(network: Network, parameters: Mapping[str, NDArray[np.float32]]) -> dict[str, LayerParameters]:
    """What engines multiply with, by layer name: batch norm and bias as a scale and a shift in float64.

    `scale = weight / sqrt(running_var + eps)` and `shift = bias_of_norm + (bias - running_mean) * scale`.
    """
    return {layer.name: _fold(layer, parameters) for layer in network.layers if layer.parameters}


def _fold(layer: LayerInfo, parameters: Mapping[str, NDArray[np.float32]]) -> LayerParameters:
    own = {name[len(layer.name) + 1 :]: parameters[name] for name in layer.parameters}
    bias = own["bias"].astype(np.float64) if "bias" in own else None
    if isinstance(layer.norm, BatchNorm1d):
        scale = own["norm.weight"] / np.sqrt(own["norm.running_var"].astype(np.float64) + layer.norm.eps)
        centred = (0.0 if bias is None else bias) - own["norm.running_mean"].astype(np.float64)
        return LayerParameters(own["weight"], scale, own["norm.bias"] + centred * scale)
    if isinstance(layer.norm, LayerNorm):
        return LayerParameters(own["weight"], None, bias, own["norm.weight"], own["norm.bias"])
    return LayerParameters(own["weight"], None, bias)


def check_fit(network: Network, parameters: Mapping[str, NDArray[np.float32]], source: str) -> None:
    """Parameters must be exactly those of the network, with numbers in them that can be used.

    Raises:
        CheckpointError: names every parameter that is missing, unknown, misshapen or not usable.
    """
    wanted = {name: shape for layer in network.layers for name, shape in layer.parameters.items()}
    misshapen = [
        f"{name} is {list(parameters[name].shape)} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in parameters and parameters[name].shape != shape
    ]
    present = [name for name in wanted if name in parameters]
    floats = [name for name in present if parameters[name].dtype.kind == "f"]
    other = [f"{name} is {parameters[name].dtype}" for name in present if name not in floats]
    infinite = [name for name in floats if not np.isfinite(parameters[name]).all()]
    negative = [name for name in floats if name.endswith(".running_var") and (parameters[name] < 0).any()]
    faults = [
        _listed("missing", [name for name in wanted if name not in parameters]),
        _listed("unknown", [name for name in parameters if name not in wanted]),
        _listed("of another shape", misshapen),
        _listed("no floats", other),
        _listed("not finite", infinite),
        _listed("a negative variance", negative),
    ]
    found = "; ".join(fault for fault in faults if fault)
    if found:
        raise CheckpointError(f"{source} does not fit the network: {found}; give the weights made for this network")


def _listed(what: str, names: list[str]) -> str:
    return f"{len(names)} {what} ({', '.join(names)})" if names else ""


def load_weights(path: str) -> Parameters:
    """All parameters of a file, by name, floats as float32; the content decides the format.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds something other than arrays.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
        reader = next((read for matches, read in READERS if matches(start)), None)
        arrays = None if reader is None else reader(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); give a weights file") from error
    if arrays is None:
        raise CheckpointError(f"{path} holds no weights spcli can read; give a .npz or .safetensors file")
    kinds = {name: getattr(array, "dtype", None) for name, array in arrays.items()}
    other = [name for name, kind in kinds.items() if kind is None]
    if other:
        raise CheckpointError(f"{path} must hold arrays only, but {', '.join(other)} is none; leave it out")
    return as_float32(arrays)


def as_float32(arrays: Mapping[str, Any]) -> Parameters:
    """Floats of any width as float32; arrays of other types stay as they are, for `check_fit` to name."""
    found = {name: np.asarray(array) for name, array in arrays.items()}
    return {name: np.ascontiguousarray(a, np.float32) if a.dtype.kind == "f" else a for name, a in found.items()}


def _read_npz(path: str) -> dict[str, NDArray[Any]]:
    from zipfile import BadZipFile
    from zlib import error as ZlibError

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, KeyError, RuntimeError, MemoryError, BadZipFile, ZlibError) as error:
        raise CheckpointError(f"{path} is damaged or not an .npz of plain arrays ({error}); write it again") from error


def _read_safetensors(path: str) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: dict[str, NDArray[Any]] = load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, MemoryError) as error:
        message = f"{path} is damaged or holds types numpy lacks ({error}); write it again in float32"
        raise CheckpointError(message) from error
    return arrays


READERS: tuple[tuple[Callable[[bytes], bool], Callable[[str], dict[str, NDArray[Any]]]], ...] = (
    (lambda start: start[:2] == b"PK", _read_npz),
    (lambda start: len(start) == 9 and start[8:] == b"{", _read_safetensors),
)
"""File formats: what the first nine bytes must satisfy, and what reads the file."""


def save_weights(path: str, parameters: Mapping[str, NDArray[np.float32]]) -> None:
    """Write parameters as `.npz` (stored, not compressed) or `.safetensors`, by suffix; equal bytes for equal values.

    Raises:
        UsageError: the suffix is another, or the place cannot be written to.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (".npz", ".safetensors"):
        raise UsageError(f"{path}: weights are written as .npz or .safetensors; choose one of these suffixes")
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in parameters.items()}
    if suffix == ".npz":
        save_npz(path, arrays)
        return
    from safetensors.numpy import save

    with replacing(path) as file:
        file.write(save(arrays))
