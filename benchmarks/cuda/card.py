"""The card: whether there is one, what it is, and the two rates that bound everything on it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from spcli.engines.driver import ask_driver

if TYPE_CHECKING:
    import torch

COPIED = 1 << 30  # bytes: far more than any cache holds
SIDE = 8192  # rows and columns of the matrices that are multiplied
REPEATS = 9


def missing_device() -> str | None:
    """Why nothing can be timed here, in one sentence, or None."""
    driver = ask_driver()
    if driver.trouble:
        return f"CUDA cannot be used: {driver.trouble}"
    if not driver.devices:
        return "there is no CUDA device here, so nothing can be timed; run this on a machine with one"
    return None


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds between two events around `work` on the current stream, the host's gaps included.

    Without a device, where only tests come, the host's clock.
    """
    import torch

    if not torch.cuda.is_available():
        started = perf_counter()
        work()
        return perf_counter() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def describe_card() -> list[tuple[str, str]]:
    """Name and value of what decides how fast the card is."""
    import torch
    import triton

    card = torch.cuda.get_device_properties(0)
    sizes = f"{card.multi_processor_count} multiprocessors, {card.total_memory / 2**30:.0f} GiB"
    return [
        ("card", f"{card.name}, sm_{card.major}{card.minor}, {sizes}, {card.L2_cache_size / 2**20:.0f} MiB of L2"),
        ("software", f"torch {torch.__version__}, CUDA {torch.version.cuda}, triton {triton.__version__}"),
    ]


def copy_rate() -> float:
    """Bytes a second of a copy on the card, read and written bytes both counted."""
    import torch

    source = torch.empty(COPIED, dtype=torch.uint8, device="cuda").zero_()
    target = torch.empty_like(source)
    return 2 * COPIED / _typical(lambda: target.copy_(source))


def product_rate(dtype: str) -> float:
    """Floating point operations a second of one large matrix product in an engine's number format."""
    import torch

    kind = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(dtype, torch.float32)
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    left, right = (torch.randn(SIDE, SIDE, dtype=kind, device="cuda") for _ in range(2))
    out = torch.empty_like(left)
    seconds = _typical(lambda: torch.mm(left, right, out=out))
    torch.backends.cuda.matmul.allow_tf32 = allowed
    return 2 * SIDE**3 / seconds


def _typical(work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    return median(seconds_of(work) for _ in range(REPEATS))


class Flush:
    """Pushes everything out of the card's cache, so that a frame begins with a cold one."""

    def __init__(self) -> None:
        import torch

        self._room: torch.Tensor = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")

    def __call__(self) -> None:
        """Overwrites more than the cache holds."""
        self._room.zero_()


class Memory:
    """The most bytes of the card that torch handed out inside, above what was in use before."""

    peak = 0

    def __enter__(self) -> Memory:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *error: object) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.peak = torch.cuda.max_memory_allocated() - self._before
