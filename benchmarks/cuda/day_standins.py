"""What a rehearsal has in place of a card: a driver that knows one device, and NVIDIA's tools as small scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DRIVER = """\
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
"""
SMI = """\
import sys
if any(word.startswith("--query-gpu") for word in sys.argv):
    print("Stand-in card, 0.0, 9.0, 1 MiB, 1 MHz, 2 MHz, 3.00 W")
else:
    print("NVIDIA-SMI stand-in, CUDA Version: 13.0")
"""
SANITIZER = """\
import subprocess, sys
words = sys.argv[1:]
if words == ["--version"]:
    print("Version 0.0 of a stand-in")
    sys.exit()
code = subprocess.call(words[words.index(sys.executable):])
print("========= ERROR SUMMARY: 0 errors")
sys.exit(code)
"""
NCU = """\
import subprocess, sys
words = sys.argv[1:]
if words == ["--version"]:
    print("Version 0.0 of a stand-in")
    sys.exit()
code = subprocess.call(words[words.index(sys.executable):])
names = words[words.index("--metrics") + 1].split(",")
with open(words[words.index("--log-file") + 1], "w") as file:
    file.write("==PROF== stand-in\\n")
    for row in (["ID", "Kernel Name", *names], ["", "", *["unit"] * len(names)],
                ["0", "convolve", *["1,000.5"] * len(names)], ["1", "void at::sort<int>(int)", *["7"] * len(names)]):
        file.write(",".join('"' + cell + '"' for cell in row) + "\\n")
sys.exit(code)
"""
TOOLS = {"nvidia-smi": SMI, "compute-sanitizer": SANITIZER, "ncu": NCU}


def make(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Makes them in `folder`; gives the environment in which they are found first.

    Raises:
        OSError: there is no C compiler.
        CalledProcessError: it does not compile the driver.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in TOOLS.items():
        path = folder / name
        path.write_text(f"#!{sys.executable} -IS\n{script}", encoding="utf-8")
        path.chmod(0o755)
    source, compiler = folder / "driver.c", next(filter(shutil.which, ("cc", "gcc", "clang")), "cc")
    source.write_text(DRIVER, encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)], check=True)
    first = {"PATH": str(folder), "LD_LIBRARY_PATH": str(folder)}
    return dict(environ) | {name: _before(place, environ.get(name)) for name, place in first.items()}


def _before(place: str, others: str | None) -> str:
    return f"{place}{os.pathsep}{others}" if others else place
