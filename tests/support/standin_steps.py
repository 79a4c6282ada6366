"""Stand-ins for the steps of the card's first day, each carried out in a process of its own: what can become of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from benchmarks.cuda.day_steps import NotHere, Task, Wrong

GRANDCHILD = "import os; print('ready', flush=True); os.read(os.pipe()[0], 1)"


def passes(task: Task) -> None:
    task.say("a table", "# of its own")
    task.conclude("all | well")


def raises(task: Task) -> None:
    task.say("so far")
    print("the reason is above")
    raise ValueError("something broke")


def finds(task: Task) -> None:
    raise Wrong("bits differ")


def lacks(task: Task) -> None:
    raise NotHere("ncu is not installed")


def needs_a_package(task: Task) -> None:
    import no_such_package  # type: ignore[import-not-found]  # noqa: F401


def ready() -> None:
    """Tells the test that waits for it that there is no more to come."""
    with open(os.environ["STANDIN_READY"], "wb", buffering=0) as pipe:
        pipe.write(b".")


def waits(task: Task) -> None:
    reader, _ = os.pipe()
    os.read(reader, 1)


def hangs(task: Task) -> None:
    """Waits for ever for a child that waits for ever in a session of its own; neither hears an interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-ISc", GRANDCHILD], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    task.say(f"child {child.pid}, parent {os.getpid()}")
    ready()
    child.wait()


def sums_up(task: Task) -> None:
    """Waits for ever, and says how far it came when it is asked to end."""
    try:
        ready()
        waits(task)
    except KeyboardInterrupt:
        raise Wrong("came to 7 of 9") from None


def leaves_a_child(task: Task) -> None:
    child = subprocess.Popen([sys.executable, "-ISc", GRANDCHILD], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    task.say(f"child {child.pid}")
    os._exit(0)


def interrupts_the_day(task: Task) -> None:
    """As Ctrl-C, or the end of a rented machine's time, does."""
    os.kill(os.getppid(), signal.SIGTERM)
    waits(task)
