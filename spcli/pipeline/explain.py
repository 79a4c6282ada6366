"""What a run leaves for looking into it: rulebooks that know where they lie in metres, and single outputs explained."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Engine, Want
from spcli.errors import UsageError
from spcli.inspect.dump import KeyedRulebook
from spcli.inspect.explain import Explanation, Term, explain, explainable, recipe, terms_into
from spcli.inspect.levels import level_placements
from spcli.inspect.sites import Where, only_row
from spcli.network import Network
from spcli.pipeline import DRAWN, run, voxelize
from spcli.pipeline.meta import scan_placement
from spcli.pipeline.prepare import Parameters, Weights, WeightsLike, as_weights
from spcli.pipeline.session import RunResult
from spcli.program import map_ends
from spcli.readers import Scan, StoredTensor, read

if TYPE_CHECKING:
    from spcli.config import Config


def keyed_rulebooks(result: RunResult, scan: Scan) -> tuple[KeyedRulebook, ...]:
    """The rulebooks of a run that kept them, with their layers and where they lie in metres, in network order."""
    network = result.network
    placements = level_placements(network, scan_placement(scan, network, result.frame.grid))
    ends = map_ends(network.program)
    return tuple(
        KeyedRulebook(
            keyed.key, keyed.layers, result.rulebooks[keyed.key], *(placements[slot] for slot in ends[keyed.map])
        )
        for keyed in network.program.keys
    )


class Explainer:
    """One scan run through a network, ready to explain output rows of one layer.

        explainer = spcli.Explainer(config, "scan.bin", "conv1", weights="net.npz")
        told = explainer.explain(explainer.row((20, 799, 358)))
        told.terms, told.steps, told.total, told.feature

    Attributes:
        result: the run.
        rulebook: the layer's rulebook; None for a Linear layer.
        layer: the layer.
    """

    def __init__(
        self,
        config: Config,
        scan: str | os.PathLike[str] | Scan,
        layer: str | None = None,
        *,
        weights: WeightsLike = DRAWN,
        engine: Engine | None = None,
    ) -> None:
        """`layer` None is the last one that is a sum over rules or rows.

        Raises:
            UsageError: there is no such layer, or it has no rules.
            InputError, ConfigError, CheckpointError: as `run`.
        """
        if not isinstance(scan, Scan):
            scan = read(os.fspath(scan), config.columns)
        self._recipe = recipe(config.network(), layer or _last_explainable(config.network()))
        self.layer = self._recipe.layer
        names = _layers_of(config.network(), (*self._recipe.slots, config.network().program.layers[self.layer.name]))
        weights = as_weights(weights)
        want = Want(tuple(dict.fromkeys(names.values())), rulebooks=True)
        self.result = run(config, scan, weights=weights, want=want, engine=engine)
        self.layer = next(layer for layer in self.result.network.layers if layer.name == self.layer.name)
        self._recipe = recipe(self.result.network, self.layer.name)
        self._values = {slot: self.result.outputs[name].features for slot, name in names.items()}
        if 0 in self._recipe.slots:
            self._values[0] = _input_features(self.result, scan, engine)
        self._parameters = _parameters(self.result.network, weights)
        self._names = names
        network = self.result.network
        placements = level_placements(network, scan_placement(scan, network, self.result.frame.grid))
        self._placement = placements[self.layer.out_sites]
        books = {keyed.key: keyed for keyed in keyed_rulebooks(self.result, scan)}
        self.rulebook = None if self.layer.key is None else books[self.layer.key]

    @property
    def sites(self) -> NDArray[np.int32]:
        """The output sites `[N, 1 + D]` of the layer."""
        return self.result.outputs[self.layer.name].indices

    def row(self, where: Where) -> int:
        """The output row that a row, a site or a point in metres names.

        Raises:
            UsageError: it is not active, or active in several scans of the batch.
        """
        return only_row(where, self._placement, self.sites, self.layer.name)

    def explain(self, row: int) -> Explanation:
        """How output row `row` came about."""
        layer = self.layer
        if self.rulebook is None:
            terms: tuple[Term, ...] = (Term(0, (), 0, row, tuple(self.sites[row].tolist())),)
        else:
            terms = terms_into(self.rulebook, row, inverse=layer.inverse)
        added = self._names.get(self._recipe.added, "the input") if self._recipe.added is not None else ""
        terms, steps = explain(self._recipe, terms, self._values, self._parameters, row, added)
        feature = self.result.outputs[layer.name].features[row]
        site = tuple(self.sites[row].tolist())
        return Explanation(layer.name, layer.type, layer.key, row, site, terms, steps, feature)


def _last_explainable(network: Network) -> str:
    names = explainable(network)
    if not names:
        raise UsageError("--explain: no layer of this network is a sum over rules")
    return names[-1]


def _layers_of(network: Network, slots: tuple[int, ...]) -> dict[int, str]:
    """The layers whose outputs some value slots hold, the input aside."""
    names = {slot: name for name, slot in network.program.layers.items()}
    return {slot: names[slot] for slot in slots if slot != 0}


def _input_features(result: RunResult, scan: Scan, engine: Engine | None) -> NDArray[np.float32]:
    """The features of the network's input."""
    if isinstance(scan.content, StoredTensor):
        return scan.content.tensor.features
    spec = result.network.program.voxelize
    assert spec is not None
    return voxelize(scan.content, spec, engine=engine).tensor.features


def _parameters(network: Network, weights: Weights) -> Parameters:
    """The parameters that a run with `weights` used."""
    from spcli.weights import as_float32, initial_parameters, load_weights

    if weights.arrays is not None:
        return as_float32(weights.arrays)
    return initial_parameters(network, weights.seed) if weights.path is None else load_weights(weights.path)
