"""Networks made ready to run, one for every number of input channels that a batch turns out to have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Union

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.engines.base import Engine, Frame, Runner, Want
from spcli.errors import CheckpointError
from spcli.network import Network

if TYPE_CHECKING:
    from spcli.config import Config

Parameters = Mapping[str, NDArray[np.float32]]
WeightsLike = Union["Weights", str, "os.PathLike[str]", Parameters, int]


class Weights(Struct, frozen=True):
    """Where a network's parameters come from.

    Attributes:
        path: a file of parameters; None draws them.
        seed: what they are drawn from without a file.
        save: a file that gets the parameters of the first network that is made ready.
        arrays: the parameters themselves, by name; they come before `path`.
    """

    path: str | None = None
    seed: int = 0
    save: str | None = None
    arrays: Parameters | None = None

    def describe(self) -> str:
        """What a record calls them: the file's SHA-256, "arrays", or "random, seed S"."""
        if self.arrays is not None:
            return "arrays"
        if self.path is None:
            return f"random, seed {self.seed}"
        try:
            with open(self.path, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error.strerror}); check --weights") from error


def as_weights(given: WeightsLike) -> Weights:
    """Weights from what a caller has: a file's path, arrays by name, or a seed."""
    if isinstance(given, Weights):
        return given
    if isinstance(given, int):
        return Weights(seed=given)
    return Weights(arrays=given) if isinstance(given, Mapping) else Weights(os.fspath(given))


class Prepared(Struct, frozen=True):
    """A network and the runner that carries it out."""

    network: Network
    runner: Runner


class Workshop:
    """Makes networks ready when a scan first needs them and keeps them for the next."""

    def __init__(self, config: Config, engine: Engine, want: Want, weights: Weights | None, graph: bool = True) -> None:
        """`weights` None leaves parameters out, for runs that compute no features; `want.layers` may be empty."""
        self._config = config
        self._engine = engine
        self._want = want
        self._weights = weights
        self._graph = graph
        self._ready: list[Prepared] = []
        self._by_input: dict[tuple[int, tuple[int, ...] | None], Prepared] = {}
        self._loaded: Parameters | None = None

    def ready_for(self, channels: int, spatial_shape: tuple[int, ...] | None = None) -> Prepared:
        """The network for inputs of so many channels, and of a shape where only the input tells it.

        Raises:
            ConfigError: the network does not work for such inputs.
            CheckpointError: the weights do not fit it.
        """
        key = (channels, spatial_shape)
        if key not in self._by_input:
            self._by_input[key] = self._prepare(*key)
        return self._by_input[key]

    def _prepare(self, channels: int, spatial_shape: tuple[int, ...] | None) -> Prepared:
        network = self._config.network(channels, spatial_shape)
        for known in self._ready:
            if known.network.program == network.program:
                return Prepared(network, known.runner)
        prepared = Prepared(network, self._runner(network))
        self._ready.append(prepared)
        return prepared

    def resolved(self, network: Network, frame: Frame) -> Network:
        """`network` with the shapes of this frame, where only the scan told them."""
        if network.shapes[0] is not None:
            return network
        return self._config.network(network.in_channels, frame.shapes[0])

    def _runner(self, network: Network) -> Runner:
        if self._weights is None:
            return self._engine.compile(network.program, {}, self._want, self._graph)
        from spcli.weights import fold

        parameters = self._parameters(network, self._weights)
        return self._engine.compile(network.program, fold(network, parameters), self._want, self._graph)

    def _parameters(self, network: Network, weights: Weights) -> Parameters:
        from spcli.weights import as_float32, check_fit, initial_parameters, load_weights, save_weights

        if weights.arrays is not None:
            parameters: Parameters = as_float32(weights.arrays)
            check_fit(network, parameters, "the arrays")
        elif weights.path is None:
            parameters = initial_parameters(network, weights.seed)
        else:
            if self._loaded is None:
                self._loaded = load_weights(weights.path)
            parameters = self._loaded
            check_fit(network, parameters, weights.path)
        if weights.save is not None and not self._ready:
            save_weights(weights.save, parameters)
        return parameters
