"""Write the sample scans: `python sample_data/make_scans.py [DIRECTORY]`, by default beside this file.

The same bytes on every run; a test holds the files in the repository to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from spcli.sample import street_scan

# File name and seed.
SCANS = {"street_000.bin": 0, "street_001.bin": 1}


def main(directory: Path) -> None:
    """Write every scan into `directory`."""
    for name, seed in SCANS.items():
        cloud = street_scan(seed)
        cloud.values.tofile(directory / name)
        print(f"{directory / name}: {len(cloud.values)} points, columns {', '.join(cloud.columns)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
