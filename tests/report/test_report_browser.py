"""The report in a real browser: what it shows is what the library computes, and nothing in it can run."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

import spcli
from browser import Browser
from spcli.inspect import KeyedRulebook, Query, rules
from spcli.pipeline.session import RunResult
from spcli.program import CompressHeight, Convolve, GlobalPool, InvertMap, Pool, map_ends
from spcli.report import ReportContents, report_contents

Show = Callable[..., Browser]

# Every way to read another value: rules of each kind, inverse rules, row by row, columns of cells, whole scans.
EVERY_KIND = """
version: 1
name: every-kind
layers:
  - {name: subm, type: SubMConv3d, out_channels: 4, kernel_size: [3, 1, 5], dilation: [1, 1, 2], indice_key: s}
  - {name: residual, type: SubMConv3d, out_channels: 4, kernel_size: 3, add: subm, norm: LayerNorm}
  - {name: down, type: SparseConv3d, out_channels: 4, kernel_size: 2, stride: 2, indice_key: d}
  - {name: dilated, type: SparseConv3d, out_channels: 4, kernel_size: 3, padding: 1, dilation: 2, indice_key: w}
  - {name: wide, type: SparseConvTranspose3d, out_channels: 4, kernel_size: 3, stride: 2, padding: 1, indice_key: t}
  - {name: up, type: SparseInverseConv3d, input: down, out_channels: 4, kernel_size: 2, indice_key: d}
  - {name: both, type: Concat, inputs: [up, residual]}
  - {name: pool, type: SparseMaxPool3d, kernel_size: 3, stride: 2, indice_key: p}
  - {name: flat, type: HeightCompression}
  - {name: plane, type: SubMConv2d, out_channels: 4, kernel_size: 3, indice_key: plane}
  - {name: all, type: SparseGlobalMaxPool, input: wide}
"""


def tensor(seed: int, rows: int, shape: tuple[int, int, int], batch_size: int = 2) -> spcli.SparseTensor:
    """Random sites in canonical order."""
    rng = np.random.default_rng(seed)
    cells = np.sort(rng.choice(batch_size * int(np.prod(shape)), rows, replace=False))
    indices = np.stack(np.unravel_index(cells, (batch_size, *shape)), axis=1).astype(np.int32)
    return spcli.SparseTensor(np.ones((rows, 3), np.float32), indices, shape, batch_size)


def run(text: str, folder: Path, scan: spcli.SparseTensor) -> RunResult:
    path = folder / "network.yaml"
    path.write_text(text, encoding="utf-8")
    return spcli.run(spcli.load_config(str(path)), scan, want=spcli.Want(rulebooks=True, values=False))


def pick(browser: Browser, layer: str, row: int) -> None:
    browser.value(f"report.pick({layer!r}, {row})")


def rows_of_table(browser: Browser, kind: str, number: int = 0) -> list[list[str]]:
    """The cells of the inspector's n-th table of rules `in` or `out`."""
    found = browser.value(
        f"[...(document.querySelectorAll('.rules-{kind}')[{number}]?.tBodies[0].rows ?? [])]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert isinstance(found, list)
    return found


def expected_rules(result: RunResult, key: str, query: Query, end: str) -> list[list[str]]:
    """The same from the library: tap, offset, count, row and site of the other end."""
    rulebook = result.rulebooks[key]
    indices = rulebook.in_indices if end == "in" else rulebook.out_indices
    offsets = rulebook.geometry.offsets()
    lines = []
    for chunk in rules([KeyedRulebook(key, (), rulebook)], query):
        rows = chunk.in_rows if end == "in" else chunk.out_rows
        for tap, count, row in zip(chunk.taps.tolist(), chunk.counts.tolist(), rows.tolist(), strict=True):
            numbers = (", ".join(map(str, values)) for values in (offsets[tap], indices[row].tolist()))
            offset, site = numbers
            lines.append([str(tap), offset, str(count), str(row), site])
    return lines


def receptive_field(result: RunResult, layer: str, row: int) -> int:
    """How many input sites a layer's output row depends on, by sets."""
    program = result.network.program
    books = {keyed.map: result.rulebooks[keyed.key] for keyed in program.keys}
    rules_of = {slot: (book.in_rows, book.out_rows) for slot, book in books.items()}
    rules_of |= {op.map: rules_of[op.source][::-1] for op in program.index_ops if isinstance(op, InvertMap)}
    ends = map_ends(program)
    sites = {ends[slot][0]: book.in_indices for slot, book in books.items()}
    sites |= {ends[slot][1]: book.out_indices for slot, book in books.items()}
    needed: dict[int, set[int]] = {program.layers[layer]: {row}}
    for op in reversed(program.value_ops):
        wanted = list(needed.pop(op.output, set()))
        for name in ("input", "inputs", "add"):
            slots = getattr(op, name, None)
            for slot in (slots,) if isinstance(slots, int) else slots or ():
                before = sites[program.values[slot].sites]
                kind = op if name == "input" else None
                needed.setdefault(slot, set()).update(_read(kind, wanted, before, rules_of))
    return len(needed.get(0, ()))


def _read(op: Any, wanted: list[int], before: NDArray[np.int32], rules_of: dict[int, Any]) -> list[int]:
    """The rows of its input that an operation's output rows depend on; None reads row by row."""
    if isinstance(op, Convolve | Pool) and op.map is not None:
        in_rows, out_rows = rules_of[op.map]
        return list(in_rows[np.isin(out_rows, wanted)].tolist())
    if isinstance(op, CompressHeight):
        columns = np.unique(before[:, [0, 2, 3]], axis=0)[wanted].tolist()
        return [at for at, (b, _, y, x) in enumerate(before.tolist()) if [b, y, x] in columns]
    if isinstance(op, GlobalPool):
        return list(np.flatnonzero(np.isin(before[:, 0], wanted)).tolist())
    return wanted


def pixels(png: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG, `[rows, columns, 3]`."""
    from matplotlib.image import imread

    return (imread(BytesIO(png), format="png")[..., :3] * 255).round().astype(np.uint8)


def test_it_loads_without_an_error_and_asks_for_nothing(show: Show, street: RunResult) -> None:
    browser = show(report_contents(street, "street_000.bin", "quickstart"))
    browser.drawn()
    assert browser.problems == []
    assert [url for url in browser.requests if not url.startswith("file://")] == [] and len(browser.requests) == 1
    assert browser.value("[...document.querySelectorAll('#chain b')].map(name => name.textContent)") == [
        "input", "conv1a", "conv1b", "down", "conv2a", "conv2b", "up", "skip", "head",
    ]  # fmt: skip
    assert browser.value("document.querySelector('#chain button[aria-pressed=true] b').textContent") == "conv1a"


def test_the_policy_refuses_scripts_and_connections_that_are_not_the_pages_own(show: Show, street: RunResult) -> None:
    browser = show(report_contents(street))
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'globalThis.ran = 1'}))"
    )
    assert browser.value("globalThis.ran ?? 0") == 0
    assert browser.value("fetch('data:,x').then(() => 'sent', () => 'refused')") == "refused"


def test_a_picked_site_shows_the_rules_that_inspect_lists(show: Show, street: RunResult) -> None:
    browser = show(report_contents(street))
    for key, layer, row in (("down", "down", 298), ("subm1", "conv1b", 7000), ("subm2", "conv2a", 11646)):
        pick(browser, layer, row)
        expected = expected_rules(street, key, Query(outputs=(row,)), "in")
        assert expected and rows_of_table(browser, "in") == expected
    pick(browser, "conv1b", 500)
    assert rows_of_table(browser, "out") == expected_rules(street, "down", Query(inputs=(500,)), "out")
    assert browser.problems == []


def test_a_click_on_a_drawn_site_picks_it(show: Show, street: RunResult) -> None:
    browser = show(report_contents(street))
    browser.value("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    pick(browser, "conv1a", 3000)
    row = int(rows_of_table(browser, "in")[0][3])
    browser.value("document.getElementById('clear').click()")
    browser.drawn()
    left, top = browser.value(f"report.pixelOf({row})")
    browser.click(left, top)
    text = browser.value("picked.textContent")
    picked = int(re.search(r"row ([0-9,]+?),? ", text)[1].replace(",", ""))
    there = browser.value(f"report.pixelOf({picked})")
    assert np.hypot(there[0] - left, there[1] - top) < 12, "what is picked is drawn under the pointer"


@pytest.mark.parametrize("dark", [False, True])
def test_a_screenshot_has_the_points_in_light_and_in_dark(show: Show, street: RunResult, dark: bool) -> None:
    contents = report_contents(street)
    browser = show(contents)
    browser.value(f"document.documentElement.dataset.theme === '{'dark' if dark else 'light'}' || theme.click()")
    browser.value("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    browser.drawn()
    left, top, width, height = browser.value(
        "(({left, top, width, height}) => [left, top, width, height])(canvas.getBoundingClientRect())"
    )
    image = pixels(browser.screenshot())[
        int(top) + 8 : int(top + height) - 8, int(left) + 8 : int(left + width) - 8, :3
    ]
    background = image[0, 0].astype(int)
    assert (background.max() < 60) == dark
    drawn = int((np.abs(image.astype(int) - background).sum(axis=2) > 40).sum())
    assert drawn > 5000, "14,241 sites of two pixels a side and more"


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(EVERY_KIND, tmp_path_factory.mktemp("every"), tensor(3, 300, (9, 12, 11)))


def test_the_page_makes_every_kind_of_rule(show: Show, every_kind: RunResult) -> None:
    browser = show(report_contents(every_kind))
    rng = np.random.default_rng(0)
    for layer in every_kind.network.layers:
        if layer.key is None:
            continue
        rulebook = every_kind.rulebooks[layer.key]
        here, there = ("in", "out") if layer.inverse else ("out", "in")
        rows = len(getattr(rulebook, f"{here}_indices"))
        for row in rng.integers(0, rows, 4).tolist():
            pick(browser, layer.name, row)
            query = Query(inputs=(row,)) if layer.inverse else Query(outputs=(row,))
            assert rows_of_table(browser, "in") == expected_rules(every_kind, layer.key, query, there), layer.name
        assert "are as many at every offset" in browser.value("document.getElementById('offsets-of').textContent")
    assert browser.problems == []


def test_the_receptive_field_follows_every_operation_back(show: Show, every_kind: RunResult) -> None:
    browser = show(report_contents(every_kind))
    seen = set()
    for layer in every_kind.network.layers:
        row = 1
        pick(browser, layer.name, row)
        expected = receptive_field(every_kind, layer.name, row)
        title = browser.value(
            "[...document.querySelectorAll('#picked h3')].map(h => h.textContent).find(t => t.startsWith('Receptive'))"
        )
        assert title == f"Receptive field: {expected:,} input sites", layer.name
        seen.add(expected)
    assert len(seen) > 4


def test_sites_are_shown_where_only_a_later_rulebook_tells_them(show: Show, tmp_path: Path) -> None:
    """No rulebook begins at the input of a network that flattens first; its columns are the inputs of `plane`."""
    layers = "{name: flat, type: HeightCompression}, {name: plane, type: SubMConv2d, out_channels: 4, kernel_size: 3}"
    result = run(f"version: 1\nname: pillars\nlayers: [{layers}]\n", tmp_path, tensor(3, 300, (9, 12, 11)))
    browser = show(report_contents(result))
    pick(browser, "plane", 7)
    assert rows_of_table(browser, "in") == expected_rules(result, "plane", Query(outputs=(7,)), "in")
    assert "passes sites that are not in this report" in browser.value("document.getElementById('picked').textContent")
    assert browser.problems == []


def test_names_from_files_are_text(show: Show, street: RunResult) -> None:
    hostile = "</script><script>globalThis.ran=1</script><img src=x onerror='globalThis.ran=1'>{{data}}<!--\u2028"
    network = street.network
    renamed = structs.replace(network.layers[0], name=hostile, type=hostile)
    program = network.program
    layers = {(hostile if name == "conv1a" else name): slot for name, slot in program.layers.items()}
    network = structs.replace(
        network,
        layers=(renamed, *network.layers[1:]),
        program=structs.replace(
            program, layers=layers, keys=(structs.replace(program.keys[0], key=hostile), *program.keys[1:])
        ),
    )
    network = structs.replace(network, layers=tuple(
        structs.replace(layer, key=hostile) if layer.key == "subm1" else layer for layer in network.layers
    ))  # fmt: skip
    stats = street.stats
    stats["layers"][0].update(name=hostile, type=hostile)
    rulebooks = {**street.rulebooks, hostile: street.rulebooks["subm1"]}
    browser = show(ReportContents(hostile, hostile, network, rulebooks, stats))
    pick(browser, hostile, 5)
    assert browser.value("globalThis.ran ?? 0") == 0
    assert browser.value("document.images.length") == 0
    assert browser.value("document.querySelector('h1').textContent").startswith("</script><script>")
    assert browser.value("document.querySelectorAll('#chain b')[1].textContent") == hostile
    assert browser.problems == []


def test_fifty_thousand_sites_load_and_can_be_picked(show: Show, tmp_path: Path) -> None:
    layers = "{name: a, type: SubMConv3d, out_channels: 4, kernel_size: 3}, {name: b, type: SparseConv3d, out_channels: 4, kernel_size: 3, stride: 2, padding: 1}"  # noqa: E501
    result = run(f"version: 1\nname: big\nlayers: [{layers}]\n", tmp_path, tensor(5, 50_000, (20, 200, 200), 1))
    browser = show(report_contents(result))
    pick(browser, "b", 20_000)
    assert rows_of_table(browser, "in") == expected_rules(result, "b", Query(outputs=(20_000,)), "in")
    browser.drawn()
    assert browser.problems == []


def test_a_click_on_a_title_sorts_and_a_second_one_turns_the_order(show: Show, street: RunResult) -> None:
    browser = show(report_contents(street))
    cells = "[...document.querySelectorAll('#offsets tbody tr')].map(row => row.cells[2].textContent)"
    column = f"{cells}.map(text => Number(text.replace(',', '')))"
    title = "document.querySelectorAll('#offsets th')[2]"
    counts = np.diff(street.rulebooks["subm1"].pair_splits).tolist()
    assert browser.value(column) == counts
    browser.value(f"{title}.firstChild.click()")
    assert browser.value(column) == sorted(counts, reverse=True)
    browser.value(f"{title}.firstChild.click()")
    assert browser.value(column) == sorted(counts)
    assert browser.value(f"{title}.ariaSort") == "ascending"


def test_what_the_page_does_not_hold_is_said(show: Show, street: RunResult) -> None:
    browser = show(report_contents(street), layers=("conv2a",))
    assert browser.value("document.querySelector('#chain button[aria-pressed=true] b').textContent") == "conv2a"
    pick(browser, "conv2a", 10)
    expected = expected_rules(street, "subm2", Query(outputs=(10,)), "in")
    assert rows_of_table(browser, "in") == expected
    assert "receptive field passes sites that are not in this report" in browser.value("picked.textContent")
    pick(browser, "conv1a", 10)
    assert "not in this report" in browser.value("document.getElementById('no-view').textContent")
    assert browser.problems == []


def test_without_webgl_everything_but_the_view_works(show: Show, browser: Browser, street: RunResult) -> None:
    with browser.before("HTMLCanvasElement.prototype.getContext = () => null"):
        show(report_contents(street))
    assert "offers no WebGL" in browser.value("document.getElementById('no-view').textContent")
    pick(browser, "down", 298)
    assert rows_of_table(browser, "in") == expected_rules(street, "down", Query(outputs=(298,)), "in")


def test_a_site_that_is_not_active_is_said(show: Show, street: RunResult) -> None:
    browser = show(report_contents(street))
    browser.value("report.pick('conv1a', '0,0,0')")
    assert browser.value("picked.textContent") == "No active site 0,0,0 in conv1a."
    browser.value("report.pick('conv1a', '5,93,109')")
    assert "site 0, 5, 93, 109" in browser.value("picked.textContent")


def test_an_image_and_no_sites_at_all_are_shown(show: Show, tmp_path: Path) -> None:
    text = "version: 1\nname: image\nlayers: [{name: a, type: SparseConv2d, out_channels: 2, kernel_size: 3}]\n"
    image = spcli.SparseTensor(np.ones((2, 3), np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.int32), (5, 5))
    result = run(text, tmp_path, image)
    browser = show(report_contents(result))
    pick(browser, "a", 4)
    assert rows_of_table(browser, "in") == expected_rules(result, "a", Query(outputs=(4,)), "in")
    empty = spcli.SparseTensor(np.ones((0, 3), np.float32), np.zeros((0, 3), np.int32), (5, 5))
    browser = show(report_contents(run(text, tmp_path, empty)))
    browser.drawn()
    assert browser.problems == []
