"""Sparse convolution on LiDAR point clouds: voxels, rulebooks, features and sparsity statistics.

What the commands do to a scan is a function here; names are imported when first used, so `import spcli` costs nothing.
`__init__.pyi` lists them.

    with spcli.Session("second-kitti", weights="net.npz", threads=4) as session:
        for result in session.runs(["a.bin", "b.bin"]):
            result.features.indices, result.rulebooks["subm1"].in_rows, result.stats["totals"], result.warnings

    config = spcli.load_config("second-kitti")
    result = spcli.run(config, points, columns=("x", "y", "z", "intensity"), weights="net.npz", layers=("conv3",))
    result.outputs["conv3"].features
    spcli.write_rulebooks("a.rulebooks.npz", result.network.program.keys, result.rulebooks, {})
    spcli.load_rulebooks("a.rulebooks.npz")["subm1"].pair_splits

    spcli.predict(config, "scan.bin").stats["memory"]["peak_bytes"]
    [row["macs"] for row in spcli.sweep(config, "scan.bin", [(0.05, 0.05, 0.1), (0.1, 0.1, 0.1)])]

`weights` is a file, arrays by name (`load_weights`, `initial_parameters`) or a seed. `voxelize` takes a `VoxelSpec`,
`describe_file` says what a file holds, `street_scan` makes a synthetic scan. `verify_rulebook` checks every invariant
of a rulebook, `diff_rulebooks` compares those of two runs, `Explainer` writes out the sum behind one output.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def _modules() -> dict[str, str]:
    """The module of every public name, as `__init__.pyi` lists them."""
    import re
    from pathlib import Path

    text = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    return {name: module for module, name in re.findall(r"^from (\S+) import (\w+)", text, re.MULTILINE)}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *sorted(_modules())]
    module = None if name.startswith("_") else _modules().get(name)
    if module is None:
        raise AttributeError(f"module 'spcli' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(module), name)
    return found


def __dir__() -> list[str]:
    return ["__version__", *sorted(_modules())]
