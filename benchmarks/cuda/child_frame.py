"""What a user of spconv would write, as a process: `child_frame DTYPE CONFIG SCAN FOLDER`.

Started by commands.py, which prepares the workload in FOLDER before. Computes one frame and saves its features.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.common.workload import Workload
from benchmarks.cuda.spconv import Contestant


def main() -> None:
    """One frame without anything that warms up, features to a file."""
    dtype, config, scan, folder = sys.argv[1:]
    indices, features = Contestant(Workload(config, scan, Path(folder)), dtype, warm_up=0).output()
    np.savez(Path(folder) / "once.npz", indices=indices, features=features)


if __name__ == "__main__":
    main()
