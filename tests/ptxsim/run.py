"""Runs one of the simulator's commands: `python tests/ptxsim/run.py frame|ops|selftest|cost ARGUMENTS`.

`frame` is the one beside this file, the others are those of ../shared/tools/ptxsim, with the door beside this file.
PTXSIM_OPTIMISE=-Og builds the library in half the time, for short runs.
"""

from __future__ import annotations

import os
import runpy
import sys

import simulator

COMMANDS = {"frame": simulator.HERE, "ops": simulator.SOURCES, "selftest": simulator.SOURCES, "cost": simulator.SOURCES}


def main() -> None:
    """Prepares and starts it."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(__doc__)
    simulator.prepare(os.environ.get("PTXSIM_OPTIMISE", "-O3"))
    name = sys.argv.pop(1)
    script = str(COMMANDS[name] / f"{name}.py")
    sys.argv[0] = script
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
