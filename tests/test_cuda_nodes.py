"""What a frame of the CUDA engine starts and moves, counted without a device."""

from __future__ import annotations

from typing import Any

import pytest

from rehearsal import cloud
from spcli.config import load_preset
from spcli.program import Convolve


@pytest.fixture
def nodes(cuda: Any) -> Any:
    from spcli.engines.cuda.launch import INTERPRETED

    if not INTERPRETED:
        pytest.skip("the steps of a frame are counted where the interpreter stands in for the device")
    from benchmarks.cuda import nodes

    return nodes


def counted(nodes: Any, dtype: str) -> tuple[Any, Any, Any]:
    config = load_preset("quickstart", (), {})
    points = cloud(1, 400)
    network = config.network(len(points.features), None)
    return nodes.counts_of(network, points, dtype), network.program, points


def test_every_convolution_is_a_node_and_one_step_clears_all(nodes: Any) -> None:
    counts, program, points = counted(nodes, "float16")
    convolutions = sum(isinstance(op, Convolve) and op.map is not None for op in program.value_ops)
    assert counts.steps["convolve"] == convolutions > 1
    assert (counts.steps["zero_"], counts.steps["sort"], counts.steps["cat"]) == (1, 1, 1)
    assert set(counts.steps) - {"zero_", "fill_", "sort", "cat", "_now"} <= nodes.kernel_names()
    assert sum(counts.up) == points.values.nbytes + 52
    lines, others = list(nodes.table(counts)), sum(counts.steps[name] for name in ("zero_", "fill_", "sort", "cat"))
    assert f"{convolutions:>5}  convolve" in lines
    assert lines[-2].startswith(f"{counts.nodes} nodes, {counts.nodes - others} of them launches of kernels")


def test_half_formats_bring_back_half_as_many_bytes_of_features(nodes: Any) -> None:
    (half, _, _), (full, _, _) = (counted(nodes, dtype) for dtype in ("bfloat16", "float32"))
    assert sorted(half.up) == sorted(full.up)
    assert 2 * max(half.down) == max(full.down) and len(half.down) == len(full.down) == 3
