"""What all layers share: the types of their fields, and what they may ask of the network they are lowered into.

A layer is a frozen struct whose fields are its YAML keys. It knows its geometry, its parameters' shapes and what
follows it in the epilogue, and writes itself down as operations of `program.py` through a `Lowering`. Layers never
see each other: a reference is a name, and the lowering knows what stands behind it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol

import msgspec
from msgspec import Meta

from spcli.geometry import ConvGeometry
from spcli.program import Activation, DerivedSites, ValueOp

BEFORE = "$in"
"""Inside a repeat, the reference that names the layer before the iteration."""

_Z_Y_X = "or a list of them in z, y, x order (2-D: y, x)"
_Side = Annotated[int, Meta(ge=1, le=7)]
_Step = Annotated[int, Meta(ge=1, le=32767)]
_Margin = Annotated[int, Meta(ge=0, le=32767)]
_AXES = Meta(min_length=2, max_length=3)

KernelSize = Annotated[
    _Side | Annotated[tuple[_Side, ...], _AXES], Meta(description=f"a whole number from 1 to 7, {_Z_Y_X}")
]
Steps = Annotated[
    _Step | Annotated[tuple[_Step, ...], _AXES], Meta(description=f"a whole number from 1 to 32767, {_Z_Y_X}")
]
Margins = Annotated[
    _Margin | Annotated[tuple[_Margin, ...], _AXES], Meta(description=f"a whole number from 0 to 32767, {_Z_Y_X}")
]
Channels = Annotated[int, Meta(ge=1, le=65536, description="a whole number from 1 to 65536")]
Name = Annotated[
    str,
    Meta(
        description="a name of letters, digits, '_', '.' and '-'",
        extra_json_schema={"pattern": r"^([A-Za-z0-9_.-]|\{i\})+$"},
    ),
]
Reference = Annotated[str, Meta(description="the name of an earlier layer, or $input for the network's input")]
References = Annotated[tuple[str, ...], Meta(min_length=2, description="a list of two or more earlier layers' names")]
Switch = Annotated[bool, Meta(description="true or false")]
Eps = Annotated[float, Meta(gt=0, le=1, description="a number above 0 and at most 1, such as 1e-3")]
Slope = Annotated[float, Meta(ge=-1e6, le=1e6, description="a number, such as 0.01")]


class BatchNorm1d(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """Batch norm over the active sites, in evaluation mode: folded into the layer's scale and shift."""

    eps: Eps = 1e-5


class LayerNorm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """Norm over the channels of each row; executed on its own, after the convolution."""

    eps: Eps = 1e-5


class ReLU(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """`max(x, 0)`."""


class LeakyReLU(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """`x` above zero, `slope * x` below."""

    slope: Slope = 0.01


class GELU(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """`x * Phi(x)` with the exact normal distribution function."""


Norm = BatchNorm1d | LayerNorm
NormKey = Annotated[
    BatchNorm1d | LayerNorm | Literal["BatchNorm1d", "LayerNorm", "none"] | None,
    Meta(description="BatchNorm1d, LayerNorm, one of them with eps as {type: BatchNorm1d, eps: 1e-3}, or null"),
]
ActivationKey = Annotated[
    ReLU | LeakyReLU | GELU | Literal["ReLU", "LeakyReLU", "GELU", "none"] | None,
    Meta(description="ReLU, LeakyReLU, GELU, {type: LeakyReLU, slope: 0.1}, or null"),
]


def norm_of(key: NormKey) -> Norm | None:
    """The norm a `norm` key asks for, a bare name standing for its defaults."""
    if key == "BatchNorm1d":
        return BatchNorm1d()
    if key == "LayerNorm":
        return LayerNorm()
    return None if isinstance(key, str) else key


def activation_of(key: ActivationKey) -> Activation:
    """The activation an `activation` key asks for."""
    if isinstance(key, LeakyReLU):
        return Activation("leaky_relu", key.slope)
    name = key if isinstance(key, str) else type(key).__name__
    if name == "ReLU":
        return Activation("relu")
    if name == "LeakyReLU":
        return Activation("leaky_relu")
    return Activation("gelu") if name == "GELU" else Activation()


class Rows(msgspec.Struct, frozen=True):
    """What one layer hands to the next: feature rows over a set of sites.

    Attributes:
        value: the value slot.
        sites: the sites slot.
        channels: columns, 0 where they are not known yet.
        dense: the value is a dense array, which no layer takes.
    """

    value: int
    sites: int
    channels: int
    dense: bool = False


class KeyedSlots(msgspec.Struct, frozen=True):
    """A map a layer may use: its slot, the sites its outputs lie on, the key it is known by, and whether it is that
    key's rulebook with its ends swapped."""

    map: int
    outputs: int
    key: str
    inverse: bool = False


class Lowered(msgspec.Struct, frozen=True):
    """What a layer became.

    Attributes:
        source: its input (the first of several).
        output: what the next layer gets.
        in_channels: channels of the source, or of all inputs together where they are joined; 0 where not known yet.
        key: the rulebook it uses, None without one.
        kernel_volume: taps V, 1 without a kernel.
        parameters: suffix (such as `norm.weight`) to shape, in the order of docs/files.md.
        norm: the norm, for folding.
        inverse: whether the rulebook is used with its ends swapped.
    """

    source: Rows
    output: Rows
    in_channels: int
    key: str | None = None
    kernel_volume: int = 1
    parameters: dict[str, tuple[int, ...]] = {}
    norm: Norm | None = None
    inverse: bool = False


class Lowering(Protocol):
    """What a layer may ask for while it is lowered. Nothing here raises: problems are collected, and a lowering with
    problems gives no network."""

    def problem(self, key: str, message: str) -> None:
        """Something is wrong with `key` of the layer being lowered."""

    def rows(self, reference: str | None, key: str = "input") -> Rows:
        """What a reference names; None is the layer before."""

    def channels(self, rows: Rows, declared: int | None = None) -> int:
        """The channels of `rows`, checked against `in_channels` where a layer declares it; 0 where not known."""

    def needs_axes(self, rows: Rows, ndims: tuple[int, ...]) -> None:
        """The layer works on sites of these numbers of axes only."""

    def same_sites(self, first: str, sites: int, reference: str, rows: Rows, key: str) -> None:
        """`rows`, which `reference` names, must lie over sites slot `sites`, where the layer `first` lies."""

    def same_channels(self, reference: str, rows: Rows, channels: int, key: str) -> None:
        """`rows`, which `reference` names, must have so many channels."""

    def forward_map(self, rows: Rows, geometry: ConvGeometry, indice_key: str | None) -> KeyedSlots:
        """The map of a convolution or pooling window over the sites of `rows`."""

    def inverse_map(self, rows: Rows, kernel_size: tuple[int, ...], indice_key: str) -> KeyedSlots:
        """The map of an earlier layer with its ends swapped; `rows` must lie on that layer's output sites."""

    def derived(self, rows: Rows, kind: type[DerivedSites]) -> int:
        """The sites slot that an operation of `kind` makes of that of `rows`."""

    def height(self, rows: Rows) -> int:
        """Cells along the first axis, 0 where not known yet."""

    def value(self, sites: int, channels: int, dense: bool = False) -> Rows:
        """A new value slot."""

    def emit(self, op: ValueOp) -> None:
        """Append a value operation."""


def per_axis(net: Lowering, key: str, size: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """`size` as one integer per axis; a list of another length is a problem of `key`."""
    if isinstance(size, int):
        return (size,) * ndim
    if len(size) != ndim:
        axes = "z, y, x" if ndim == 3 else "y, x"
        net.problem(key, f"has {len(size)} numbers where a {ndim}-D layer needs {ndim} ({axes})")
        return (*size, *size)[:ndim]
    return size


class Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """One entry of `layers`; `name` is what references, parameters and output files call it."""

    takes_defaults: ClassVar[bool] = False
    """Whether the `defaults` section of a configuration applies."""

    name: Name

    @property
    def type(self) -> str:
        """The layer's type as a configuration spells it."""
        return type(self).__name__

    def lower(self, net: Lowering) -> Lowered:
        """Write the layer down as operations."""
        raise NotImplementedError
