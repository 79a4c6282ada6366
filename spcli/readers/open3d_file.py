"""`.pcd` and `.ply` files, read by open3d with every attribute they have.

The only reader that needs open3d, which takes 1.5 s to import and is therefore loaded by the first such file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcli.errors import DeviceError, InputError
from spcli.points import PointCloud
from spcli.readers.cloud_header import CloudHeader, read_header
from spcli.readers.convert import named_cloud
from spcli.readers.formats import sniff
from spcli.readers.scan import STDIN, Columns, RawScan

_LIBUSB = "libusb-1.0"

# open3d's names of attributes that are several columns.
_SPLIT = {"positions": ("x", "y", "z"), "normals": ("nx", "ny", "nz"), "colors": ("r", "g", "b")}

# The same columns as headers spell them.
_HEADER_NAMES = {
    "normal_x": ("nx",), "normal_y": ("ny",), "normal_z": ("nz",),
    "red": ("r",), "green": ("g",), "blue": ("b",), "rgb": ("r", "g", "b"), "rgba": ("r", "g", "b"),
}  # fmt: skip

_FIRST = ("x", "y", "z", "intensity", "r", "g", "b", "nx", "ny", "nz")


def read(raw: RawScan, columns: Columns) -> PointCloud:
    """The points of a `.pcd` or `.ply`: x, y, z, intensity where there is one, then the other attributes by name.

    Normals are `nx, ny, nz`, colours `r, g, b` as stored (0 to 255 for bytes).

    Raises:
        InputError: the file is broken, cut short, or has no x, y, z.
        DeviceError: open3d is missing or cannot be loaded.
    """
    name = sniff(raw).name
    header = read_header(raw, name)
    fields = _read_fields(raw, name) if header.points else _no_points(header)
    if header.points and len(fields.get("x", ())) != header.points:
        raise InputError(f"{raw.source}: open3d cannot read its {header.points} points; save it again")
    return named_cloud(_ordered(fields), columns, raw.source)


def load_open3d() -> Any:
    """The module open3d, after loading the libusb it links against where the system has none.

    Raises:
        DeviceError: open3d is not installed, or does not load.
    """
    try:
        return _import_quietly()
    except ModuleNotFoundError as error:
        if error.name != "open3d":
            raise DeviceError(f"open3d needs {error.name}, which is missing; run pip install open3d") from None
        raise DeviceError("open3d is not installed, and .pcd and .ply need it; run pip install open3d") from None
    except (ImportError, OSError) as error:
        if _LIBUSB not in str(error):
            raise DeviceError(f"open3d cannot be loaded ({error}); run pip install --force-reinstall open3d") from None
    try:
        _load_libusb()
        return _import_quietly()
    except (ImportError, OSError) as error:
        raise DeviceError(f"open3d cannot be loaded ({error}); run pip install libusb-package") from None


def _import_quietly() -> Any:
    import open3d  # type: ignore[import-untyped, unused-ignore]

    return open3d


def _load_libusb() -> None:
    import ctypes

    import libusb_package  # type: ignore[import-untyped, unused-ignore]

    ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)


def _read_fields(raw: RawScan, name: str) -> dict[str, NDArray[Any]]:
    open3d = load_open3d()
    with _path_of(raw) as path, open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        try:
            cloud = open3d.t.io.read_point_cloud(path, format=name)
        except RuntimeError:
            raise InputError(f"{raw.source}: is no {name.upper()} file that open3d can read; save it again") from None
    return _columns({key: cloud.point[key].numpy() for key in cloud.point})


def _columns(attributes: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Attributes `[P, k]` as single columns `[P]`."""
    fields = {}
    for name, array in attributes.items():
        flat = array.reshape(len(array), -1)
        width = flat.shape[1]
        names = _SPLIT.get(name) or ((name,) if width == 1 else tuple(f"{name}_{part}" for part in range(width)))
        fields.update({each: flat[:, column] for column, each in enumerate(names)})
    return fields


def _no_points(header: CloudHeader) -> dict[str, NDArray[Any]]:
    names = [name for field in header.fields for name in _HEADER_NAMES.get(field, (field,))]
    return {name: np.zeros(0, np.float32) for name in names}


def _ordered(fields: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [name for name in _FIRST if name in fields] + sorted(set(fields) - set(_FIRST))
    return {name: fields[name] for name in names}


@contextmanager
def _path_of(raw: RawScan) -> Iterator[str]:
    """A file with the bytes of `raw`: its own, or for standard input and pipes a temporary one."""
    if raw.source != STDIN and os.path.isfile(raw.source):
        yield raw.source
        return
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(raw.data)
        file.flush()
        yield file.name
