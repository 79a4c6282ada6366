"""One step of the first day as a process: `child_day MODULE:FUNCTION FOLDER [WORD ...]`.

Started by day_run.py, and by steps that need a process of their own for a part of their work. Ends with 0, with 3 where
the machine lacks what the step is about, and with 1 where something is wrong.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from benchmarks.cuda.day_steps import NOT_HERE, NotHere, Step, Task, Wrong, is_rehearsal


def main() -> int:
    """Carry out the function; what it raises is the step's summary."""
    # In the background a day may ignore interrupts, and its processes with it: at its limit a step must hear one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work, folder, *words = sys.argv[1:]
    task = Task(Path(folder), is_rehearsal())
    try:
        Step("", "", 0, work).function()(task, *words)
    except NotHere as reason:
        return ended(task, reason, NOT_HERE)
    except Wrong as reason:
        return ended(task, reason, 1)
    except ImportError as error:
        print(f"cannot be imported: {error}", file=sys.stderr)
        task.conclude(f"cannot be imported: {error}")
        raise
    return 0


def ended(task: Task, reason: Exception, code: int) -> int:
    """Say why, on the page and here."""
    task.conclude(str(reason))
    print(reason, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
