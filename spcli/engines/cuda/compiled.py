"""How many kernels Triton had to compile, and how many it found in its cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import triton

from spcli.engines.base import KernelCounts


@contextmanager
def counted_kernels() -> Iterator[KernelCounts]:
    """Counts the kernels that are compiled or loaded inside; the interpreter has none."""
    counts, before = KernelCounts(folder=str(triton.knobs.cache.dir)), triton.knobs.compilation.listener

    def note(*, cache_hit: bool, **details: Any) -> None:
        counts.found += cache_hit
        counts.compiled += not cache_hit

    triton.knobs.compilation.listener = note
    try:
        yield counts
    finally:
        triton.knobs.compilation.listener = before
