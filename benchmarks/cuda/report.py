"""The results on a card as markdown, printed while they come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.common.pages import Check, Page
from benchmarks.common.processes import Measured

STAGES = ("voxelize", "maps", "convolutions", "network", "total")


@dataclass(frozen=True)
class Rates:
    """What the card can do: bytes a second copied, and floating point operations a second by number format."""

    copy: float
    products: Mapping[str, float]


@dataclass(frozen=True)
class Measures:
    """What one contestant gave: seconds by stage, frames a second of a stream, bytes of the card at most."""

    stages: Mapping[str, float]
    rate: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class FrameResult:
    """One network on one scan.

    Attributes:
        name: configuration and scan.
        sizes: points, voxels in, sites out.
        gmac: exact multiply-adds in billions.
        checks: comparisons of features, made before anything was timed.
        measures: by contestant, "spcli float16" or "spconv float16".
        floors: seconds by number format and stage.
        absent: contestants that took no part, with the reason.
    """

    name: str
    sizes: tuple[int, int, int]
    gmac: float
    checks: list[Check]
    measures: Mapping[str, Measures]
    floors: Mapping[str, Mapping[str, float]]
    absent: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Start:
    """A command from a cold kernel cache and from a filled one."""

    label: str
    first: Measured
    warm: Measured


class CudaReport(Page):
    """Collects sections."""

    def head(self, facts: list[tuple[str, str]], rates: Rates, rounds: int, cold: bool) -> None:
        """What was measured on, and how."""
        cache = "emptied before each" if cold else "left as the one before left it"
        self._say("# Measured on a card", "", "Made by `make cuda-bench BENCH=--write`: one process, times")
        self._say(f"between CUDA events, medians of {rounds} interleaved rounds, the card's cache {cache}.", "")
        self._say(*(f"* {name}: {value}" for name, value in facts))
        self._say(f"* copies on the card: {rates.copy / 1e12:.2f} TB/s, read and written bytes both counted")
        products = (f"{rate / 1e12:.0f} TFLOP/s {dtype}" for dtype, rate in rates.products.items())
        self._say(f"* large matrix products: {', '.join(products)}")

    def frame(self, result: FrameResult) -> None:
        """Checks, then one row per contestant, and under them what the card's rates allow."""
        points, voxels, outputs = result.sizes
        self._say("", f"## {result.name}", "")
        self._say(f"{points:,} points, {voxels:,} voxels, {outputs:,} sites out, {result.gmac:.2f} GMAC.", "")
        self.checks(result.checks)
        self.absent(result.absent)
        self._say("", "| ms | " + " | ".join(STAGES) + " | frames/s | peak MB |", "|---|" + "--:|" * (len(STAGES) + 2))
        for label, measures in result.measures.items():
            self._row(label, measures, result.measures)
        for dtype, floor in result.floors.items():
            self._row(f"floor {dtype}", Measures(floor), {})

    def starts(self, starts: list[Start], absent: list[str]) -> None:
        """Whole processes, from nothing to a file of features."""
        self._say("", "## start-up, a process from a scan to features", "")
        self.absent(absent)
        self._say("", "| command | first run s | warm s | peak host MB |", "|---|--:|--:|--:|")
        for start in starts:
            times = f"{start.first.seconds:.2f} | {start.warm.seconds:.2f}"
            self._say(f"| {start.label} | {times} | {start.warm.peak_mb:.0f} |")

    def _row(self, label: str, measures: Measures, others: Mapping[str, Measures]) -> None:
        """One contestant; ours with how many times the peer of the same number format takes."""
        ours, _, dtype = label.partition(" ")
        peer = others.get(f"spconv {dtype}") if ours == "spcli" else None
        cells = [_milliseconds(measures, stage, peer) for stage in STAGES]
        rate = "" if measures.rate is None else f"{measures.rate:,.0f}"
        memory = "" if measures.memory is None else f"{measures.memory / 2**20:,.0f}"
        self._say(f"| {label} | " + " | ".join(cells) + f" | {rate} | {memory} |")


def _milliseconds(measures: Measures, stage: str, peer: Measures | None) -> str:
    seconds = measures.stages.get(stage)
    if seconds is None:
        return ""
    text = f"{seconds * 1e3:.3f}"
    against = None if peer is None else peer.stages.get(stage)
    return text if against is None or seconds <= 0 else f"{text} ({against / seconds:.1f}x)"
