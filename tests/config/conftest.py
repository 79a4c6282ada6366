"""Loading a text as a configuration file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from configurations import Load, Problems
from spcli.config import Config, load_config
from spcli.errors import ConfigError


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a text as a file, with no environment unless one is given."""

    def loaded(text: str, *sets: str, environ: dict[str, str] | None = None) -> Config:
        path = tmp_path / "net.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(str(path), sets, environ or {})

    return loaded


@pytest.fixture
def problems(load: Load) -> Problems:
    """The problems of a text as (line, key, message), in the order they are reported."""

    def found(text: str, *sets: str, environ: dict[str, str] | None = None) -> list[tuple[int | None, str, str]]:
        with pytest.raises(ConfigError) as caught:
            load(text, *sets, environ=environ)
        return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]

    return found


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The developer's own SPCLI_* variables change nothing here."""
    for name in [name for name in os.environ if name.startswith("SPCLI_") and "__" in name]:
        monkeypatch.delenv(name)
    yield
