"""The results as text: printed while they come, and kept as markdown."""

from __future__ import annotations

from benchmarks.common.pages import Page
from benchmarks.cpu.commands import WholeReport
from benchmarks.cpu.frames import FrameReport

STAGES = ("voxelize", "rulebooks", "convolution", "network")


class Report(Page):
    """Collects sections."""

    def machine(self, facts: list[tuple[str, str]], load: float, rounds: int) -> None:
        """The head: what was measured on, and how."""
        self._say("# Measured results", "", "Made by `make bench BENCH=--write`; every number is a median of")
        self._say(f"{rounds} interleaved rounds, each contestant in a process of its own.", "")
        self._say(*(f"* {name}: {value}" for name, value in facts), f"* load average at the start: {load:.2f}")

    def close(self, load: float) -> None:
        """The foot."""
        self._say("", f"Load average at the end: {load:.2f} (the benchmark itself keeps a core or two busy).")

    def frame(self, report: FrameReport) -> None:
        """One workload: checks, then one row per contestant."""
        self._say("", f"## {report.name}", "")
        self._say(f"{report.voxels:,} voxels in, {report.outputs:,} sites out, {report.gmac:.2f} GMAC.", "")
        self.checks(report.checks)
        self.absent(report.absent)
        self._say("")
        self._stages(report)
        self._ratios(report)

    def whole(self, report: WholeReport) -> None:
        """Some commands: one row for each, compared with the base."""
        self._say("", f"## {report.name}", "", "| command | ms | peak MB | of the peer's time |", "|---|--:|--:|--:|")
        base = report.measured.get(report.base)
        for label, measured in report.measured.items():
            share = "" if base is None else _share(measured.seconds, base.seconds)
            self._say(f"| {label} | {measured.seconds * 1e3:.0f} | {measured.peak_mb:.0f} | {share} |")
        self.absent(report.absent)

    def _stages(self, report: FrameReport) -> None:
        """Milliseconds by contestant, with the speed-up over spconv."""
        peer = report.medians.get("spconv 1T", {})
        self._say("| ms | " + " | ".join(STAGES) + " |", "|---|" + "--:|" * len(STAGES))
        for label, medians in report.medians.items():
            if label.startswith("floor"):
                medians = {"convolution": medians["floor"]}
            cells = [_cell(medians.get(stage), peer.get(stage), label == "spconv 1T") for stage in STAGES]
            self._say(f"| {label} | " + " | ".join(cells) + " |")

    def _ratios(self, report: FrameReport) -> None:
        """Convolution against the floor, and what the second thread gives."""
        medians = report.medians
        floors = {label: values["floor"] for label, values in medians.items() if label.startswith("floor")}
        self._say("")
        for label, floor in floors.items():
            threads = label.removeprefix("floor ")
            own = medians[f"spcli {threads}"]["convolution"]
            speeds = [f"{2 * report.gmac / seconds:.0f} GFLOP/s" for seconds in (own, floor)]
            self._say(f"* convolution on {threads}: {own / floor:.2f} of the floor ({speeds[0]}, torch.mm {speeds[1]})")
        one, *others = [label for label in medians if label.startswith("spcli ") and "AVX2" not in label]
        for label in others:
            gain = medians[one]["network"] / medians[label]["network"]
            self._say(f"* network, {one} to {label}: {gain:.2f} times as fast")


def _cell(seconds: float | None, peer: float | None, is_peer: bool) -> str:
    if seconds is None:
        return ""
    text = f"{seconds * 1e3:.2f}" if seconds < 0.01 else f"{seconds * 1e3:.1f}"
    return text if peer is None or is_peer else f"{text} ({peer / seconds:.1f}x)"


def _share(seconds: float, base: float) -> str:
    ratio = base / seconds
    return f"{seconds / base:.2f} ({ratio:.1f}x as fast)" if ratio > 1 else f"{seconds / base:.2f}"
