"""Compares what two versions of spcli write: every file of the README's commands and of the six presets.

Prints how many commands ran, how many of them were refused and how many files they wrote; with --against also how many
of those differ, and the name of each. OUTPUT gets the digests as JSON: of each file, for an npz of each member.

    PYTHONPATH=/path/of/older python -m benchmarks.digests before.json
    python -m benchmarks.digests after.json --against before.json

Left out are times, version strings, and the schema names inside `meta`. The exit code is 1 where digests differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.paths import ROOT

PRESETS = {
    "quickstart": 4,
    "second-kitti": 4,
    "centerpoint-nuscenes": 5,
    "centerpoint-waymo": 5,
    "minkunet-semantickitti": 4,
    "spunet-scannet": 6,
}
"""The columns that each takes."""
STREET = "sample_data/street_000.bin"
COMMANDS = (
    f"run --config quickstart {STREET} -o out --layer down --save-weights out/weights.npz",
    "run --config second-kitti sample_data/ -o many --maps-only --write stats",
    f"voxelize {STREET} --preset second-kitti -o voxels --point-map --hard --max-points 4",
    "run --config second-kitti voxels/street_000.voxels.npz -o from_voxels",
    f"report {STREET} --config second-kitti -o street.html",
    "report out -o folder.html",
    "report sample_data/worked_example.npz --config configs/worked_example_sparse.yaml -o example.html",
    f"export {STREET} --config second-kitti -o density.ply",
    f"export {STREET} --config second-kitti -o layers.ply --color layer",
    "export voxels/street_000.voxels.npz -o points.ply --color points",
    "export out/street_000.features.down.npz -o channel.ply --color channel:3",
    "export out/street_000.features.npz -o z.ply --color z",
    "inspect-rulebook sample_data/worked_example.npz --config configs/worked_example_sparse.yaml --plot kernel.png",
    "inspect-rulebook out/street_000.rulebooks.npz --key down --plot offsets.png --picture offsets",
    "inspect-rulebook out/street_000.rulebooks.npz -o rules.csv",
    "inspect-rulebook out/street_000.rulebooks.npz -o rules.ndjson --limit 5000",
    "inspect-rulebook out/street_000.rulebooks.npz --key down --hash-tables",
    "inspect-rulebook out/street_000.rulebooks.npz --key down --hash-tables --format csv",
    "inspect-rulebook out/street_000.rulebooks.npz --summary --format json",
    "inspect-rulebook out/street_000.rulebooks.npz --key down --out @21.9,-13.1,-1.5 --format csv",
    f"inspect-rulebook {STREET} --config second-kitti --key spconv_down2 --limit 50",
    "stats out --format json",
    "stats many --format json",
    f"stats {STREET} --config second-kitti --predict --format json",
    f"stats {STREET} --config quickstart --tile 64 --format json",
    f"stats {STREET} --config quickstart --plot layers.png",
    f"info {STREET} --format json",
    "config show second-kitti",
    "config schema",
    "sample -o made.bin --points 20000",
)


def digest(path: Path) -> Any:
    """The digest of a file, member by member of an npz, without what may differ."""
    data = path.read_bytes()
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _sha(_member(name, arrays[name])) for name in arrays.files}
    if path.name == "manifest.jsonl":
        entries = [json.loads(line) for line in data.splitlines()]
        return _sha(json.dumps([{**entry, "time_s": None, "version": None} for entry in entries]).encode())
    return _sha(re.sub(rb'("version":\s*)"[^"]*"', rb"\1null", data))


def _member(name: str, array: np.ndarray[Any, Any]) -> bytes:
    if name == "meta":
        meta = json.loads(str(array))
        return json.dumps({**meta, "version": None, "schema": None}).encode()
    return f"{array.dtype} {array.shape}".encode() + array.tobytes()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def run(command: list[str], folder: Path) -> dict[str, Any]:
    """The exit code of a command, and what it prints where that is no record with times."""
    done = subprocess.run([sys.executable, "-m", "spcli", "-q", *command], cwd=folder, capture_output=True)
    timed = command[0] in ("run", "voxelize", "report", "export", "sample")
    return {"exit": done.returncode, "printed": None if timed else _sha(done.stdout)}


def collect(folder: Path, scans: list[str]) -> dict[str, Any]:
    """Everything, by command and by file."""
    for name in ("sample_data", "configs"):
        (folder / name).symlink_to(ROOT / name)
    commands = [command.split() for command in COMMANDS]
    street = np.fromfile(ROOT / STREET, np.float32).reshape(-1, 4)
    for columns in set(PRESETS.values()):
        more = np.repeat(street[:, 3:], columns - 4, axis=1)
        np.hstack([street, more]).tofile(folder / f"street_{columns}.bin")
    for preset, columns in PRESETS.items():
        for scan in [f"street_{columns}.bin", *scans]:
            commands.append(["run", "--preset", preset, scan, "-o", f"{preset}/run"])
            commands.append(["voxelize", "--preset", preset, scan, "-o", f"{preset}/voxels"])
    printed = {" ".join(command): run(command, folder) for command in commands}
    made = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {"commands": printed, "files": {str(path.relative_to(folder)): digest(path) for path in made}}


def main() -> int:
    """Collect, and compare where that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.digests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="write the digests here")
    parser.add_argument("--against", type=Path, help="compare with the digests in this file")
    more = "run every preset over this scan too"
    parser.add_argument("scans", metavar="SCAN", nargs="*", type=os.path.abspath, help=more)
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        found = collect(Path(folder), options.scans)
    options.output.write_text(json.dumps(found, indent=1))
    failed = [name for name, outcome in found["commands"].items() if outcome["exit"]]
    print(f"{len(found['commands'])} commands, {len(failed)} of them refused, {len(found['files'])} files")
    if options.against is None:
        return 0
    before = json.loads(options.against.read_text())
    differing = [
        name
        for part in ("commands", "files")
        for name in sorted(before[part].keys() | found[part].keys())
        if before[part].get(name) != found[part].get(name)
    ]
    print(f"{len(differing)} differ" + "".join(f"\n  {name}" for name in differing))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
