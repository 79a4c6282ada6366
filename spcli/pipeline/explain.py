"""What a run leaves for looking into it: rulebooks that know where they lie in metres, and single outputs explained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcli.engines.base import Engine, Want
from spcli.errors import UsageError
from spcli.inspect.dump import KeyedRulebook
from spcli.inspect.explain import Explanation, Term, explain, explainable, recipe, terms_into
from spcli.inspect.levels import level_placements
from spcli.inspect.sites import Where, only_row
from spcli.network import Network
from spcli.pipeline.meta import scan_placement
from spcli.pipeline.parameters import DRAWN, WeightsLike
from spcli.pipeline.scans import ScanLike, as_scan
from spcli.pipeline.session import ConfigLike, RunResult, Session, as_config
from spcli.program import INPUT, map_ends
from spcli.readers import Scan


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
        found = explainer.explain(explainer.row((20, 799, 358)))
        found.terms, found.steps, found.total, found.feature

    Attributes:
        result: the run.
        rulebook: the layer's rulebook; None for a Linear layer.
        layer: the layer.
    """

    def __init__(
        self,
        config: ConfigLike,
        scan: ScanLike,
        layer: str | None = None,
        *,
        weights: WeightsLike = DRAWN,
        device: str | Engine = "cpu",
    ) -> None:
        """`layer` None is the last one that is a sum over rules or rows.

        Raises:
            UsageError: there is no such layer, or it has no rules.
            InputError, ConfigError, CheckpointError: as `run`.
        """
        config = as_config(config)
        self._scan = as_scan(scan, config.columns)
        network = config.network()
        self._recipe = recipe(network, layer or _last_explainable(network))
        self.layer = self._recipe.layer
        names = _layers_of(network, (*self._recipe.slots, network.program.layers[self.layer.name]))
        want = Want(tuple(dict.fromkeys(names.values())), rulebooks=True)
        session = Session(config, weights=weights, device=device, want=want)
        self.result = session.run(self._scan)
        self.layer = next(layer for layer in self.result.network.layers if layer.name == self.layer.name)
        self._recipe = recipe(self.result.network, self.layer.name)
        self._values = {slot: self.result.outputs[name].features for slot, name in names.items()}
        self._parameters = session.parameters(self.result.network)
        self._names = names
        network = self.result.network
        placements = level_placements(network, scan_placement(self._scan, network, self.result.frame.grid))
        self._placement = placements[self.layer.out_sites]
        books = {keyed.key: keyed for keyed in keyed_rulebooks(self.result, self._scan)}
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
        added = "" if self._recipe.added is None else self._names[self._recipe.added]
        added = "the input" if added == INPUT else added
        terms, steps = explain(self._recipe, terms, self._values, self._parameters, row, added)
        feature = self.result.outputs[layer.name].features[row]
        site = tuple(self.sites[row].tolist())
        return Explanation(layer.name, layer.type, layer.key, row, site, terms, steps, feature)


def _last_explainable(network: Network) -> str:
    names = explainable(network)
    if not names:
        raise UsageError("no layer of this network is a sum over rules")
    return names[-1]


def _layers_of(network: Network, slots: tuple[int, ...]) -> dict[int, str]:
    """What to call the values of some slots in a `Want`: layers, and the input."""
    names = {0: INPUT, **{slot: name for name, slot in network.program.layers.items()}}
    return {slot: names[slot] for slot in slots}
