"""Where a network's parameters come from: a file, arrays, or a seed; the one place that decides it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Union

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from spcli.errors import CheckpointError
from spcli.network import Network
from spcli.weights import as_float32, check_fit, initial_parameters, load_weights, save_weights

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
        """What a record calls them: the file's SHA-256, "arrays", or "random, seed S".

        Raises:
            CheckpointError: the file cannot be read.
        """
        if self.arrays is not None:
            return "arrays"
        if self.path is None:
            return f"random, seed {self.seed}"
        try:
            with open(self.path, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error.strerror}); check --weights") from error


DRAWN = Weights()
"""Drawn from seed 0."""


def as_weights(given: WeightsLike) -> Weights:
    """Weights from what a caller has: a file's path, arrays by name, or a seed."""
    if isinstance(given, Weights):
        return given
    if isinstance(given, int):
        return Weights(seed=given)
    return Weights(arrays=given) if isinstance(given, Mapping) else Weights(os.fspath(given))


class ParameterSource:
    """The parameters of every network that one `Weights` serves; a file is read once."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._saved = False

    @cached_property
    def _given(self) -> Parameters | None:
        if self.weights.arrays is not None:
            return as_float32(self.weights.arrays)
        return None if self.weights.path is None else load_weights(self.weights.path)

    def parameters(self, network: Network) -> Parameters:
        """The parameters of `network`, by name.

        Raises:
            CheckpointError: they do not fit, or the file cannot be read.
        """
        if self._given is None:
            found: Parameters = initial_parameters(network, self.weights.seed)
        else:
            found = self._given
            check_fit(network, found, "the arrays" if self.weights.arrays is not None else str(self.weights.path))
        if self.weights.save is not None and not self._saved:
            save_weights(self.weights.save, found)
            self._saved = True
        return found
