"""What a network is lowered to: a flat tuple of frozen operations with integer slots, and nothing else.

Engines know these operations and never see YAML, layer classes or checkpoints. There are three kinds of slot, each
numbered from 0: *sites* (sets of active sites), *maps* (rulebooks) and *values* (feature rows over a sites slot).
Sites 0 and value 0 are the input. The index operations need positions only and can all run before the first value
operation; both tuples are in an order that may be executed as it stands.

Shapes are not part of a program: sites carry their shape at run time, so one program serves scans of every extent.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from spcli.geometry import ConvGeometry
from spcli.grid import VoxelSpec

ActivationKind = Literal["none", "relu", "leaky_relu", "gelu"]


class Activation(Struct, frozen=True):
    """A pointwise function; `slope` is that of LeakyReLU below zero. GELU is the exact one, with erf."""

    kind: ActivationKind = "none"
    slope: float = 0.01


NO_ACTIVATION = Activation()


class BuildMap(Struct, frozen=True):
    """Build map slot `map` from sites slot `sites`; the output sites become slot `outputs` (`sites` itself where the
    geometry is submanifold)."""

    sites: int
    geometry: ConvGeometry
    map: int
    outputs: int


class InvertMap(Struct, frozen=True):
    """Map slot `map` is map slot `source` with its ends swapped: same taps, outputs at the source's input sites."""

    source: int
    map: int


class FlattenSites(Struct, frozen=True):
    """Sites slot `outputs` are the 2-D sites (batch, y, x) that have at least one active z in sites slot `sites`."""

    sites: int
    outputs: int


class GlobalSites(Struct, frozen=True):
    """Sites slot `outputs` has one row a scan of the batch: indices `[B, 1]`, no spatial axis."""

    sites: int
    outputs: int


IndexOp = BuildMap | InvertMap | FlattenSites | GlobalSites


class Convolve(Struct, frozen=True):
    """`output = activation(conv(input) + shift + add)` with the folded parameters of layer `parameters`.

    `map` None is the pointwise product of a Linear layer (kernel volume 1, no rules). `add` is a value slot.
    """

    map: int | None
    input: int
    output: int
    parameters: str
    add: int | None = None
    activation: Activation = NO_ACTIVATION


class Pool(Struct, frozen=True):
    """Maximum or mean over the active input sites of each output's window."""

    map: int
    input: int
    output: int
    reduce: Literal["max", "mean"]


class GlobalPool(Struct, frozen=True):
    """Maximum or mean over all sites of each scan in the batch; a scan without sites gives zeros."""

    input: int
    output: int
    reduce: Literal["max", "mean"]


class Concat(Struct, frozen=True):
    """Channels of `inputs` side by side; all lie over the same sites slot."""

    inputs: tuple[int, ...]
    output: int


class Add(Struct, frozen=True):
    """Sum of `inputs`, from the first to the last, then the activation."""

    inputs: tuple[int, ...]
    output: int
    activation: Activation = NO_ACTIVATION


class LayerNorm(Struct, frozen=True):
    """`activation(layer_norm(input) + add)` over the channels of each row, biased variance, with the norm weight and
    bias of layer `parameters`."""

    input: int
    output: int
    parameters: str
    eps: float
    add: int | None = None
    activation: Activation = NO_ACTIVATION


class ChannelReduction(Struct, frozen=True):
    """Sums neighbouring channels: `[N, C]` seen as `[N, C_out, C / C_out]`, summed over the last axis."""

    input: int
    output: int


class HeightCompression(Struct, frozen=True):
    """`[N, C]` over 3-D sites to `[M, C * Z]` over their flattened sites, channel `c * Z + z`; absent cells are 0."""

    input: int
    output: int


class ToDense(Struct, frozen=True):
    """A dense float32 `[B, C, Z, Y, X]` (2-D: `[B, C, Y, X]`), zero where no site is active. Only ever an output."""

    input: int
    output: int


ValueOp = Convolve | Pool | GlobalPool | Concat | Add | LayerNorm | ChannelReduction | HeightCompression | ToDense


class Value(Struct, frozen=True):
    """What a value slot holds: `channels` columns over sites slot `sites`, dense instead of rows for ToDense.

    `channels` 0 means that the height of the grid decides (HeightCompression over a data-dependent shape).
    """

    sites: int
    channels: int
    dense: bool = False


class KeyedMap(Struct, frozen=True):
    """A rulebook users can name: its `indice_key` (or layer name), its map slot, and the layers that use it."""

    key: str
    map: int
    layers: tuple[str, ...]


class Program(Struct, frozen=True):
    """A lowered network.

    Attributes:
        index_ops, value_ops: the operations of the two phases, in execution order.
        sites, maps: how many slots of each kind there are.
        values: every value slot, slot 0 being the input.
        layers: layer name to its output's value slot, in network order.
        output: the last layer's name.
        keys: the rulebooks users can name, in network order.
        voxelize: how points become the input; None where inputs are always tensors.
    """

    index_ops: tuple[IndexOp, ...]
    value_ops: tuple[ValueOp, ...]
    sites: int
    maps: int
    values: tuple[Value, ...]
    layers: dict[str, int]
    output: str
    keys: tuple[KeyedMap, ...]
    voxelize: VoxelSpec | None = None


def map_ends(program: Program) -> dict[int, tuple[int, int]]:
    """Map slot to the sites slots of its inputs and outputs."""
    ends: dict[int, tuple[int, int]] = {}
    for op in program.index_ops:
        if isinstance(op, BuildMap):
            ends[op.map] = (op.sites, op.outputs)
        elif isinstance(op, InvertMap):
            ends[op.map] = ends[op.source][::-1]
    return ends
