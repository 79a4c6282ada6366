"""Layers in order to a network: shapes, channels, the indice_key graph, and the program engines execute.

Everything that can be known before a scan is read is checked here, and all problems are reported at once. What is
not known yet (the channels of a file without named columns, the shape of a data-dependent grid) flows through as
unknown; the same layers are then built again once it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from spcli.errors import ConfigError, Problem
from spcli.geometry import ConvGeometry
from spcli.grid import VoxelSpec, fixed_grid
from spcli.layers.base import BEFORE, INPUT, KeyedSlots, Layer, Lowered, Norm, Rows
from spcli.program import (
    BuildMap,
    FlattenSites,
    GlobalSites,
    IndexOp,
    InvertMap,
    KeyedMap,
    Program,
    Value,
    ValueOp,
)

Shape = tuple[int, ...]
_LARGEST_SIZE = 2**31 - 1
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_OF_GEOMETRY = frozenset(("kernel_size", "stride", "padding", "dilation", "output_padding", "indice_key"))
_RESTS_ON = {"output_padding": ("stride", "dilation")}
"""Keys that are checked against others."""


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


class Unreadable(Struct, frozen=True):
    """Stands for a layer that could not be read, so that what refers to it is not reported as well.

    Attributes:
        name: what other layers call it.
        indice_key: its key, if it has one.
        layer: what could be read of it; None where not even its type is known.
        doubtful: the keys of `layer` that hold another value than the file means; what follows from them is not
            reported.
        key: how messages call it.
    """

    name: str
    indice_key: str | None = None
    layer: Layer | None = None
    doubtful: frozenset[str] = frozenset()
    key: str = ""


def build_network(
    layers: Sequence[Layer],
    voxelize: VoxelSpec | None = None,
    in_channels: int | None = None,
    spatial_shape: Shape | None = None,
) -> Network:
    """Check `layers` and lower them to a program.

    Args:
        layers: the layers, in order.
        voxelize: how points become the input; None where inputs are tensors.
        in_channels: channels of the input; None takes them from `voxelize` where its columns or features tell.
        spatial_shape: shape of the input (z, y, x); None takes it from the range of `voxelize` where it has one.

    Raises:
        ConfigError: carries every problem found.
    """
    network, problems = lower_layers(layers, voxelize, in_channels, spatial_shape)
    if network is None:
        raise ConfigError(problems)
    return network


def lower_layers(
    layers: Sequence[Layer | Unreadable],
    voxelize: VoxelSpec | None = None,
    in_channels: int | None = None,
    spatial_shape: Shape | None = None,
) -> tuple[Network | None, list[Problem]]:
    """As `build_network`, but returns the problems, and tolerates layers that could not be read."""
    if not layers:
        return None, [Problem("has no layers; a network needs at least one", "layers")]
    try:
        shape = spatial_shape or _shape_of(voxelize)
    except ConfigError as error:
        return None, list(error.problems)
    ndim = len(shape) if shape else 3 if voxelize else None
    lowering = _Lowering(layers, _Sites(ndim, shape, "the input"), in_channels or _channels_of(voxelize))
    for layer in layers:
        lowering.take(layer)
    if any(isinstance(layer, Unreadable) for layer in layers):
        return None, lowering.problems
    if voxelize is not None and not lowering.problems:
        lowering.check_heights()
    return (None, lowering.problems) if lowering.problems else (lowering.network(voxelize), [])


def site_shapes(program: Program, spatial_shape: Shape) -> tuple[Shape, ...]:
    """The spatial shape of every sites slot for an input of `spatial_shape`; entries can be 0 or less."""
    shapes = {0: spatial_shape}
    for op in program.index_ops:
        if isinstance(op, BuildMap):
            shapes[op.outputs] = op.geometry.out_spatial_shape(shapes[op.sites])
        elif isinstance(op, FlattenSites):
            shapes[op.outputs] = shapes[op.sites][1:]
        elif isinstance(op, GlobalSites):
            shapes[op.outputs] = ()
    return tuple(shapes[slot] for slot in range(program.sites))


def shape_chain(network: Network, spatial_shape: Shape) -> dict[str, Shape]:
    """Every layer's output shape (z, y, x) for an input of `spatial_shape`, in network order.

    Raises:
        ConfigError: the shape of some layer is 0 or less, or more than a site can hold; names them all.
    """
    shapes = site_shapes(network.program, spatial_shape)
    problems = []
    reported = set()
    for layer in network.layers:
        message = _shape_problem(shapes[layer.in_sites], shapes[layer.out_sites])
        if message and layer.out_sites not in reported and not _shape_problem((), shapes[layer.in_sites]):
            problems.append(Problem(message, f"layers.{layer.name}"))
            reported.add(layer.out_sites)
    if problems:
        raise ConfigError(problems)
    return {layer.name: shapes[layer.out_sites] for layer in network.layers}


def suggestion(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one of `choices` is close to `word`, else nothing."""
    from difflib import get_close_matches

    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), by_lower, 1, 0.6)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def _channels_of(voxelize: VoxelSpec | None) -> int:
    if voxelize is None:
        return 0
    return len(voxelize.features or voxelize.columns or ())


def _shape_of(voxelize: VoxelSpec | None) -> Shape | None:
    if voxelize is None or voxelize.point_cloud_range is None:
        return None
    return fixed_grid(voxelize).spatial_shape


def _shape_problem(before: Shape, after: Shape) -> str | None:
    if any(size <= 0 for size in after):
        remedy = "the window does not fit: use a smaller kernel_size or dilation, or more padding"
        return f"gives the shape {list(after)} for an input of {list(before)}; {remedy}"
    if any(size > _LARGEST_SIZE for size in after):
        return f"gives the shape {list(after)} for an input of {list(before)}; a side can have {_LARGEST_SIZE} cells"
    return None


class _Sites(Struct):
    """A sites slot while the network is built; `ndim` is learnt from the first layer that needs it."""

    ndim: int | None
    shape: Shape | None
    maker: str
    known: bool = True


class _Key(Struct):
    """A rulebook's key while the network is built; `named` False is a layer without an `indice_key`."""

    layer: str
    named: bool
    sites: int
    geometry: ConvGeometry | None
    map: int
    outputs: int
    layers: list[str] = []


class _Lowering:
    """The `Lowering` layers see; collects problems and goes on with unknown sites where something is wrong."""

    def __init__(self, layers: Sequence[Layer | Unreadable], sites: _Sites, in_channels: int) -> None:
        self.problems: list[Problem] = []
        self._all_names = [layer.name for layer in layers]
        self._layer = ""
        self._place = ""
        self._doubtful: frozenset[str] = frozenset()
        self._input = Rows(0, 0, in_channels)
        self._sites = [sites]
        self._values = [Value(0, in_channels)]
        self._outputs: dict[str, Rows] = {}
        self._before = INPUT
        self._infos: list[LayerInfo] = []
        self._index_ops: list[IndexOp] = []
        self._value_ops: list[ValueOp] = []
        self._maps = 0
        self._built: dict[tuple[int, ConvGeometry], tuple[int, int]] = {}
        self._inverted: dict[int, int] = {}
        self._derived: dict[tuple[str, int], int] = {}
        self._keys: dict[str, _Key] = {}
        self._parameters: dict[str, str] = {}
        self._of_unknown_width: list[str] = []

    # Driven by `lower_layers`.

    def take(self, layer: Layer | Unreadable) -> None:
        """Lower the next layer."""
        self._layer, self._place, self._doubtful = layer.name, f"layers.{layer.name}", frozenset()
        if isinstance(layer, Unreadable):
            self._take_unreadable(layer)
        else:
            self._check_names(layer)
            lowered = layer.lower(self)
            self._outputs[layer.name] = lowered.output
            self._infos.append(self._info(layer, lowered))
            if lowered.output.channels and not lowered.source.channels:
                self._of_unknown_width.append(layer.name)
        self._before = layer.name

    def check_heights(self) -> None:
        """No weights may depend on the height of a grid that depends on the scan."""
        for name in self._of_unknown_width if self._input.channels else ():
            self._place = f"layers.{name}"
            message = "needs a fixed number of input channels, but here it is set by the height of each scan's grid"
            self.problem("", f"{message}; set voxelize.point_cloud_range")

    def network(self, voxelize: VoxelSpec | None) -> Network:
        """The finished network."""
        program = Program(
            tuple(self._index_ops),
            tuple(self._value_ops),
            len(self._sites),
            self._maps,
            tuple(self._values),
            {info.name: self._outputs[info.name].value for info in self._infos},
            self._infos[-1].name,
            tuple(KeyedMap(key, entry.map, tuple(entry.layers)) for key, entry in self._keys.items()),
            voxelize,
        )
        shapes = tuple(sites.shape for sites in self._sites)
        return Network(program, tuple(self._infos), self._input.channels, shapes)

    # The protocol.

    def problem(self, key: str, message: str) -> None:
        """Something is wrong with `key` of the layer being lowered; an empty key is the layer itself."""
        if not self._doubtful & {key, *_RESTS_ON.get(key, ())}:
            self.problems.append(Problem(message, f"{self._place}.{key}" if key else self._place))

    def rows(self, reference: str | None, key: str = "input") -> Rows:
        """What a reference names; unknown rows where it names nothing that can be taken."""
        if key in self._doubtful:
            return self._unknown()
        name = self._before if reference is None else reference
        rows = self._input if name == INPUT else self._outputs.get(name)
        if rows is None:
            self.problem(key, self._no_such_layer(name))
            return self._unknown()
        if rows.dense:
            self.problem(key, f"{name!r} gives a dense array, which no layer takes; name the layer before it")
            return self._unknown()
        return rows

    def channels(self, rows: Rows, declared: int | None = None) -> int:
        """The channels of `rows`, or those declared where they are not known yet."""
        if declared and rows.channels and declared != rows.channels:
            self.problem("in_channels", f"is {declared}, but {self._name(rows)} has {rows.channels} channels")
        return rows.channels or declared or 0

    def needs_axes(self, rows: Rows, ndims: tuple[int, ...]) -> None:
        """Check the number of axes of the sites, or learn it."""
        sites = self._sites[rows.sites]
        if sites.ndim is None:
            sites.ndim = ndims[0] if len(ndims) == 1 else None
            return
        if sites.ndim in ndims:
            return
        needed = " or ".join(f"{ndim}-D" for ndim in ndims)
        has = f"{sites.ndim}-D sites" if sites.ndim else "one row a scan and no grid"
        remedy = "; put a HeightCompression between them" if (sites.ndim, ndims) == (3, (2,)) else ""
        self.problem("type", f"needs {needed} sites, but {self._name(rows)} has {has}{remedy}")

    def same_sites(self, first: str, sites: int, reference: str, rows: Rows, key: str) -> None:
        """Rows can be joined only where they lie over the same sites."""
        one, other = self._sites[sites], self._sites[rows.sites]
        if sites == rows.sites or not (one.known and other.known):
            return
        where = f"{reference!r} lies on the sites of {other.maker} and {first!r} on those of {one.maker}"
        self.problem(key, f"{where}, so their rows do not match; join layers over the same sites")

    def same_channels(self, reference: str, rows: Rows, channels: int, key: str) -> None:
        """Rows can be added only where they have as many channels."""
        if rows.channels and channels and rows.channels != channels and "out_channels" not in self._doubtful:
            self.problem(key, f"{reference!r} has {rows.channels} channels where {channels} are needed")

    def forward_map(self, rows: Rows, geometry: ConvGeometry, indice_key: str | None) -> KeyedSlots:
        """One map for each pair of sites and geometry, however many keys and layers use it."""
        key = indice_key or self._layer
        if self._doubtful & _OF_GEOMETRY:
            return KeyedSlots(0, self._unknown().sites, key)
        built = self._built.get((rows.sites, geometry)) or self._build(rows.sites, geometry)
        entry = _Key(self._layer, indice_key is not None, rows.sites, geometry, *built)
        first = self._keys.setdefault(key, entry)
        if first is not entry:
            self._check_shared(key, first, entry)
        first.layers.append(self._layer)
        return KeyedSlots(*built, key)

    def inverse_map(self, rows: Rows, kernel_size: Shape, indice_key: str) -> KeyedSlots:
        """The swapped map; all inverse layers of one map share it."""
        if "indice_key" in self._doubtful:
            return KeyedSlots(0, self._unknown().sites, indice_key, inverse=True)
        forward = self._keys.get(indice_key)
        if forward is None or forward.geometry is None:
            if forward is None:
                hint = suggestion(indice_key, self._keys)
                self.problem("indice_key", f"no earlier convolution or pooling has the key {indice_key!r}{hint}")
            return KeyedSlots(0, self._unknown().sites, indice_key, inverse=True)
        self._check_inverse(rows, kernel_size, indice_key, forward)
        if forward.map not in self._inverted:
            self._inverted[forward.map] = self._maps
            self._index_ops.append(InvertMap(forward.map, self._maps))
            self._maps += 1
        forward.layers.append(self._layer)
        return KeyedSlots(self._inverted[forward.map], forward.sites, indice_key, inverse=True)

    def flattened(self, rows: Rows) -> int:
        """The sites without their first axis."""
        shape = self._sites[rows.sites].shape
        return self._derive("flat", rows.sites, 2, shape[1:] if shape else None)

    def one_a_scan(self, rows: Rows) -> int:
        """One row a scan."""
        return self._derive("global", rows.sites, 0, ())

    def height(self, rows: Rows) -> int:
        """Cells along the first axis."""
        shape = self._sites[rows.sites].shape
        return shape[0] if shape else 0

    def value(self, sites: int, channels: int, dense: bool = False) -> Rows:
        """A new value slot."""
        channels = 0 if "out_channels" in self._doubtful else channels
        self._values.append(Value(sites, channels, dense))
        return Rows(len(self._values) - 1, sites, channels, dense)

    def emit(self, op: ValueOp) -> None:
        """Append a value operation."""
        self._value_ops.append(op)

    # What the protocol is made of.

    def _take_unreadable(self, entry: Unreadable) -> None:
        """Check what could be read of a layer; what that leaves open is unknown to the layers after it."""
        self._place, self._doubtful = entry.key or self._place, entry.doubtful
        output = self._unknown()
        if entry.layer is not None:
            self._check_names(entry.layer)
            lowered = entry.layer.lower(self)
            output = output if "name" in entry.doubtful else lowered.output
        self._outputs[entry.name] = output
        if entry.indice_key:
            self._keys.setdefault(entry.indice_key, _Key(entry.name, True, 0, None, 0, 0))

    def _unknown(self) -> Rows:
        self._sites.append(_Sites(None, None, self._layer, known=False))
        return Rows(0, len(self._sites) - 1, 0)

    def _name(self, rows: Rows) -> str:
        names = (repr(name) for name, output in self._outputs.items() if output == rows)
        return next(names, "the input")

    def _no_such_layer(self, name: str) -> str:
        if name == self._layer:
            return f"{name!r} is this layer itself; name an earlier one"
        if name in self._all_names:
            return f"{name!r} comes after this layer; name an earlier one"
        if name == BEFORE:
            return f"{BEFORE} stands for the layer before an iteration, inside a repeat only"
        return f"no earlier layer is called {name!r}{suggestion(name, self._outputs)}"

    def _check_names(self, layer: Layer) -> None:
        if layer.name in self._outputs:
            self.problem("name", f"{layer.name!r} is the name of an earlier layer too; names must be unique")
        for key in ("name", "indice_key"):
            text = getattr(layer, key, None)
            if text is not None and not _NAME.fullmatch(text):
                self.problem(key, f"is {text!r}, but may hold only letters, digits, '_', '.' and '-'")

    def _info(self, layer: Layer, lowered: Lowered) -> LayerInfo:
        parameters = {f"{layer.name}.{suffix}": shape for suffix, shape in lowered.parameters.items()}
        for parameter in parameters:
            owner = self._parameters.setdefault(parameter, layer.name)
            if owner != layer.name:
                self.problem("name", f"makes its parameter {parameter!r} one of layer {owner!r} too; rename one")
        key = lowered.key
        return LayerInfo(
            layer.name,
            layer.type,
            getattr(layer, "indice_key", None),
            lowered.in_channels,
            lowered.output.channels,
            lowered.source.sites,
            lowered.output.sites,
            key,
            lowered.kernel_volume,
            parameters,
            lowered.norm,
            lowered.inverse,
        )

    def _build(self, sites: int, geometry: ConvGeometry) -> tuple[int, int]:
        before = self._sites[sites]
        outputs = sites
        if not geometry.keeps_sites:
            shape = None
            if before.shape is not None and len(before.shape) == geometry.ndim:
                shape = geometry.out_spatial_shape(before.shape)
                message = _shape_problem(before.shape, shape)
                if message:
                    self.problem("", message)
                    shape = None
            outputs = len(self._sites)
            self._sites.append(_Sites(geometry.ndim, shape, repr(self._layer), before.known))
        self._index_ops.append(BuildMap(sites, geometry, self._maps, outputs))
        self._built[sites, geometry] = (self._maps, outputs)
        self._maps += 1
        return self._built[sites, geometry]

    def _derive(self, kind: str, sites: int, ndim: int, shape: Shape | None) -> int:
        slot = self._derived.get((kind, sites))
        if slot is None:
            slot = self._derived[kind, sites] = len(self._sites)
            self._sites.append(_Sites(ndim, shape, repr(self._layer), self._sites[sites].known))
            self._index_ops.append(FlattenSites(sites, slot) if kind == "flat" else GlobalSites(sites, slot))
        return slot

    def _check_shared(self, key: str, first: _Key, entry: _Key) -> None:
        """Two layers with one key must mean one rulebook."""
        if first.geometry is None or entry.geometry is None or first.layer == entry.layer:
            return
        if not (first.named and entry.named):
            unnamed = entry.layer if first.named else first.layer
            where = "indice_key" if entry.named else "name"
            message = f"{key!r} would be the key of two rulebooks: that of {unnamed!r}, which has no indice_key, is"
            self.problem(where, f"{message} stored under its name; give it an indice_key or another name")
            return
        for name, here, there in _differences(entry.geometry, first.geometry):
            message = f"{key!r} is shared with {first.layer!r}, but {name} is {here} here and {there} there"
            self.problem("indice_key", message)
        known = self._sites[first.sites].known and self._sites[entry.sites].known
        if first.sites != entry.sites and known:
            here, there = self._sites[entry.sites].maker, self._sites[first.sites].maker
            message = f"{key!r} is shared with {first.layer!r}, but that starts from the sites of {there}"
            self.problem("indice_key", f"{message} and this layer from those of {here}; give it a key of its own")

    def _check_inverse(self, rows: Rows, kernel_size: Shape, indice_key: str, forward: _Key) -> None:
        geometry = forward.geometry
        assert geometry is not None
        if geometry.submanifold and geometry.volume > 1:
            message = f"{indice_key!r} is the key of the submanifold layer {forward.layer!r}, which keeps its sites"
            self.problem("indice_key", f"{message}; an inverse convolution undoes a regular one or a pooling")
            return
        if kernel_size != geometry.kernel_size:
            there = list(geometry.kernel_size)
            message = f"is {list(kernel_size)}, but {forward.layer!r}, which has the key {indice_key!r}, has {there}"
            self.problem("kernel_size", message)
        ends = self._sites[rows.sites], self._sites[forward.outputs]
        if rows.sites != forward.outputs and ends[0].known and ends[1].known:
            message = f"{self._name(rows)} lies on the sites of {ends[0].maker}, but the key {indice_key!r} was made"
            self.problem("input", f"{message} by {forward.layer!r}, whose output sites it must lie on")


def _differences(here: ConvGeometry, there: ConvGeometry) -> list[tuple[str, object, object]]:
    """The fields in which two geometries differ, kinds first; other sizes do not matter where the kinds differ.

    A submanifold padding follows from the other sizes, and so does that of most other layers: it is named where
    nothing else explains it.
    """
    if _kind(here) != _kind(there):
        return [("the type", _kind(here), _kind(there))]
    names = ["kernel_size", "stride", "dilation", "output_padding"]
    if not here.submanifold and (here.kernel_size, here.dilation) == (there.kernel_size, there.dilation):
        names.insert(2, "padding")
    pairs = ((name, getattr(here, name), getattr(there, name)) for name in names)
    return [(name, list(one), list(other)) for name, one, other in pairs if one != other]


def _kind(geometry: ConvGeometry) -> str:
    if geometry.keeps_sites:
        return "submanifold"
    return "transposed" if geometry.transposed else "regular"
