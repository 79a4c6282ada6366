"""The documentation site: it builds without a warning, and a browser that shows it asks no other host for anything."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from browser import Browser, find_browser
from sessions import ROOT

WIDE, NARROW = (1400, 1000), (390, 844)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("needs mkdocs and mkdocs-material (extra [docs]), which are not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_its_pages_load_nothing_from_elsewhere_and_fit_the_window(
    site: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = find_browser()
    if path is None:
        pytest.skip("needs a Chromium (chromium or google-chrome on the PATH), which is not installed")
    with Browser(path, tmp_path, size) as browser:
        for page in ("index.html", "commands/run.html", "configuration.html", "python.html"):
            browser.open(site / page, "document.readyState === 'complete'")
            browser.drawn()
            assert browser.problems == []
            assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
            assert browser.value("document.documentElement.scrollWidth") <= size[0]


def test_tables_of_the_reference_are_tables(site: Path) -> None:
    """An option whose values are apart by bars is one cell."""
    page = (site / "commands" / "run.html").read_text(encoding="utf-8")
    assert "<td><code>--device [auto|cpu|cuda]</code></td>" in page
    assert "made from the code" not in page
