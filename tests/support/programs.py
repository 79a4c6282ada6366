"""Random small programs, and their evaluation in float64 by the oracle, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

import oracle
from spcli.engines.base import LayerParameters
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.program import (
    Activation,
    AddValues,
    BuildMap,
    CompressHeight,
    Concatenate,
    Convolve,
    FlattenSites,
    GlobalPool,
    GlobalSites,
    InvertMap,
    KeyedMap,
    MakeDense,
    NormalizeRows,
    Pool,
    Program,
    ReduceChannels,
    Value,
)
from spcli.sparse_tensor import SparseTensor
from strategies import sparse_tensors

ACTIVATIONS = (Activation(), Activation("relu"), Activation("leaky_relu", 0.01), Activation("gelu"))


@dataclass
class ProgramBuilder:
    """Writes a program operation by operation; every method that makes a value returns its slot.

    `shapes` are the spatial shapes by sites slot, known because the input's shape is.
    """

    shapes: list[tuple[int, ...]]
    channels: int
    seed: int = 0
    index_ops: list[Any] = field(default_factory=list)
    value_ops: list[Any] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    maps: list[tuple[int, int, ConvGeometry]] = field(default_factory=list)
    keys: dict[int, list[str]] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, LayerParameters] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.values.append(Value(0, self.channels))
        self.random = np.random.default_rng(self.seed)

    def build_map(self, sites: int, geometry: ConvGeometry) -> int:
        """A new map from a sites slot, or the one that has these sites and this geometry already."""
        for slot, (source, _, existing) in enumerate(self.maps):
            if (source, existing) == (sites, geometry) and slot in self.keys:
                return slot
        outputs = sites
        if not geometry.submanifold:
            outputs = self._new_sites(geometry.out_spatial_shape(self.shapes[sites]))
        self.maps.append((sites, outputs, geometry))
        self.index_ops.append(BuildMap(sites, geometry, len(self.maps) - 1, outputs))
        self.keys[len(self.maps) - 1] = []
        return len(self.maps) - 1

    def invert_map(self, source: int) -> int:
        """The inverse of a map."""
        inputs, outputs, geometry = self.maps[source]
        self.maps.append((outputs, inputs, geometry))
        self.index_ops.append(InvertMap(source, len(self.maps) - 1))
        return len(self.maps) - 1

    def convolve(
        self,
        map_slot: int | None,
        value: int,
        out_channels: int,
        activation: Activation = ACTIVATIONS[1],
        add: int | None = None,
    ) -> int:
        """A convolution along a map (None: Linear) with random weight, scale and shift."""
        sites, kernel = self.values[value].sites, ()
        if map_slot is not None:
            _, sites, geometry = self.maps[map_slot]
            kernel = geometry.kernel_size
        name, output = self._new_value(Value(sites, out_channels))
        if map_slot in self.keys:
            self.keys[map_slot].append(name)
        fan_in = np.prod(kernel) * self.values[value].channels
        weight = self.random.standard_normal((out_channels, *kernel, self.values[value].channels)) / np.sqrt(fan_in)
        self.parameters[name] = LayerParameters(
            weight=weight.astype(np.float32),
            scale=self.random.uniform(0.5, 2.0, out_channels) if self.random.integers(3) else None,
            shift=self.random.normal(0.0, 0.5, out_channels) if self.random.integers(3) else None,
        )
        self.value_ops.append(Convolve(map_slot, value, output, name, add, activation))
        return output

    def pool(self, map_slot: int, value: int, reduce: Any) -> int:
        """A pooling along a map."""
        return self._append(Pool, Value(self.maps[map_slot][1], self.values[value].channels), map_slot, value, reduce)

    def concat(self, *inputs: int) -> int:
        """Values side by side."""
        channels = sum(self.values[value].channels for value in inputs)
        return self._append(Concatenate, Value(self.values[inputs[0]].sites, channels), inputs)

    def add(self, *inputs: int, activation: Activation = ACTIVATIONS[1]) -> int:
        """A sum of values."""
        _, output = self._new_value(self.values[inputs[0]])
        self.value_ops.append(AddValues(inputs, output, activation))
        return output

    def layer_norm(self, value: int, activation: Activation = ACTIVATIONS[1], add: int | None = None) -> int:
        """A LayerNorm with random weight and bias."""
        name, output = self._new_value(self.values[value])
        channels = self.values[value].channels
        self.parameters[name] = LayerParameters(
            norm_weight=self.random.uniform(0.5, 1.5, channels).astype(np.float32),
            norm_bias=self.random.uniform(-0.5, 0.5, channels).astype(np.float32),
        )
        self.value_ops.append(NormalizeRows(value, output, name, 1e-3, add, activation))
        return output

    def channel_reduction(self, value: int, out_channels: int) -> int:
        """Neighbouring channels summed."""
        return self._append(ReduceChannels, Value(self.values[value].sites, out_channels), value)

    def height_compression(self, value: int) -> int:
        """Onto the flattened sites of the value's sites."""
        depth, *plane = self.shapes[self.values[value].sites]
        flat = self._new_sites(tuple(plane))
        self.index_ops.append(FlattenSites(self.values[value].sites, flat))
        return self._append(CompressHeight, Value(flat, self.values[value].channels * depth), value)

    def global_pool(self, value: int, reduce: Any) -> int:
        """One row per scan."""
        rows = self._new_sites(())
        self.index_ops.append(GlobalSites(self.values[value].sites, rows))
        return self._append(GlobalPool, Value(rows, self.values[value].channels), value, reduce)

    def to_dense(self, value: int) -> int:
        """A dense output."""
        return self._append(MakeDense, Value(self.values[value].sites, self.values[value].channels, dense=True), value)

    def program(self) -> Program:
        """What was written so far; the last value is the output."""
        return Program(
            index_ops=tuple(self.index_ops),
            value_ops=tuple(self.value_ops),
            sites=len(self.shapes),
            maps=len(self.maps),
            values=tuple(self.values),
            layers=dict(self.layers),
            output=list(self.layers)[-1],
            keys=tuple(KeyedMap(f"key{slot}", slot, tuple(layers)) for slot, layers in self.keys.items()),
        )

    def _new_sites(self, shape: tuple[int, ...]) -> int:
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def _new_value(self, value: Value) -> tuple[str, int]:
        self.values.append(value)
        name = f"layer{len(self.layers)}"
        self.layers[name] = len(self.values) - 1
        return name, len(self.values) - 1

    def _append(self, kind: Any, value: Value, *fields: Any) -> int:
        """Append `kind(*fields, output)`; Pool and GlobalPool have their reduction after the output."""
        _, output = self._new_value(value)
        if kind in (Pool, GlobalPool):
            self.value_ops.append(kind(*fields[:-1], output, fields[-1]))
        else:
            self.value_ops.append(kind(*fields, output))
        return output


@dataclass
class Evaluation:
    """Everything a program gives for one tensor, in float64, by slot."""

    sites: list[list[oracle.Site]]
    shapes: list[tuple[int, ...]]
    rules: list[oracle.Rules]
    values: list[np.ndarray]


def evaluate(program: Program, parameters: dict[str, LayerParameters], tensor: SparseTensor) -> Evaluation:
    """Execute a program by the oracle."""
    state = Evaluation([[]] * program.sites, [()] * program.sites, [None] * program.maps, [None] * len(program.values))
    state.sites[0] = [tuple(site) for site in tensor.indices.tolist()]
    state.shapes[0] = tensor.spatial_shape
    state.values[0] = tensor.features.astype(np.float64)
    for index_op in program.index_ops:
        _index_op(index_op, state, tensor.batch_size)
    for op in program.value_ops:
        context = _Context(program, parameters, state, tensor.batch_size)
        state.values[op.output] = VALUE_OPS[type(op)](op, context)
    return state


def _index_op(op: Any, state: Evaluation, batch_size: int) -> None:
    if isinstance(op, BuildMap):
        rules = oracle.rules_of(state.sites[op.sites], state.shapes[op.sites], op.geometry)
        state.rules[op.map] = rules
        state.sites[op.outputs], state.shapes[op.outputs] = rules.out_sites, rules.out_shape
    elif isinstance(op, InvertMap):
        state.rules[op.map] = oracle.inverse_of(state.rules[op.source])
    elif isinstance(op, FlattenSites):
        state.sites[op.outputs] = sorted({(site[0], *site[2:]) for site in state.sites[op.sites]})
        state.shapes[op.outputs] = state.shapes[op.sites][1:]
    else:
        state.sites[op.outputs] = [(batch,) for batch in range(batch_size)]


@dataclass
class _Context:
    program: Program
    parameters: dict[str, LayerParameters]
    state: Evaluation
    batch_size: int

    def source(self, value: int) -> tuple[np.ndarray, list[oracle.Site], tuple[int, ...]]:
        sites = self.program.values[value].sites
        return self.state.values[value], self.state.sites[sites], self.state.shapes[sites]

    def finish(self, rows: np.ndarray, op: Any) -> np.ndarray:
        if op.add is not None:
            rows = rows + self.state.values[op.add]
        return oracle.activate(rows, op.activation.kind, op.activation.slope)


def _convolve(op: Convolve, context: _Context) -> np.ndarray:
    inputs = context.state.values[op.input]
    parameters = context.parameters[op.parameters]
    if op.map is None:
        rows = inputs @ parameters.weight.reshape(len(parameters.weight), -1).T.astype(np.float64)
    else:
        rows = oracle.convolve(inputs, context.state.rules[op.map], parameters.weight)
    rows = rows * (1.0 if parameters.scale is None else parameters.scale)
    return context.finish(rows + (0.0 if parameters.shift is None else parameters.shift), op)


def _pool(op: Pool, context: _Context) -> np.ndarray:
    reduce = oracle.max_pool if op.reduce == "max" else oracle.mean_pool
    return reduce(context.state.values[op.input], context.state.rules[op.map])


def _add(op: AddValues, context: _Context) -> np.ndarray:
    total = sum(context.state.values[value] for value in op.inputs)
    return oracle.activate(total, op.activation.kind, op.activation.slope)


def _layer_norm(op: NormalizeRows, context: _Context) -> np.ndarray:
    parameters = context.parameters[op.parameters]
    rows = oracle.layer_norm(context.state.values[op.input], parameters.norm_weight, parameters.norm_bias, op.eps)
    return context.finish(rows, op)


VALUE_OPS: dict[type, Callable[[Any, _Context], np.ndarray]] = {
    Convolve: _convolve,
    Pool: _pool,
    GlobalPool: lambda op, c: oracle.global_pool(*c.source(op.input)[:2], c.batch_size, op.reduce),
    Concatenate: lambda op, c: np.concatenate([c.state.values[value] for value in op.inputs], axis=1),
    AddValues: _add,
    NormalizeRows: _layer_norm,
    ReduceChannels: lambda op, c: oracle.channel_reduction(
        c.state.values[op.input], c.program.values[op.output].channels
    ),
    CompressHeight: lambda op, c: oracle.height_compression(*c.source(op.input))[1],
    MakeDense: lambda op, c: oracle.to_dense(*c.source(op.input), c.batch_size),
}


@st.composite
def programs(draw: DrawFn) -> tuple[SparseTensor, ProgramBuilder]:
    """A tensor and up to eight layers over it: branches, skips, residuals, concatenations, shared and inverted maps."""
    ndim = draw(st.sampled_from((3, 3, 2)))
    channels = draw(st.sampled_from((1, 4, 5, 16)))
    tensor = draw(sparse_tensors(ndim, channels=channels))
    builder = ProgramBuilder([tensor.spatial_shape], channels, draw(st.integers(0, 2**16)))
    rows = [0]
    for _ in range(draw(st.integers(1, 8))):
        value = rows[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(rows))
        rows.append(draw(st.sampled_from(MOVES))(draw, builder, value))
    ends = [builder.to_dense, lambda value: builder.global_pool(value, "max")]
    ends += [lambda value: builder.global_pool(value, "mean")]
    if ndim == 3:
        ends.append(builder.height_compression)
    for end in draw(st.lists(st.sampled_from(ends), max_size=2)):
        end(draw(st.sampled_from(rows)))
    return tensor, builder


def _kernel(draw: DrawFn, builder: ProgramBuilder, value: int, options: tuple[tuple[int, ...], ...]) -> Any:
    """One of the geometries (kernel, stride, padding on every axis) whose output grid is not empty."""
    shape = builder.shapes[builder.values[value].sites]
    all_axes = [regular_geometry(*((n,) * len(shape) for n in option), (1,) * len(shape)) for option in options]
    return draw(st.sampled_from([g for g in all_axes if min(g.out_spatial_shape(shape)) >= 1]))


def _submanifold(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    sites = builder.values[value].sites
    size = draw(st.sampled_from((3, 3, 5, 1)))
    ones = (1,) * len(builder.shapes[sites])
    slot = builder.build_map(sites, submanifold_geometry(tuple(size * n for n in ones), ones))
    return _any_convolution(draw, builder, value, slot)


def _strided(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    geometry = _kernel(draw, builder, value, ((3, 2, 1), (2, 2, 1), (1, 2, 0), (2, 3, 0), (3, 1, 1)))
    return _any_convolution(draw, builder, value, builder.build_map(builder.values[value].sites, geometry))


def _inverse(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    sites = builder.values[value].sites
    forward = [
        slot for slot in builder.keys if builder.maps[slot][1] == sites and not builder.maps[slot][2].submanifold
    ]
    if not forward:
        return _strided(draw, builder, value)
    return _any_convolution(draw, builder, value, builder.invert_map(draw(st.sampled_from(forward))))


def _linear(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    return _any_convolution(draw, builder, value, None)


def _any_convolution(draw: DrawFn, builder: ProgramBuilder, value: int, slot: int | None) -> int:
    """With or without a residual, which must have the output's sites and channels."""
    sites = builder.values[value].sites if slot is None else builder.maps[slot][1]
    same = _rows_over(builder, sites)
    add = draw(st.sampled_from([None, *same]))
    channels = draw(st.sampled_from((1, 3, 16, 17, 32))) if add is None else builder.values[add].channels
    return builder.convolve(slot, value, channels, draw(st.sampled_from(ACTIVATIONS)), add)


def _rows_over(builder: ProgramBuilder, sites: int, channels: int | None = None) -> list[int]:
    fits = lambda value: value.sites == sites and not value.dense and channels in (None, value.channels)  # noqa: E731
    return [slot for slot, value in enumerate(builder.values) if fits(value)]


def _pooled(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    slot = builder.build_map(builder.values[value].sites, _kernel(draw, builder, value, ((2, 2, 1), (3, 2, 1))))
    return builder.pool(slot, value, draw(st.sampled_from(("max", "mean"))))


def _concat(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    others = _rows_over(builder, builder.values[value].sites)
    picked = draw(st.lists(st.sampled_from(others), min_size=1, max_size=2))
    return builder.concat(*draw(st.permutations([value, *picked])))


def _add_values(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    others = _rows_over(builder, builder.values[value].sites, builder.values[value].channels)
    picked = draw(st.lists(st.sampled_from(others), min_size=1, max_size=2))
    return builder.add(value, *picked, activation=draw(st.sampled_from(ACTIVATIONS)))


def _norm(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    same = _rows_over(builder, builder.values[value].sites, builder.values[value].channels)
    return builder.layer_norm(value, draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from([None, *same])))


def _reduction(draw: DrawFn, builder: ProgramBuilder, value: int) -> int:
    channels = builder.values[value].channels
    return builder.channel_reduction(
        value, draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    )


MOVES = (_submanifold, _strided, _inverse, _linear, _pooled, _concat, _add_values, _norm, _reduction)
