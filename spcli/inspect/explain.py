"""One output row of a layer written out: every rule's term, then what the layer does to their sum, in float64.

The order is that of a layer: terms, bias, norm, add, activation. Nothing is folded, so that every number can be looked
up in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import erf
from typing import Any

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from spcli.errors import UsageError
from spcli.inspect.dump import KeyedRulebook
from spcli.layers.base import BatchNorm1d
from spcli.network import LayerInfo, Network
from spcli.program import Activation, Convolve, NormalizeRows, Pool

Values = NDArray[np.float64]


class Term(Struct, frozen=True):
    """One rule into the output row.

    Attributes:
        tap, offset, count: the rule's kernel index, its centred offset, and its number within the tap; a Linear layer
            has one term and no offset.
        in_row: the input row.
        in_site: batch, z, y, x of it; None where no site is known.
        features: `[Cin]` of the input row; None where only the rules are known.
        contribution: `[Cout]`, `W[tap] @ features`, or the features themselves under a pooling window.
    """

    tap: int
    offset: tuple[int, ...]
    count: int
    in_row: int
    in_site: tuple[int, ...] | None
    features: Values | None = None
    contribution: Values | None = None


class Step(Struct, frozen=True):
    """What a layer does after its terms.

    Attributes:
        name: `sum`, `max`, `mean`, `bias`, `norm`, `add` or `activation`.
        what: the parameter, layer or function that is used.
        value: `[Cout]` after the step.
    """

    name: str
    what: str
    value: Values


class Explanation(Struct, frozen=True):
    """How one output row came about.

    Attributes:
        layer, type, key: the layer; key None without a rulebook.
        out_row, out_site: the output row and its batch, z, y, x.
        terms: one a rule, in the order of taps.
        steps: what follows; empty where only the rules are known.
        feature: `[Cout]`, what the engine computed; None where only the rules are known.
    """

    layer: str
    type: str
    key: str | None
    out_row: int
    out_site: tuple[int, ...]
    terms: tuple[Term, ...]
    steps: tuple[Step, ...] = ()
    feature: NDArray[np.float32] | None = None

    @property
    def total(self) -> Values | None:
        """`[Cout]` after the last step."""
        return self.steps[-1].value if self.steps else None

    @property
    def largest_difference(self) -> float | None:
        """Between the total and what the engine computed, over the channels."""
        if self.total is None or self.feature is None:
            return None
        return float(np.abs(self.total - self.feature).max(initial=0.0))


class Recipe(Struct, frozen=True):
    """The operations that make up one layer, and the values they read.

    Attributes:
        layer: the layer.
        rules: the convolution or pooling.
        norm: the layer norm that follows, None without.
    """

    layer: LayerInfo
    rules: Convolve | Pool
    norm: NormalizeRows | None = None

    @property
    def slots(self) -> tuple[int, ...]:
        """The value slots that are read from outside: the input, and what is added."""
        return (self.rules.input,) if self.added is None else (self.rules.input, self.added)

    @property
    def added(self) -> int | None:
        """The value slot of the residual."""
        if isinstance(self.rules, Pool):
            return None
        return self.rules.add if self.norm is None else self.norm.add

    @property
    def activation(self) -> Activation:
        """The function at the end."""
        if isinstance(self.rules, Pool):
            return Activation()
        return self.rules.activation if self.norm is None else self.norm.activation


def explainable(network: Network) -> tuple[str, ...]:
    """The layers whose outputs are sums over rules or rows."""
    made = {op.output for op in network.program.value_ops if isinstance(op, Convolve | Pool | NormalizeRows)}
    return tuple(layer.name for layer in network.layers if network.program.layers[layer.name] in made)


def recipe(network: Network, name: str) -> Recipe:
    """How layer `name` is made.

    Raises:
        UsageError: there is no such layer, or its outputs are no sums over rules.
    """
    known = explainable(network)
    if name not in known:
        reason = "has no rules" if name in network.program.layers else "does not exist"
        raise UsageError(f"--layer {name}: {reason}; there are {', '.join(known) or 'none with rules'}")
    layer = next(layer for layer in network.layers if layer.name == name)
    by_output = {op.output: op for op in network.program.value_ops}
    made = by_output[network.program.layers[name]]
    if isinstance(made, NormalizeRows):
        product = by_output[made.input]
        assert isinstance(product, Convolve)
        return Recipe(layer, product, made)
    assert isinstance(made, Convolve | Pool)
    return Recipe(layer, made)


def terms_into(keyed: KeyedRulebook, row: int, *, inverse: bool = False) -> tuple[Term, ...]:
    """The rules into an output row, by tap. `inverse` reads the rulebook with its ends swapped."""
    book = keyed.rulebook
    into, from_, sites = (
        (book.in_rows, book.out_rows, book.out_indices) if inverse else (book.out_rows, book.in_rows, book.in_indices)
    )
    offsets = book.geometry.offsets()
    terms = []
    for rule in np.flatnonzero(into == row).tolist():
        tap = int(np.searchsorted(book.pair_splits, rule, side="right")) - 1
        source = int(from_[rule])
        site = tuple(sites[source].tolist())
        terms.append(Term(tap, offsets[tap], rule - int(book.pair_splits[tap]), source, site))
    return tuple(terms)


def explain(
    recipe: Recipe,
    terms: tuple[Term, ...],
    values: Mapping[int, NDArray[np.float32]],
    parameters: Mapping[str, NDArray[np.float32]],
    row: int,
    added: str = "",
) -> tuple[tuple[Term, ...], tuple[Step, ...]]:
    """The terms of an output row with their numbers, and the steps after them.

    Args:
        recipe: how the layer is made.
        terms: the rules into the row.
        values: features `[N, C]` of `recipe.slots`.
        parameters: as `load_weights` or `initial_parameters` give them; only those of the layer are looked at.
        row: the output row, for what is added.
        added: the name of what is added.
    """
    inputs = values[recipe.rules.input]
    if isinstance(recipe.rules, Pool):
        return _pooled(recipe.rules, terms, inputs)
    layer = recipe.layer
    weight = parameters[f"{layer.name}.weight"].astype(np.float64)
    by_tap = weight.reshape(len(weight), layer.kernel_volume, weight.shape[-1])
    found = []
    total = np.zeros(len(weight))
    for term in terms:
        features = inputs[term.in_row].astype(np.float64)
        contribution = by_tap[:, term.tap] @ features
        total = total + contribution
        found.append(structs.replace(term, features=features, contribution=contribution))
    steps = [Step("sum", f"{len(terms)} {'term' if len(terms) == 1 else 'terms'}", total)]
    steps += _weighted_steps(recipe, steps[0].value, parameters)
    if recipe.added is not None:
        steps.append(Step("add", added, steps[-1].value + values[recipe.added][row]))
    if recipe.activation.kind != "none":
        steps.append(Step("activation", recipe.activation.kind, activated(steps[-1].value, recipe.activation)))
    return tuple(found), tuple(steps)


def _pooled(
    op: Pool, terms: tuple[Term, ...], inputs: NDArray[np.float32]
) -> tuple[tuple[Term, ...], tuple[Step, ...]]:
    found = []
    for term in terms:
        features = inputs[term.in_row].astype(np.float64)
        found.append(structs.replace(term, features=features, contribution=features))
    rows = np.array([term.contribution for term in found])
    value = rows.max(axis=0) if op.reduce == "max" else rows.mean(axis=0)
    sites = "site" if len(terms) == 1 else "sites"
    return tuple(found), (Step(op.reduce, f"{len(terms)} active {sites} of the window", value),)


def _weighted_steps(recipe: Recipe, value: Values, parameters: Mapping[str, NDArray[np.float32]]) -> list[Step]:
    """Bias and norm."""
    layer = recipe.layer
    own: dict[str, Any] = {
        name[len(layer.name) + 1 :]: parameters[name].astype(np.float64) for name in layer.parameters
    }
    steps = []
    if layer.has_bias:
        value = value + own["bias"]
        steps.append(Step("bias", f"{layer.name}.bias", value))
    if layer.norm is not None:
        if isinstance(layer.norm, BatchNorm1d):
            mean, variance = own["norm.running_mean"], own["norm.running_var"]
        else:
            mean, variance = value.mean(), value.var()
        value = (value - mean) / np.sqrt(variance + layer.norm.eps) * own["norm.weight"] + own["norm.bias"]
        steps.append(Step("norm", type(layer.norm).__name__, value))
    return steps


def activated(value: Values, activation: Activation) -> Values:
    """The activation function in float64."""
    if activation.kind == "relu":
        return np.maximum(value, 0)
    if activation.kind == "leaky_relu":
        return np.where(value > 0, value, activation.slope * value)
    if activation.kind == "gelu":
        return np.array([x * 0.5 * (1 + erf(x / 2**0.5)) for x in value.tolist()])
    return value
