"""The rulebook of a convolution: which input row feeds which output row through which tap.

Also called kernel map (MinkowskiEngine, TorchSparse) or indice pairs (spconv).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spcli.geometry import ConvGeometry


@dataclass(frozen=True)
class Rulebook:
    """All rules of one convolution in canonical order: by tap, then by output row.

    Attributes:
        geometry: the pair equation's sizes.
        in_indices, out_indices: int32 `[N, 1 + D]`, sites by row, lexicographic in (batch, z, y, x).
        in_rows, out_rows: int32 `[L]`, the rows each rule joins.
        pair_splits: int64 `[V + 1]`; the rules of tap k are `pair_splits[k]:pair_splits[k + 1]`.
        in_spatial_shape, out_spatial_shape: the D sizes, z, y, x.
        batch_size: scans in the batch.
    """

    geometry: ConvGeometry
    in_indices: NDArray[np.int32]
    out_indices: NDArray[np.int32]
    in_rows: NDArray[np.int32]
    out_rows: NDArray[np.int32]
    pair_splits: NDArray[np.int64]
    in_spatial_shape: tuple[int, ...]
    out_spatial_shape: tuple[int, ...]
    batch_size: int = 1


@dataclass(frozen=True)
class RuleCounts:
    """A rulebook's sizes, known to an engine without writing the rules out.

    Attributes:
        in_sites, out_sites: rows on either side.
        in_spatial_shape, out_spatial_shape: the D sizes, z, y, x.
        batch_size: scans in the batch.
        pairs_per_offset: rules of each tap, in tap order.
        pairs_per_output_max: most rules that end in one output row.
    """

    in_sites: int
    out_sites: int
    in_spatial_shape: tuple[int, ...]
    out_spatial_shape: tuple[int, ...]
    batch_size: int
    pairs_per_offset: tuple[int, ...]
    pairs_per_output_max: int

    @property
    def pairs(self) -> int:
        """All rules, L."""
        return sum(self.pairs_per_offset)
