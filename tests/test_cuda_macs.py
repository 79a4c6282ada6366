"""Executed and useful multiply-adds, beside counts that are made one row at a time."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="needs Triton, whose engine's block shapes are counted")

from benchmarks.cuda import macs
from spcli.engines.cuda import blocks, tiles
from spcli.rulebook import Rulebook

ROOT = Path(__file__).resolve().parents[1]
LAYERS = """
version: 1
name: counted
voxelize: {voxel_size: [0.4, 0.4, 0.4], point_cloud_range: [0, -16, -3, 32, 16, 3.4], columns: [x, y, z, intensity]}
layers:
  - {name: narrow, type: SubMConv3d, out_channels: 24, kernel_size: 3}
  - {name: down, type: SparseConv3d, out_channels: 40, kernel_size: 3, stride: 2, padding: 1, indice_key: down}
  - {name: half, type: SparseConv3d, out_channels: 40, kernel_size: 2, stride: 2, indice_key: half}
  - {name: back, type: SparseInverseConv3d, out_channels: 40, kernel_size: 2, indice_key: half}
  - {name: up, type: SparseInverseConv3d, out_channels: 130, kernel_size: 3, indice_key: down}
  - {name: head, type: Linear, out_channels: 8}
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A network of every kind of order on some hundred voxels, with its rules."""
    folder = tmp_path_factory.mktemp("counted")
    values = np.fromfile(ROOT / "sample_data" / "street_000.bin", np.float32).reshape(-1, 4)
    values[::80].tofile(folder / "thin.bin")
    (folder / "counted.yaml").write_text(LAYERS)
    return macs.frame_of(str(folder / "counted.yaml"), str(folder / "thin.bin"))


def row_taps(book: Rulebook, inverted: bool) -> list[set[int]]:
    """The taps that each output row has."""
    ends, sites = (book.in_rows, book.in_indices) if inverted else (book.out_rows, book.out_indices)
    taps: list[set[int]] = [set() for _ in sites]
    for tap, (first, last) in enumerate(zip(book.pair_splits[:-1], book.pair_splits[1:], strict=True)):
        for row in ends[first:last].tolist():
            taps[row].add(tap)
    return taps


def in_order(taps: list[set[int]], order: str, rarest_last: list[int]) -> list[set[int]]:
    """Rows sorted as the engine's documentation says: by their only tap, or within windows by the rarest taps first."""
    if order == "tap":
        return sorted(taps, key=lambda row: min(row, default=27))
    if order == "window":
        rank = {tap: place for place, tap in enumerate(rarest_last)}
        windows = [taps[first : first + WINDOW] for first in range(0, len(taps), WINDOW)]
        return [row for window in windows for row in sorted(window, key=lambda row: sum(1 << rank[tap] for tap in row))]
    return taps


def common_first(axis: tuple[int, ...]) -> list[int]:
    """Taps of a cube from the centre outwards."""
    distances = [sum(map(abs, offset)) for offset in product(axis, repeat=3)]
    return sorted(range(len(distances)), key=lambda tap: (distances[tap], tap))


def executed(taps: list[set[int]], cut: blocks.Blocks, channels: tuple[int, int]) -> int:
    """Steps of a block, one after another."""
    total, (into, out) = 0, channels
    for first in range(0, len(taps), cut.rows):
        left = len(set().union(*taps[first : first + cut.rows]))
        while left > 0:
            left -= cut.taps
            inputs, outputs = range(0, into, cut.depth), range(0, out, cut.columns)
            total += len(inputs) * len(outputs) * cut.rows * cut.columns * cut.depth * cut.taps
    return total


# How each layer's rows are ordered where rows are sorted at all.
SORTED = {"narrow": "window", "down": "window", "half": "window", "back": "tap", "up": "window", "head": ""}
WINDOW = 128


@pytest.fixture(params=[True, False], ids=["sorted", "unsorted"])
def orders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Whichever layers the engine would sort, all are, or none is; the windows are small ones."""
    monkeypatch.setattr(blocks, "sorts_rows", lambda dtype, volume, upwards, capacity: request.param)
    monkeypatch.setattr(blocks, "window_rows", lambda: WINDOW)
    return {name: order if request.param else "" for name, order in SORTED.items()}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_multiply_adds_are_those_of_a_count_one_row_at_a_time(counted: Any, orders: dict[str, str], dtype: str) -> None:
    network, frame = counted
    with blocks.true_shapes(90):
        found = {each.name: each for each in macs.layers(network, frame, dtype)}
    assert {name: each.order for name, each in found.items()} == orders
    for info in network.layers:
        each, channels = found[info.name], (info.in_channels, info.out_channels)
        taps = [{0}] * each.rows if info.key is None else row_taps(frame.rulebooks[info.key], info.inverse)
        ordered = in_order(taps, each.order, common_first((0, 1) if info.kernel_volume == 8 else (-1, 0, 1)))
        assert (each.rows, each.pairs) == (len(taps), sum(map(len, taps)))
        assert each.useful == each.pairs * channels[0] * channels[1]
        assert each.executed == executed(ordered, each.blocks, channels) > each.useful


@pytest.mark.parametrize(("key", "inverse"), [("down", False), ("down", True), ("half", True)])
def test_the_engines_kernels_list_as_many_taps(
    counted: Any, cuda: Any, monkeypatch: pytest.MonkeyPatch, key: str, inverse: bool
) -> None:
    monkeypatch.setattr(blocks, "sorts_rows", lambda dtype, volume, upwards, capacity: True)
    book = counted[1].rulebooks[key]
    source = cuda.build(cuda.sites(book.in_indices, book.in_spatial_shape, 1), book.geometry)
    rules = macs.rules_of(book, inverse)
    listed = tiles.tiles_of(cuda.invert(source) if inverse else source, 64, "float32").counts
    order = macs.order_of(rules, "float32")
    assert order == ("tap" if key == "half" else "window")
    cut = blocks.Blocks(rows=64, columns=16, depth=16, taps=1, warps=4, stages=3)
    assert macs.taps_executed(rules, macs.places(rules, order), cut) == int(listed.sum())


def test_the_table_has_a_row_for_every_layer_and_their_sum(
    counted: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(macs, "frame_of", lambda config, scan: counted)
    assert macs.main(["--dtype", "tf32", "--capability", "80"]) == 0
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert head == ["layer", "rows", "pairs", "useful GMAC", "executed GMAC", "ratio", "block", "order"]
    assert [row[0] for row in rows] == ["narrow", "down", "half", "back", "up", "head", "all"]
    assert float(rows[-1][4]) == pytest.approx(sum(float(row[4]) for row in rows[:-1]), abs=0.004)
