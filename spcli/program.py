"""What a network is lowered to: a flat tuple of frozen operations with integer slots, and nothing else.

Engines know these operations and never see YAML, layer classes or checkpoints. There are three kinds of slot, each
numbered from 0: *sites* (sets of active sites), *maps* (rulebooks) and *values* (feature rows over a sites slot).
Sites 0 and value 0 are the input. The index operations need positions only and can all run before the first value
operation; both tuples are in an order that may be executed as it stands.

Shapes are not part of a program: sites carry their shape at run time, so one program serves scans of every extent.

What follows from a program alone is said here: which sites, shape, stride and centres an index operation makes of those
before (`fold_sites`), and which rows of which values a value operation reads (`reads`).
Engines carry operations out. The rest of the package asks the functions here what an operation reads and makes; only
what writes a sum out (`inspect/explain.py`) looks at its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeVar

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from spcli.geometry import CellAxes, ConvGeometry
from spcli.grid import VoxelSpec

Shape = tuple[int, ...]
Stride = tuple[float, ...]
OfSites = TypeVar("OfSites")

INPUT = "$input"
"""The name of the input's value, beside those of the layers, which hold no "$"."""

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

    def shape_after(self, shape: Shape) -> Shape:
        """The outputs' shape; entries can be 0 or less where the window does not fit."""
        return self.geometry.out_spatial_shape(shape)

    def stride_after(self, stride: Stride) -> Stride:
        """Cells of the input that an output spans; whole numbers stay ints."""
        pairs = tuple(zip(stride, self.geometry.stride, strict=True))
        if self.geometry.transposed:
            return tuple(have // by if have % by == 0 else have / by for have, by in pairs)
        return tuple(have * by for have, by in pairs)

    def axes_after(self, axes: CellAxes) -> CellAxes:
        """Where the outputs' cells lie: each in the middle of its window."""
        return axes.after(self.geometry)

    def sites_after(self, sites: NDArray[np.int32] | None, batch_size: int) -> None:
        """Only the rulebook has the outputs of a window."""


class InvertMap(Struct, frozen=True):
    """Map slot `map` is map slot `source` with its ends swapped: same taps, outputs at the source's input sites."""

    source: int
    map: int


class FlattenSites(Struct, frozen=True):
    """Sites slot `outputs` are the 2-D sites (batch, y, x) that have at least one active z in sites slot `sites`."""

    ndim: ClassVar[int] = 2
    sites: int
    outputs: int

    def shape_after(self, shape: Shape) -> Shape:
        """The shape without its first axis."""
        return shape[1:]

    def stride_after(self, stride: Stride) -> Stride:
        """The stride without its first axis."""
        return stride[1:]

    def axes_after(self, axes: CellAxes) -> CellAxes:
        """All cells of a column at the bottom of the grid."""
        return axes.flattened()

    def sites_after(self, sites: NDArray[np.int32] | None, batch_size: int) -> NDArray[np.int32] | None:
        """The columns `[M, 3]` of sites `[N, 4]`; None where those are not known."""
        return None if sites is None else np.unique(sites[:, [0, 2, 3]], axis=0)


class GlobalSites(Struct, frozen=True):
    """Sites slot `outputs` has one row per scan of the batch: indices `[B, 1]`, no spatial axis."""

    ndim: ClassVar[int] = 0
    sites: int
    outputs: int

    def shape_after(self, shape: Shape) -> Shape:
        """No axis is left."""
        return ()

    def stride_after(self, stride: Stride) -> Stride:
        """No axis is left."""
        return ()

    def axes_after(self, axes: CellAxes) -> CellAxes:
        """Drawn as rows along z, at the input's first cell."""
        return CellAxes()

    def sites_after(self, sites: NDArray[np.int32] | None, batch_size: int) -> NDArray[np.int32]:
        """The numbers of the scans."""
        return np.arange(batch_size, dtype=np.int32)[:, None]


DerivedSites = FlattenSites | GlobalSites
"""What follows from the sites before it alone; `ndim` axes are left."""
SitesOp = BuildMap | DerivedSites
IndexOp = SitesOp | InvertMap


class Read(Struct, frozen=True):
    """A value that an operation reads, and which of its rows make an output row.

    `kind` is `same`, the row of that number; `map`, the rows that map slot `map` joins to it; `global`, every row of
    its scan; or `flatten`, the rows above its cell.
    """

    value: int
    kind: Literal["same", "map", "global", "flatten"] = "same"
    map: int | None = None


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


class Concatenate(Struct, frozen=True):
    """Channels of `inputs` side by side; all lie over the same sites slot."""

    inputs: tuple[int, ...]
    output: int


class AddValues(Struct, frozen=True):
    """Sum of `inputs`, from the first to the last, then the activation."""

    inputs: tuple[int, ...]
    output: int
    activation: Activation = NO_ACTIVATION


class NormalizeRows(Struct, frozen=True):
    """`activation(layer_norm(input) + add)` over the channels of each row, biased variance, with the norm weight and
    bias of layer `parameters`."""

    input: int
    output: int
    parameters: str
    eps: float
    add: int | None = None
    activation: Activation = NO_ACTIVATION


class ReduceChannels(Struct, frozen=True):
    """Sums neighbouring channels: `[N, C]` seen as `[N, C_out, C / C_out]`, summed over the last axis."""

    input: int
    output: int


class CompressHeight(Struct, frozen=True):
    """`[N, C]` over 3-D sites to `[M, C * Z]` over their flattened sites, channel `c * Z + z`; absent cells are 0."""

    input: int
    output: int


class MakeDense(Struct, frozen=True):
    """A dense float32 `[B, C, Z, Y, X]` (2-D: `[B, C, Y, X]`), zero where no site is active. Only ever an output."""

    input: int
    output: int


ValueOp = (
    Convolve | Pool | GlobalPool | Concatenate | AddValues | NormalizeRows | ReduceChannels | CompressHeight | MakeDense
)
JOINABLE = (Convolve, Pool, Concatenate, AddValues, NormalizeRows)
"""What can write straight into the columns of a concatenation."""


class Value(Struct, frozen=True):
    """What a value slot holds: `channels` columns over sites slot `sites`, dense instead of rows for MakeDense.

    `channels` 0 means that the height of the grid decides (CompressHeight over a data-dependent shape).
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


def reads(op: ValueOp) -> tuple[Read, ...]:
    """What an operation reads: its inputs in order, then what is added."""
    if isinstance(op, Concatenate | AddValues):
        return tuple(map(Read, op.inputs))
    first = Read(op.input)
    if isinstance(op, Convolve | Pool) and op.map is not None:
        first = Read(op.input, "map", op.map)
    elif isinstance(op, GlobalPool | CompressHeight):
        first = Read(op.input, "global" if isinstance(op, GlobalPool) else "flatten")
    added = op.add if isinstance(op, Convolve | NormalizeRows) else None
    return (first,) if added is None else (first, Read(added))


def value_slot(program: Program, name: str) -> int:
    """The value slot of a layer's output, or of the input by the name `INPUT`."""
    return 0 if name == INPUT else program.layers[name]


def with_channels(program: Program, shapes: Sequence[Shape]) -> Program:
    """The program with the channels that only the grid of a scan decides, by its sites' `shapes`.

    Weights never depend on them: such values come from CompressHeight, and from what pools, joins or adds them.
    """
    values = list(program.values)
    for op in program.value_ops:
        if not values[op.output].channels:
            read = [values[one.value] for one in reads(op)]
            channels = sum(value.channels for value in read) if isinstance(op, Concatenate) else read[0].channels
            if reads(op)[0].kind == "flatten":
                channels *= shapes[read[0].sites][0]
            values[op.output] = structs.replace(values[op.output], channels=channels)
    return structs.replace(program, values=tuple(values))


def builds(program: Program) -> dict[int, BuildMap]:
    """The operation that builds each map slot, inverted maps aside."""
    return {op.map: op for op in program.index_ops if isinstance(op, BuildMap)}


def inverted(program: Program) -> dict[int, int]:
    """The map slots that are inverted, each with the slot of its forward map."""
    return {op.map: op.source for op in program.index_ops if isinstance(op, InvertMap)}


def map_ends(program: Program) -> dict[int, tuple[int, int]]:
    """Map slot to the sites slots of its inputs and outputs."""
    ends = {slot: (op.sites, op.outputs) for slot, op in builds(program).items()}
    return ends | {slot: ends[source][::-1] for slot, source in inverted(program).items()}


def fold_sites(program: Program, start: OfSites, after: Callable[[SitesOp, OfSites], OfSites]) -> tuple[OfSites, ...]:
    """What holds of every sites slot, where `start` holds of the input's: `after` makes it from one slot to the next.

    Slots that keep the sites before them keep what holds of these.
    """
    found = [start] * program.sites
    for op in program.index_ops:
        if not isinstance(op, InvertMap) and op.outputs != op.sites:
            found[op.outputs] = after(op, found[op.sites])
    return tuple(found)


def site_shapes(program: Program, spatial_shape: Shape) -> tuple[Shape, ...]:
    """The spatial shape of every sites slot for an input of `spatial_shape`; entries can be 0 or less."""
    return fold_sites(program, spatial_shape, lambda op, shape: op.shape_after(shape))


def site_strides(program: Program, stride: Stride) -> tuple[Stride, ...]:
    """Cells a site spans, z, y, x, by sites slot, where the input's span `stride`. Empty where no axis is left."""
    return fold_sites(program, stride, lambda op, before: op.stride_after(before))


def site_axes(program: Program) -> tuple[CellAxes, ...]:
    """Where the cells of every sites slot lie among the input's."""
    return fold_sites(program, CellAxes(), lambda op, before: op.axes_after(before))
