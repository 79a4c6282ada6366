"""What a frame cannot be faster than: its bytes at the card's copy rate, its multiply-adds at the rate of products.

Every array is counted once where it is read and once where it is written, as if caches were perfect and nothing were
gathered, sorted or looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spcli.engines.base import Frame, Points
from spcli.network import Network
from spcli.program import BuildMap, Convolve, InvertMap

SITE = 16  # bytes of an index row
RULE = 4  # bytes of an entry of a neighbour table


@dataclass(frozen=True)
class Load:
    """Bytes of each stage, and the exact floating point operations of the convolutions."""

    voxelize: int
    maps: int
    convolutions: int
    operations: int

    def seconds(self, copy_rate: float, product_rate: float) -> dict[str, float]:
        """Seconds of each stage at these rates, bytes and operations a second."""
        maps = self.maps / copy_rate
        convolutions = max(self.convolutions / copy_rate, self.operations / product_rate)
        stages = {"voxelize": self.voxelize / copy_rate, "maps": maps, "convolutions": convolutions}
        return stages | {"network": maps + convolutions, "total": sum(stages.values())}


def load_of(network: Network, frame: Frame, points: Points, size: int) -> Load:
    """The load of a frame whose features have `size` bytes each."""
    channels, voxels = len(points.features), frame.sites[0]
    voxelize = points.values.nbytes + voxels * (SITE + 4 + channels * size)
    features = operations = 0
    for part, count in _convolutions(network, frame, size):
        features += part
        operations += count
    return Load(voxelize, sum(_maps(network, frame)), features, operations)


def _maps(network: Network, frame: Frame) -> Iterator[int]:
    """Bytes of each map: the sites at both ends and a table with an entry for every tap and output."""
    program = network.program
    built = {op.map: op for op in program.index_ops if isinstance(op, BuildMap)}
    for op in program.index_ops:
        if isinstance(op, BuildMap):
            ends = frame.sites[op.sites] + (0 if op.outputs == op.sites else frame.sites[op.outputs])
            yield ends * SITE + op.geometry.volume * frame.sites[op.outputs] * RULE
        elif isinstance(op, InvertMap) and op.source in built:
            source = built[op.source]
            yield source.geometry.volume * frame.sites[source.sites] * RULE


def _convolutions(network: Network, frame: Frame, size: int) -> Iterator[tuple[int, int]]:
    """Bytes and floating point operations of each: rows in and out, weights, table."""
    program, infos = network.program, {info.name: info for info in network.layers}
    for op in program.value_ops:
        if not isinstance(op, Convolve):
            continue
        info = infos[op.parameters]
        into, out = (frame.sites[program.values[slot].sites] for slot in (op.input, op.output))
        pairs = out if op.map is None else frame.counts[str(info.key)].pairs
        weights = info.kernel_volume * info.in_channels * info.out_channels
        table = 0 if op.map is None else info.kernel_volume * out * RULE
        rows = into * info.in_channels + out * info.out_channels
        yield (rows + weights) * size + table, 2 * pairs * info.in_channels * info.out_channels
