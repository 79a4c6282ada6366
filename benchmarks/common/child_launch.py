"""Runs a command and prints its wall time and peak memory: `python -I -S child_launch.py COMMAND...`.

Started by processes.py. It is a process of its own because Linux counts the memory of the process that starts a
command towards the command's peak: this one imports next to nothing.
"""

import os
import sys
from time import perf_counter


def main() -> None:
    """Start, wait, report; the command's output is thrown away, its complaints are not."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    started = perf_counter()
    process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    seconds = perf_counter() - started
    code = os.waitstatus_to_exitcode(status)
    print(f'{{"seconds": {seconds}, "peak_mb": {usage.ru_maxrss / 1024}, "status": {code}}}')


if __name__ == "__main__":
    main()
