"""Everything spcli leaves on disk. Files are whole or absent, and their bytes depend on their content alone."""

from __future__ import annotations

from spcli.writers.atomic import replacing, write_text
from spcli.writers.configuration import CONFIGURATION, write_configuration
from spcli.writers.features import write_features, write_voxels
from spcli.writers.manifest import MANIFEST, append_manifest, read_manifest
from spcli.writers.npz import Target, save_npz
from spcli.writers.points import write_points
from spcli.writers.rulebooks import write_rulebooks
from spcli.writers.stats import stats_text, write_stats

SUFFIXES = {
    "voxels": ".voxels.npz",
    "features": ".features.npz",
    "rulebooks": ".rulebooks.npz",
    "stats": ".stats.json",
}

__all__ = [
    "CONFIGURATION", "MANIFEST", "SUFFIXES", "Target", "append_manifest", "read_manifest", "replacing", "save_npz",
    "stats_text", "write_configuration", "write_features", "write_points", "write_rulebooks", "write_stats",
    "write_text", "write_voxels",
]  # fmt: skip
