"""A network in float64: gather, multiply, scatter-add over the rulebooks, which the tests prove against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np

from spcli.engines.base import Frame, LayerParameters
from spcli.network import Network
from spcli.program import AddValues, BuildMap, Concatenate, Convolve, InvertMap
from spcli.rulebook import Rulebook
from spcli.sparse_tensor import SparseTensor


def output64(network: Network, folded: dict[str, LayerParameters], frame: Frame, tensor: SparseTensor) -> np.ndarray:
    """Float64 features of the network's output, over the rulebooks of `frame`."""
    program = network.program
    inverse = {op.map: op.source for op in program.index_ops if isinstance(op, InvertMap)}
    keys = {keyed.map: keyed.key for keyed in program.keys}
    assert all(isinstance(op, BuildMap | InvertMap) for op in program.index_ops)
    values: dict[int, np.ndarray] = {0: tensor.features.astype(np.float64)}
    last_use = {slot: n for n, op in enumerate(program.value_ops) for slot in _inputs(op)}
    for n, op in enumerate(program.value_ops):
        if isinstance(op, Convolve):
            book = None if op.map is None else frame.rulebooks[keys[inverse.get(op.map, op.map)]]
            values[op.output] = _convolve(op, values, folded[op.parameters], book, op.map in inverse)
        elif isinstance(op, Concatenate):
            values[op.output] = np.concatenate([values[slot] for slot in op.inputs], axis=1)
        elif isinstance(op, AddValues):
            values[op.output] = _activate(sum(values[slot] for slot in op.inputs), op.activation)
        else:
            raise TypeError(f"the float64 reference has no {type(op).__name__}")
        for slot in [slot for slot in values if last_use.get(slot, len(program.value_ops)) <= n]:
            del values[slot]
    return values[program.layers[program.output]]


def relative_l2(actual: np.ndarray, expected: np.ndarray) -> float:
    """`|actual - expected| / |expected|`, both over all elements, in float64."""
    difference = actual.astype(np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


def _inputs(op: Any) -> tuple[int, ...]:
    if isinstance(op, Concatenate | AddValues):
        return op.inputs
    return (op.input,) if op.add is None else (op.input, op.add)


def _convolve(
    op: Convolve, values: dict[int, np.ndarray], layer: LayerParameters, book: Rulebook | None, inverted: bool
) -> np.ndarray:
    assert layer.weight is not None
    weight = layer.weight.reshape(len(layer.weight), -1, layer.weight.shape[-1]).astype(np.float64)
    inputs = values[op.input]
    if book is None:
        rows = inputs @ weight[:, 0].T
    else:
        ends = (book.in_rows, book.out_rows, len(book.out_indices))
        sources, targets, count = (ends[1], ends[0], len(book.in_indices)) if inverted else ends
        rows = np.zeros((count, len(weight)))
        for tap in range(weight.shape[1]):
            rules = slice(int(book.pair_splits[tap]), int(book.pair_splits[tap + 1]))
            # A tap reaches an output row at most once, so plain indexing adds every rule.
            rows[targets[rules]] += inputs[sources[rules]] @ weight[:, tap].T
    if layer.scale is not None:
        rows *= layer.scale
    if layer.shift is not None:
        rows += layer.shift
    return _activate(rows if op.add is None else rows + values[op.add], op.activation)


def _activate(rows: np.ndarray, activation: Any) -> np.ndarray:
    if activation.kind == "none":
        return rows
    if activation.kind == "relu":
        return np.maximum(rows, 0.0)
    raise TypeError(f"the float64 reference has no {activation.kind}")
