"""The `spcli` command: the one place where what went wrong becomes a sentence and an exit code.

Nothing heavy is imported before the `try`, so that Ctrl-C ends quietly at any moment.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from spcli.cli.console import console
from spcli.errors import ConfigError, SpcliError

OK, UNEXPECTED, INTERRUPTED, TERMINATED = 0, 1, 130, 143


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with one of the exit codes of docs/exit-codes.md."""
    # Importing makes hundreds of thousands of objects and almost no garbage: looking for it costs a tenth of a start.
    gc.set_threshold(200_000, 20, 20)
    with suppress(ValueError):  # outside the main thread, as in tests, signals are someone else's
        signal.signal(signal.SIGTERM, _terminate)
        signal.signal(signal.SIGINT, _interrupt)
    code = _guarded(list(sys.argv[1:] if arguments is None else arguments))
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    # Everything is written and flushed; taking the interpreter apart would cost more than the convolutions of a scan.
    os._exit(code)


def _interrupt(number: int, frame: object) -> NoReturn:
    """Unwind once: a second Ctrl-C would break off the unwinding and leave a temporary file behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _terminate(number: int, frame: object) -> NoReturn:
    """Unwind as Ctrl-C does, so that no half-written file stays behind."""
    sys.exit(TERMINATED)


def _guarded(arguments: list[str]) -> int:
    """The exit code of a run; reports what went wrong."""
    try:
        try:
            code = _dispatch(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
        return code
    except BrokenPipeError:
        return OK
    except KeyboardInterrupt:
        console.error("interrupted")
        return INTERRUPTED
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else UNEXPECTED
    except SpcliError as error:
        _report(error)
        return error.exit_code
    except Exception as error:
        return _unexpected(error)


def _dispatch(arguments: list[str]) -> int:
    """Parse and carry out a command; click's own errors print usage and end with 2."""
    import click

    from spcli.cli.group import group

    if "_SPCLI_COMPLETE" in os.environ:
        group.main(arguments, prog_name="spcli")
    try:
        with group.make_context("spcli", arguments) as context:
            code = group.invoke(context)
        return code if isinstance(code, int) else OK
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code


def _report(error: SpcliError) -> None:
    console.traceback()
    if isinstance(error, ConfigError):
        for line in str(error).splitlines():
            console.error(line)
    else:
        console.error(str(error))


def _unexpected(error: Exception) -> int:
    console.traceback()
    if isinstance(error, MemoryError):
        console.error("there is not enough memory; use larger voxels, a smaller range or fewer channels")
    elif isinstance(error, OSError):
        place = error.filename or "output"
        console.error(f"{place}: {error.strerror or error}; check the place and run again")
    else:
        console.error(f"unexpected {type(error).__name__}: {error}; this is a bug in spcli, -vv shows where")
    return UNEXPECTED
