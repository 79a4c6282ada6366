"""How many kernels Triton had to compile, and how many it found in its cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import triton


@dataclass
class Kernels:
    """Kernels that were needed for the first time in this process."""

    compiled: int = 0
    found: int = 0

    def note(self, *, cache_hit: bool, **details: Any) -> None:
        """What Triton tells of each."""
        self.found += cache_hit
        self.compiled += not cache_hit


@contextmanager
def counted() -> Iterator[Kernels]:
    """Counts the kernels that are compiled or loaded inside; the interpreter has none."""
    kernels, before = Kernels(), triton.knobs.compilation.listener
    triton.knobs.compilation.listener = kernels.note
    try:
        yield kernels
    finally:
        triton.knobs.compilation.listener = before


def cache_folder() -> str:
    """Where Triton keeps what it compiled."""
    return str(triton.knobs.cache.dir)
