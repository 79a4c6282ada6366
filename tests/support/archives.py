"""Reading back what spcli wrote."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = {"scan.features.npz", "scan.rulebooks.npz", "scan.stats.json", "config.yaml", "manifest.jsonl"}
"""What `spcli run` leaves of one `scan.bin`."""


def load(path: Path | io.BytesIO) -> dict[str, Any]:
    """All arrays of an npz."""
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def meta(path: Path | io.BytesIO) -> dict[str, Any]:
    """The JSON object inside an npz."""
    return json.loads(str(load(path)["meta"]))


def names(folder: Path) -> set[str]:
    """What a folder of results holds."""
    return {path.name for path in folder.iterdir()}
