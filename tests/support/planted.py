"""Kernels that are wrong on purpose, in place of those of a module."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def plant(monkeypatch: pytest.MonkeyPatch, folder: Path, module: str, right: str, wrong: str) -> None:
    """Puts a copy of the kernels of a module, with one piece changed, in their place."""
    from spcli.engines import cuda

    user = importlib.import_module(f"{cuda.__name__}.{module}")
    source = Path(user.kernels.__file__)
    text = source.read_text()
    assert text.count(right) == 1, f"{right!r} stands {text.count(right)} times in {source.name}"
    changed = folder / f"{module}_planted.py"
    changed.write_text(text.replace(right, wrong))
    spec = importlib.util.spec_from_file_location(changed.stem, changed)
    assert spec is not None and spec.loader is not None
    planted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(planted)
    monkeypatch.setattr(user, "kernels", planted)
