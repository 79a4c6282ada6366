"""Maps of the torch engine: made by the CPU engine, their rules copied to the device when a layer first needs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from spcli.engines.cpu import rulebook as cpu
from spcli.engines.cpu.rulebook import CpuMap, CpuSites
from spcli.geometry import ConvGeometry
from spcli.rulebook import Rulebook, RuleCounts


@dataclass(frozen=True)
class TorchMap:
    """An executable rulebook.

    Attributes:
        source: the CPU engine's map.
        device: where the rules are wanted.
    """

    source: CpuMap
    device: torch.device

    @property
    def geometry(self) -> ConvGeometry:
        """Of the forward convolution, also where the map is inverted."""
        return self.source.geometry

    @property
    def inputs(self) -> CpuSites:
        """The sites that rules begin at."""
        return self.source.inputs

    @property
    def outputs(self) -> CpuSites:
        """The sites that rules end at."""
        return self.source.outputs

    @cached_property
    def rules(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Input and output rows of each tap's rules, int64 on the device; no output row stands twice in a tap."""
        book = cpu.rulebook(self.source)
        into, out = (torch.from_numpy(rows).to(self.device, torch.int64) for rows in (book.in_rows, book.out_rows))
        return tuple((into[first:last], out[first:last]) for first, last in pairwise(book.pair_splits.tolist()))


def build(sites: CpuSites, geometry: ConvGeometry, device: torch.device) -> TorchMap:
    """The map of a convolution or pooling from `sites`.

    Raises:
        ConfigError: the output shape has an axis of 0 or less.
    """
    return TorchMap(cpu.build(sites, geometry), device)


def invert(source: TorchMap) -> TorchMap:
    """The map with its ends swapped: same taps."""
    return TorchMap(cpu.invert(source.source), source.device)


def rulebook(source: TorchMap) -> Rulebook:
    """The canonical rules of a map."""
    return cpu.rulebook(source.source)


def rule_counts(source: TorchMap, fullest: bool = True) -> RuleCounts:
    """Sizes of a forward map."""
    return cpu.rule_counts(source.source, fullest)
