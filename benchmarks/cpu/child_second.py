"""What one would write with spconv for `spcli run --write features`, as a process: `child_second SCAN OUTPUT`.

Started by commands.py. Reads a KITTI scan, voxelizes it, runs SECOND's backbone (VoxelBackBone8x) with batch norm and
ReLU in evaluation mode, and saves indices and features. Imports nothing of spcli, so that no time is spent on that.
"""

from __future__ import annotations

import sys

import numpy as np
import spconv.pytorch as spconv
import torch
from spconv.pytorch.utils import PointToVoxel


def block(convolution: spconv.SparseModule, channels: int) -> spconv.SparseSequential:
    """Convolution, norm, activation."""
    return spconv.SparseSequential(convolution, torch.nn.BatchNorm1d(channels, eps=1e-3), torch.nn.ReLU())


def stage(
    in_channels: int, out_channels: int, number: int, padding: int | tuple[int, ...]
) -> list[spconv.SparseModule]:
    """A convolution of stride 2 and two submanifold ones."""
    down = spconv.SparseConv3d(
        in_channels, out_channels, 3, 2, padding, bias=False, indice_key=f"spconv{number}"
    )  # fmt: skip
    same = [spconv.SubMConv3d(out_channels, out_channels, 3, bias=False, indice_key=f"subm{number}") for _ in range(2)]
    return [block(convolution, out_channels) for convolution in (down, *same)]


def backbone() -> spconv.SparseSequential:
    """The twelve convolutions."""
    return spconv.SparseSequential(
        block(spconv.SubMConv3d(4, 16, 3, bias=False, indice_key="subm1"), 16),
        block(spconv.SubMConv3d(16, 16, 3, bias=False, indice_key="subm1"), 16),
        *stage(16, 32, 2, 1),
        *stage(32, 64, 3, 1),
        *stage(64, 64, 4, (0, 1, 1)),
        block(spconv.SparseConv3d(64, 128, (3, 1, 1), (2, 1, 1), bias=False, indice_key="spconv_down2"), 128),
    ).eval()


def main() -> None:
    """Scan to features file. One thread: spconv's CPU features are wrong on more."""
    scan, output = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    points = torch.from_numpy(np.fromfile(scan, np.float32).reshape(-1, 4))
    voxelizer = PointToVoxel([0.05, 0.05, 0.1], [0, -40, -3, 70.4, 40, 1], 4, 150_000, 5)
    with torch.no_grad():
        voxels, sites, counts = voxelizer(points)
        means = voxels.sum(dim=1) / counts.clamp(min=1).view(-1, 1)
        indices = torch.cat([torch.zeros(len(sites), 1, dtype=torch.int32), sites], dim=1)
        result = backbone()(spconv.SparseConvTensor(means, indices, [41, 1600, 1408], 1))
    np.savez(output, indices=result.indices.numpy(), features=result.features.numpy())


if __name__ == "__main__":
    main()
