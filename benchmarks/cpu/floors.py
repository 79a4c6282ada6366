"""The arithmetic floor as a contestant: every layer's exact multiply-adds at the rate of torch.mm at its shape.

A layer of `rows` outputs, Cin and Cout channels is timed as one product `[rows, Cin] x [Cin, Cout]` into memory that
is there already: no gather, no scatter, no rulebook, no norm. A convolution that took only this long would have
reached the library's matrix product.
"""

from __future__ import annotations

from time import perf_counter

import torch

from benchmarks.common.workload import Workload

LEAST_SECONDS = 0.004  # a shape's products are repeated for so long


class Contestant:
    """Times a product for each shape of the network."""

    def __init__(self, workload: Workload, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        torch.manual_seed(0)
        self._layers = [layer for layer in workload.layers if layer["rows"]]
        shapes = {(layer["rows"], layer["in_channels"], layer["out_channels"]) for layer in self._layers}
        self._operands = {
            (m, k, n): (torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n in sorted(shapes)
        }

    def round(self) -> dict[str, float]:
        """Seconds of all layers' multiply-adds at the rates of this moment."""
        rates = {shape: self._rate(shape) for shape in self._operands}
        total = 0.0
        for layer in self._layers:
            shape = (layer["rows"], layer["in_channels"], layer["out_channels"])
            total += 2 * layer["pairs"] * shape[1] * shape[2] / rates[shape]
        return {"floor": total}

    def _rate(self, shape: tuple[int, int, int]) -> float:
        left, right, out = self._operands[shape]
        torch.mm(left, right, out=out)
        times, started = 0, perf_counter()
        while (seconds := perf_counter() - started) < LEAST_SECONDS:
            torch.mm(left, right, out=out)
            times += 1
        return 2 * shape[0] * shape[1] * shape[2] * times / seconds
