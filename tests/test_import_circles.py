"""The contract against circles of imports finds those that are hardest to see."""

from __future__ import annotations

from importlib import import_module
from itertools import count
from pathlib import Path

import pytest

REASON = "needs import-linter, which make lint installs"
grimp = pytest.importorskip("grimp", reason=REASON)
pytest.importorskip("importlinter", reason=REASON)

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = count()


@pytest.mark.parametrize(
    ("one", "two", "package", "circle"),
    [
        ("from {0} import two", "import os", "", []),
        ("def late():\n    import {0}.two", "import {0}.one", "", ["{0}.one", "{0}.two"]),
        ("from {0} import __doc__", "", "import {0}.one", ["{0}", "{0}.one"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {0}.two", "import {0}.one", "", []),
    ],
    ids=["none", "in a function", "a package and its module", "for types only"],
)
def test_a_circle_breaks_the_contract_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, two: str, package: str, circle: list[str]
) -> None:
    name = f"circles{next(NUMBERS)}"
    (tmp_path / name).mkdir()
    for file, text in (("__init__", package), ("one", one), ("two", two)):
        (tmp_path / name / f"{file}.py").write_text(text.format(name) + "\n")
    for folder in (ROOT, tmp_path):
        monkeypatch.syspath_prepend(folder)
    contract = import_module("tools.import_circles").NoCircles("circles", {}, {})
    graph = grimp.build_graph(name, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None)
    checked = contract.check(graph, False)
    assert checked.kept == (not circle)
    assert set(checked.metadata.get("circle", ())) == {each.format(name) for each in circle}
