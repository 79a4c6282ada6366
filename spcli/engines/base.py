"""What an engine must offer. The contract tests run every engine of the table against the oracle through this page.

Three kinds of value belong to an engine and are opaque outside it: `Sites` (a set of active sites and its private
index), `Map` (an executable rulebook) and `Array` (rows of features on the engine's device: a numpy array on the CPU,
a tensor on CUDA). Everything a caller gets back in a `Frame` is host numpy that the caller owns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spcli.geometry import ConvGeometry
from spcli.grid import ScanCounts, VoxelGrid, VoxelSpec
from spcli.program import Activation, Program
from spcli.rulebook import Rulebook, RuleCounts
from spcli.sparse_tensor import SparseTensor, VoxelizedScan

ALLOWED_ERROR = {"float32": 1e-5, "tf32": 1e-3, "float16": 5e-3, "bfloat16": 2e-2}
"""Of features in each number format: the largest relative L2 error against float64."""

Sites = Any
Map = Any
Array = Any
Packed = Any


@dataclass(frozen=True)
class LayerParameters:
    """A layer's parameters with batch norm folded: `y = scale * (W x) + shift`, per output channel.

    Attributes:
        weight: float32 `[Cout, *kernel_size, Cin]`; None for a layer with norm parameters only.
        scale: float64 `[Cout]`, None for 1.
        shift: float64 `[Cout]`, None for 0.
        norm_weight, norm_bias: float32 `[Cout]`, for a LayerNorm that is executed on its own.
    """

    weight: NDArray[np.float32] | None = None
    scale: NDArray[np.float64] | None = None
    shift: NDArray[np.float64] | None = None
    norm_weight: NDArray[np.float32] | None = None
    norm_bias: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Epilogue:
    """What follows a convolution while its rows are in cache: `activation(rows + add)`."""

    add: Array | None = None
    activation: Activation = field(default_factory=Activation)


@dataclass(frozen=True)
class Voxels:
    """Voxels on the engine's device, before anything is downloaded.

    Attributes:
        sites: the active sites, batch size 1.
        features: `[N, C]`.
        num_points: `[N]`, points kept in each.
        point_rows: `[P]` or None; points: `[N, max_points, C]` or None.
        counts: where the points went.
        grid: metres to sites.
    """

    sites: Sites
    features: Array
    num_points: Array
    counts: ScanCounts
    grid: VoxelGrid
    point_rows: Array | None = None
    points: Array | None = None


@dataclass(frozen=True)
class Want:
    """What a run must bring back.

    Attributes:
        layers: names of the layers whose features are wanted.
        rulebooks: whether the rules of every key are wanted.
        counts: whether the fullest output of every key is wanted; its `pairs_per_output_max` is 0 otherwise.
        values: False stops after the index phase.
    """

    layers: tuple[str, ...] = ()
    rulebooks: bool = False
    counts: bool = True
    values: bool = True


@dataclass(frozen=True)
class Points:
    """A scan to voxelize: float32 `[P, C]`, the columns x, y, z and those that become features.

    Attributes:
        values: float32 `[P, C]`, C-contiguous.
        xyz: the numbers of the columns x, y and z.
        features: the numbers of the columns that become features, in order.
    """

    values: NDArray[np.float32]
    xyz: tuple[int, int, int]
    features: tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """Everything one scan gave.

    Attributes:
        sites: number of active sites by sites slot of the program.
        shapes: spatial shape by sites slot.
        outputs: features by layer name, those that were wanted. A dense output has `features` `[B, C, ...]`.
        rulebooks: rules by key, where wanted.
        counts: rule counts by key.
        scan: where points and voxels went, None for an input that was a tensor.
        grid: metres to sites, None for an input that was a tensor.
        time_s: seconds by phase: `voxelize`, `index`, `value`, `download`.
        way: which way the engine took, where it has several for one program, as larger blocks for more rows: what is
            known of frames that went one way says nothing of another. "" where there is one.
    """

    sites: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    outputs: dict[str, SparseTensor]
    rulebooks: dict[str, Rulebook]
    counts: dict[str, RuleCounts]
    scan: ScanCounts | None
    grid: VoxelGrid | None
    time_s: dict[str, float]
    way: str = ""


@dataclass
class KernelCounts:
    """Kernels that were needed for the first time in this process, on an engine that compiles as it goes.

    Attributes:
        compiled: how many were compiled.
        found: how many were in the compiler's cache.
        folder: that cache; "" for an engine without one.
    """

    compiled: int = 0
    found: int = 0
    folder: str = ""


class Runner(Protocol):
    """A program made ready on a device, with buffers of its own; `depth` frames may be in flight at once."""

    depth: int

    def submit(self, scan: Points | SparseTensor) -> int:
        """Begin one frame and return its ticket. A tensor must be canonical."""

    def result(self, ticket: int) -> Frame:
        """Wait for a frame; the only synchronisation. Each ticket is redeemed once."""


class Engine(Protocol):
    """One device's implementation of every operation of `program.py`.

    Attributes:
        name: its key in the table of engines.
        label: what people call it, in options and records.
        device: "cpu" or "cuda", where values are computed.
        dtype: how features are stored and multiplied; sums are in float32 always.
        dtypes: what `with_dtype` takes.
    """

    name: str
    label: str
    device: str
    dtype: str
    dtypes: tuple[str, ...]

    def with_dtype(self, dtype: str) -> Engine:
        """This engine with features in another of `dtypes`."""

    def identity(self) -> dict[str, str]:
        """What of this machine decides the results: `card` where there is one, and versions by name."""

    def upload(self, array: NDArray[Any]) -> Array:
        """A copy of a host array on the device, aligned as the kernels like it."""

    def download(self, array: Array, count: int | None = None) -> NDArray[Any]:
        """A host copy of the first `count` rows that the caller owns."""

    def voxelize(self, points: Points, spec: VoxelSpec, *, point_map: bool = False, hard: bool = False) -> Voxels:
        """Points to voxels, exactly as docs/files.md defines them."""

    def sites(self, indices: NDArray[np.int32], spatial_shape: tuple[int, ...], batch_size: int) -> Sites:
        """Sites from canonical indices `[N, 1 + D]`."""

    def indices(self, sites: Sites) -> NDArray[np.int32]:
        """Host indices `[N, 1 + D]` of sites."""

    def build(self, sites: Sites, geometry: ConvGeometry) -> Map:
        """The map of a convolution from `sites`; its output sites are `map.outputs`."""

    def invert(self, source: Map) -> Map:
        """The map with its ends swapped."""

    def flatten(self, sites: Sites) -> Sites:
        """The 2-D sites (batch, y, x) that have at least one active z."""

    def collapse(self, sites: Sites) -> Sites:
        """One row per scan of the batch: indices `[B, 1]`, no spatial axis."""

    def count(self, sites: Sites) -> int:
        """Number of active sites; synchronises on devices that count for themselves."""

    def rows(self, sites: Sites) -> int:
        """Rows a feature buffer over `sites` needs: their number, or their capacity where that is all one knows."""

    def rulebook(self, source: Map) -> Rulebook:
        """The canonical rules of a map, on the host."""

    def rule_counts(self, source: Map, fullest: bool = True) -> RuleCounts:
        """Sizes of a map; `pairs_per_output_max` is 0 unless `fullest`."""

    def pack(self, parameters: LayerParameters) -> Packed:
        """Parameters in the layout of the kernels, scale folded into the weight."""

    def blocks(self, in_channels: int, out_channels: int, volume: int) -> str:
        """How the kernels cut a layer of `volume` taps, in words that change when its bits may; "" where not at all."""

    def convolve(
        self, inputs: Array, source: Map | None, packed: Packed, epilogue: Epilogue, out: Array | None = None
    ) -> Array:
        """Features `[M, Cout]` of a convolution, or of a Linear layer where `source` is None."""

    def pool(self, inputs: Array, source: Map, reduce: str, out: Array | None = None) -> Array:
        """Features `[M, C]`: "max" or "mean" over each output's rules."""

    def global_pool(self, inputs: Array, sites: Sites, reduce: str) -> Array:
        """Features `[B, C]`: "max" or "mean" over the rows of each scan; zeros for a scan without sites."""

    def concat(self, inputs: Sequence[Array], out: Array | None = None) -> Array:
        """Channels side by side. An input that already lies in its place in `out` is not copied."""

    def add(self, inputs: Sequence[Array], activation: Activation, out: Array | None = None) -> Array:
        """`activation(inputs[0] + inputs[1] + ...)` of two or more, summed from the first to the last."""

    def layer_norm(
        self, inputs: Array, parameters: LayerParameters, eps: float, epilogue: Epilogue, out: Array | None = None
    ) -> Array:
        """Each row normalised over its channels (biased variance), scaled and shifted; then the epilogue."""

    def channel_reduction(self, inputs: Array, channels: int) -> Array:
        """`[N, C]` to `[N, channels]`, sums of C / channels neighbouring columns."""

    def height_compression(self, inputs: Array, sites: Sites, flat: Sites) -> Array:
        """`[N, C]` over 3-D `sites` to `[M, C * Z]` over `flat`, channel `c * Z + z`, zero where no site is active."""

    def to_dense(self, inputs: Array, sites: Sites) -> Array:
        """Dense `[B, C, *spatial_shape]`, zero where no site is active."""

    def empty(self, rows: int, channels: int) -> Array:
        """An uninitialised `[rows, channels]` on the device."""

    def compile(
        self, program: Program, parameters: Mapping[str, LayerParameters], want: Want, graph: bool = True
    ) -> Runner:
        """Make a program ready: pack its parameters, plan its buffers.

        `graph` False carries out one operation after another where the engine would otherwise replay a recording.
        """

    def counted_kernels(self) -> AbstractContextManager[KernelCounts]:
        """Counts the kernels that are compiled, or found in a cache, inside the context."""


def download_voxels(engine: Engine, voxels: Voxels) -> VoxelizedScan:
    """The host form of an engine's voxels."""
    tensor = SparseTensor(engine.download(voxels.features), engine.indices(voxels.sites), voxels.grid.spatial_shape)
    return VoxelizedScan(
        tensor,
        engine.download(voxels.num_points),
        voxels.counts,
        voxels.grid,
        None if voxels.point_rows is None else engine.download(voxels.point_rows),
        None if voxels.points is None else engine.download(voxels.points),
    )
