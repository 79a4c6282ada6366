"""A checked network: its program, and what statistics, weights and tables want to know of its layers.

`lowering` makes one from layers.
"""

from __future__ import annotations

from msgspec import Struct

from spcli.layers.base import Norm
from spcli.program import Program, Shape, Stride, builds, site_strides

_LARGEST_SIZE = 2**31 - 1


class LayerInfo(Struct, frozen=True):
    """One layer of a network, for statistics, weights and tables.

    Attributes:
        name, type, indice_key: as configured.
        in_channels, out_channels: 0 where not known yet; several inputs are counted together.
        in_sites, out_sites: sites slots of the program.
        key: the `KeyedMap` it uses; None without a rulebook. An inverse layer uses its forward layer's.
        kernel_volume: taps V, 1 without a kernel.
        parameters: full name to shape, in drawing order (weight, bias, norm weight, bias, running mean and variance).
        norm: the norm, None without.
        inverse: whether the layer runs the rulebook with its ends swapped.
    """

    name: str
    type: str
    indice_key: str | None
    in_channels: int
    out_channels: int
    in_sites: int
    out_sites: int
    key: str | None
    kernel_volume: int
    parameters: dict[str, Shape]
    norm: Norm | None = None
    inverse: bool = False

    @property
    def has_bias(self) -> bool:
        """Whether the layer has a bias of its own, apart from its norm's."""
        return f"{self.name}.bias" in self.parameters


class Network(Struct, frozen=True):
    """A checked network.

    Attributes:
        program: what engines execute.
        layers: the layers, in order.
        in_channels: channels of the input, 0 where not known yet.
        shapes: spatial shape by sites slot, None where it depends on the scan.
    """

    program: Program
    layers: tuple[LayerInfo, ...]
    in_channels: int
    shapes: tuple[Shape | None, ...]

    @property
    def ndim(self) -> int:
        """Axes of the input's sites; 3 where neither its shape nor a window over it says."""
        if self.shapes[0]:
            return len(self.shapes[0])
        return next((op.geometry.ndim for op in builds(self.program).values() if op.sites == 0), 3)

    def strides(self, stride: Stride | None = None) -> tuple[Stride, ...]:
        """Cells a site spans, z, y, x, by sites slot, where the input's span `stride`; None is one on every axis."""
        return site_strides(self.program, stride or (1,) * self.ndim)


def shape_problem(before: Shape, after: Shape) -> str | None:
    """What is wrong with the output shape `after` of an input of shape `before`, None where nothing is."""
    if any(size <= 0 for size in after):
        remedy = "the window does not fit: use a smaller kernel_size or dilation, or more padding"
        return f"gives the shape {list(after)} for an input of {list(before)}; {remedy}"
    if any(size > _LARGEST_SIZE for size in after):
        return f"gives the shape {list(after)} for an input of {list(before)}; a side can have {_LARGEST_SIZE} cells"
    return None
