"""The program of a network, written layer by layer, and everything that is wrong with the layers on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from spcli.errors import Problem, suggestion
from spcli.geometry import ConvGeometry
from spcli.grid import VoxelSpec
from spcli.layers.base import BEFORE, KeyedSlots, Layer, Lowered, Rows
from spcli.lowering.checks import Complaint, KeyEntry, SitesEntry, wrong_inverse, wrong_names, wrongly_shared
from spcli.network import LayerInfo, Network, shape_problem
from spcli.program import INPUT, BuildMap, DerivedSites, IndexOp, InvertMap, KeyedMap, Program, Shape, Value, ValueOp

_OF_GEOMETRY = frozenset(("kernel_size", "stride", "padding", "dilation", "output_padding", "indice_key"))
_RESTS_ON = {"output_padding": ("stride", "dilation")}
"""Keys that are checked against others."""


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


class NetworkBuilder:
    """The `Lowering` layers see; collects problems and goes on with unknown sites where something is wrong."""

    def __init__(self, layers: Sequence[Layer | Unreadable], sites: SitesEntry, in_channels: int) -> None:
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
        self._derived: dict[tuple[type[DerivedSites], int], int] = {}
        self._keys: dict[str, KeyEntry] = {}
        self._parameters: dict[str, str] = {}
        self._of_unknown_width: list[str] = []

    # Driven by `lower_layers`.

    def take(self, layer: Layer | Unreadable) -> None:
        """Lower the next layer."""
        self._layer, self._place, self._doubtful = layer.name, f"layers.{layer.name}", frozenset()
        if isinstance(layer, Unreadable):
            self._take_unreadable(layer)
        else:
            self._report(wrong_names(layer, self._outputs))
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
        has = f"{sites.ndim}-D sites" if sites.ndim else "one row per scan and no grid"
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
        entry = KeyEntry(self._layer, indice_key is not None, rows.sites, geometry, *built)
        first = self._keys.setdefault(key, entry)
        if first is not entry:
            self._report(wrongly_shared(key, first, entry, self._sites))
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
        self._report(self._wrongly_inverted(rows, kernel_size, indice_key, forward, forward.geometry))
        if forward.map not in self._inverted:
            self._inverted[forward.map] = self._maps
            self._index_ops.append(InvertMap(forward.map, self._maps))
            self._maps += 1
        forward.layers.append(self._layer)
        return KeyedSlots(self._inverted[forward.map], forward.sites, indice_key, inverse=True)

    def derived(self, rows: Rows, kind: type[DerivedSites]) -> int:
        """The sites that an operation of `kind` makes of those of `rows`; one slot for all layers that want them."""
        slot = self._derived.get((kind, rows.sites))
        if slot is None:
            slot = self._derived[kind, rows.sites] = len(self._sites)
            op, before = kind(rows.sites, slot), self._sites[rows.sites]
            shape = op.shape_after(before.shape) if before.shape is not None else None
            self._sites.append(SitesEntry(kind.ndim, shape, repr(self._layer), before.known))
            self._index_ops.append(op)
        return slot

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
            self._report(wrong_names(entry.layer, self._outputs))
            lowered = entry.layer.lower(self)
            output = output if "name" in entry.doubtful else lowered.output
        self._outputs[entry.name] = output
        if entry.indice_key:
            self._keys.setdefault(entry.indice_key, KeyEntry(entry.name, True, 0, None, 0, 0))

    def _unknown(self) -> Rows:
        self._sites.append(SitesEntry(None, None, self._layer, known=False))
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

    def _report(self, complaints: Iterable[Complaint]) -> None:
        for key, message in complaints:
            self.problem(key, message)

    def _wrongly_inverted(
        self, rows: Rows, kernel_size: Shape, key: str, forward: KeyEntry, geometry: ConvGeometry
    ) -> Iterator[Complaint]:
        """An inverse layer must undo the layer whose key it names."""
        wrong = wrong_inverse(key, kernel_size, forward, geometry)
        if wrong is not None:
            yield wrong
        if geometry.submanifold and geometry.volume > 1:
            return
        ends = self._sites[rows.sites], self._sites[forward.outputs]
        if rows.sites != forward.outputs and ends[0].known and ends[1].known:
            message = f"{self._name(rows)} lies on the sites of {ends[0].maker}, but the key {key!r} was made"
            yield "input", f"{message} by {forward.layer!r}, whose output sites it must lie on"

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
                message = shape_problem(before.shape, shape)
                if message:
                    self.problem("", message)
                    shape = None
            outputs = len(self._sites)
            self._sites.append(SitesEntry(geometry.ndim, shape, repr(self._layer), before.known))
        self._index_ops.append(BuildMap(sites, geometry, self._maps, outputs))
        self._built[sites, geometry] = (self._maps, outputs)
        self._maps += 1
        return self._built[sites, geometry]
