"""Does the main job with the spcli that is installed for the Python that runs this script.

`tools/check_wheel.py` runs it in an empty environment, cibuildwheel in the one it makes for its test. The work is done
in a temporary folder, where no checkout can stand in for what is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

COMMANDS = (
    "spcli sample -o scan.bin",
    "spcli run --config quickstart scan.bin -o out --format table",
    "spcli stats out --format table",
    "spcli doctor",
)


class UnfitInstallation(Exception):
    """What is wrong with the installation, in one sentence."""


def main() -> None:
    """The commands, then the same job in this process, which tells what libraries it loaded."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for command in COMMANDS:
                run_command(command)
            loaded = run_here("scan.bin")
            check_loaded(loaded, Path(sysconfig.get_path("platlib")))
        except UnfitInstallation as error:
            sys.exit(f"try_wheel: {error}")
        finally:
            os.chdir("/")
    print("loaded:", *loaded, sep="\n  ")


def run_command(command: str) -> None:
    """Runs one command as a shell would, with what it prints.

    Raises:
        UnfitInstallation: it is not there or fails.
    """
    print(f"$ {command}", flush=True)
    name, *arguments = command.split()
    # The one beside this Python: PATH may have another.
    program = Path(sysconfig.get_path("scripts")) / name
    try:
        code = subprocess.run([program, *arguments], check=False).returncode
    except OSError as error:
        raise UnfitInstallation(f"{program} cannot be run: {error.strerror}") from error
    if code:
        raise UnfitInstallation(f"`{command}` ended with exit code {code}")


def run_here(scan: str) -> list[Path]:
    """Runs the quickstart network on a scan in this process; the engine's and OpenMP's libraries that it has then."""
    import spcli

    with spcli.Session("quickstart") as session:
        for _ in session.runs([scan]):
            pass
    return engine_libraries(Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())


def engine_libraries(maps: Iterable[str]) -> list[Path]:
    """The engine's libraries and every OpenMP runtime among the mapped files of a process."""
    files = {Path(fields[5]) for fields in (line.split(maxsplit=5) for line in maps) if len(fields) == 6}
    return sorted(file for file in files if file.name.startswith(("_cpu_", "libgomp", "libomp", "libiomp")))


def check_loaded(loaded: list[Path], installed: Path) -> None:
    """One engine and one OpenMP runtime are right, both of them the wheel's.

    Raises:
        UnfitInstallation: there is another one, or one is missing.
    """
    for file in loaded:
        if not file.is_relative_to(installed.resolve()):
            raise UnfitInstallation(f"{file} was loaded, which is not in {installed}")
    folders = [file.parent.name for file in loaded]
    if folders != ["cpu", "spcli.libs"]:
        found = ", ".join(file.name for file in loaded) or "neither"
        raise UnfitInstallation(f"one engine and one OpenMP runtime should be loaded from the wheel, not {found}")


if __name__ == "__main__":
    main()
