"""Reports to look at, and the browser that looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import spcli
from browser import NAMES, Browser, find_browser
from report_data import QUICKSTART
from spcli.pipeline.session import RunResult
from spcli.report import ReportContents

READY = "document.documentElement?.dataset.ready === 'yes'"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip(f"needs a browser, one of {', '.join(NAMES)} on PATH (Debian: apt-get install chromium)")
    with Browser(path, tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="session")
def street() -> RunResult:
    """The quickstart network over the sample street, without features."""
    return spcli.run(
        spcli.load_preset("quickstart", environ={}), str(QUICKSTART), want=spcli.Want(rulebooks=True, values=False)
    )


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Callable[..., Browser]:
    """Write the report of some contents and open it."""

    def opened(contents: ReportContents, **choices: object) -> Browser:
        page = tmp_path / "report.html"
        spcli.write_report(str(page), contents, **choices)  # type: ignore[arg-type]
        browser.open(page, READY)
        return browser

    return opened
