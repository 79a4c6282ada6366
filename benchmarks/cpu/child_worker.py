"""One contestant's process: `child_worker MODULE THREADS CONFIG SCAN FOLDER`.

Started by workers.py, which asks it line by line on standard input. Answers are JSON objects, one per line: first `{}`
or `{"error": ...}`, then for "round" the seconds of each stage, and for "output" the path of an npz with the output's
indices and features.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.common.workload import Workload


def main() -> None:
    """Load the contestant, then answer until standard input ends."""
    module, threads, config, scan, folder = sys.argv[1:]
    workload = Workload(config, scan, Path(folder))
    try:
        contestant = import_module(f"benchmarks.cpu.{module}").Contestant(workload, int(threads))
    except ImportError as error:
        print(json.dumps({"error": f"{module} cannot be loaded: {error}"}), flush=True)
        return
    print("{}", flush=True)
    for line in sys.stdin:
        if line.strip() == "output":
            indices, features = contestant.output()
            path = workload.folder / f"output_{module}.npz"
            np.savez(path, indices=indices, features=features)
            print(json.dumps({"path": str(path)}), flush=True)
        else:
            print(json.dumps(contestant.round()), flush=True)


if __name__ == "__main__":
    main()
