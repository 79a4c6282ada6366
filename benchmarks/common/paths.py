"""Where things lie: the repository, the scans, the pages of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
RESULTS, CUDA_RESULTS = (ROOT / "benchmarks" / name for name in ("RESULTS.md", "CUDA_RESULTS.md"))
SAMPLE = ROOT / "sample_data" / "street_000.bin"


def data_folder() -> Path | None:
    """Where the real scans are: beside the repository or inside it."""
    folders = (ROOT.parent / "shared" / "data", ROOT / "shared" / "data")
    return next((folder for folder in folders if folder.is_dir()), None)


def scans(names: Sequence[str]) -> list[Path]:
    """Those of the real scans that are there; the repository's own where none is."""
    folder = data_folder()
    real = [] if folder is None else [folder / name for name in names]
    return [path for path in real if path.exists()] or [SAMPLE]
