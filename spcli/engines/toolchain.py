"""What Triton needs of the machine besides a GPU, checked before it fails: a C compiler and Python's header.

It compiles a small module that talks to the driver the first time it runs, whatever its version. Nothing heavy is
imported here.
"""

from __future__ import annotations

import os
import shutil
import sysconfig


def compiler() -> str | None:
    """The C compiler Triton will call: the one in CC, else gcc, else clang."""
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")


def missing() -> str | None:
    """What is not there, in one sentence, or None."""
    found = compiler()
    if found is None:
        return "Triton needs a C compiler and finds neither gcc nor clang; install one, or name one in CC"
    if shutil.which(found) is None:
        return f"Triton needs a C compiler, and CC names {found}, which cannot be run; correct or unset CC"
    folder = header_folder()
    if not os.path.isfile(os.path.join(folder, "Python.h")):
        return f"Triton needs Python.h, which is not in {folder}; install Python's development files (python3-dev)"
    return None


def header_folder() -> str:
    """Where Triton looks for Python.h. Debian's own scheme names a folder for packages, not Python's."""
    scheme = sysconfig.get_default_scheme()
    return sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]
