"""What a scan costs another program: `spcli.Session` over scans in memory, against the phases of `spcli run`.

Prints one line: ms per scan in a session, ms per scan of the command's phases, and their ratio. Each is a median over
rounds in alternation. The first scan, which makes the network ready, does not count, and of the command's phases only
those count that a session has too: reading and writing are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import spcli
from benchmarks.common.paths import SAMPLE

SCANS = 30
PHASES = ("prepare", "voxelize", "index", "value", "download")


def in_session(config: str, scans: list[np.ndarray]) -> float:
    """Milliseconds per scan after the first."""
    with spcli.Session(config) as session:
        session.run(scans[0])
        started = perf_counter()
        for result in session.runs(scans[1:]):
            assert len(result.features.features)
        return 1000 * (perf_counter() - started) / (len(scans) - 1)


def in_command(config: str, folder: Path) -> float:
    """The sum of the phases in milliseconds, the median of the scans after the first."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "spcli", "-q", "run", "--config", config, str(folder), "-o", out]
        done = subprocess.run(command, capture_output=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()][1:]
    return 1000 * median(sum(record["time_s"][phase] for phase in PHASES) for record in records)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.session", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", default="second-kitti", help="configuration (default second-kitti)")
    parser.add_argument("scan", nargs="?", type=Path, default=SAMPLE, help="KITTI scan (default the repository's own)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a median is taken over (default 5)")
    return parser.parse_args()


def main() -> None:
    """Both in alternation."""
    given = arguments()
    config, scan = given.config, given.scan
    points = np.fromfile(scan, np.float32).reshape(-1, 4)
    scans = [points[number:] for number in range(SCANS)]
    with tempfile.TemporaryDirectory() as name:
        for number, values in enumerate(scans):
            values.tofile(Path(name) / f"{number:02}.bin")
        rounds = [(in_session(config, scans), in_command(config, Path(name))) for _ in range(given.rounds)]
    session, command = (median(column) for column in zip(*rounds, strict=True))
    ratio = median(one / other for one, other in rounds)
    print(f"{config}, {scan.name}: session {session:.1f} ms, phases {command:.1f} ms, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
