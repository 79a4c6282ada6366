"""Write the sample scans and the worked example: `python sample_data/make_scans.py [DIRECTORY]`, by default here.

The same bytes on every run; a test holds the files in the repository to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from spcli.sample import street_scan
from spcli.sparse_tensor import SparseTensor
from spcli.writers import write_voxels

# File name and seed.
SCANS = {"street_000.bin": 0, "street_001.bin": 1}
EXAMPLE = "worked_example.npz"


def worked_example() -> SparseTensor:
    """The 5 x 5 image of the literature: P1 at (y=1, x=2) holds 0.1 in each of 3 channels, P2 at (2, 3) holds 0.2."""
    features = np.array([[0.1] * 3, [0.2] * 3], np.float32)
    return SparseTensor(features, np.array([[0, 1, 2], [0, 2, 3]], np.int32), (5, 5))


def main(directory: Path) -> None:
    """Write every scan into `directory`."""
    for name, seed in SCANS.items():
        cloud = street_scan(seed)
        cloud.values.tofile(directory / name)
        print(f"{directory / name}: {len(cloud.values)} points, columns {', '.join(cloud.columns)}")
    example = worked_example()
    meta = {"schema": "spcli.voxels/1", "axes": ["batch", "y", "x"], "channels": ["red", "green", "blue"]}
    write_voxels(str(directory / EXAMPLE), example, {}, meta)
    print(f"{directory / EXAMPLE}: {len(example.indices)} active sites")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
