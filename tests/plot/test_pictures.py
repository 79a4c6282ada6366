"""Pictures: files of the right kind that say what was measured, the same bytes every time, in both themes."""

from __future__ import annotations

import struct
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from spcli.engines import load_engine
from spcli.errors import DeviceError, UsageError
from spcli.geometry import ConvGeometry, regular_geometry, submanifold_geometry
from spcli.inspect import KeyedRulebook, Metres
from spcli.placement import Placement
from spcli.plot import (
    RULEBOOK_PICTURES,
    PictureOptions,
    SiteSet,
    check_target,
    plot_layers,
    plot_rulebook,
    plot_sites,
    plot_sweep,
)
from spcli.plot.canvas import THEMES, compact, readable_on
from spcli.plot.topdown import Rectangle, gathered, rectangle_around

pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra [plot])")

TWO = ((0, 1, 2), (0, 2, 3))
"""The active sites of the literature's example: P1 and P2, rows 0 and 1."""
VALID = regular_geometry((3, 3), (1, 1), (0, 0), (1, 1))
TRANSPOSED = ConvGeometry((3, 3), (2, 2), (1, 1), (1, 1), (0, 0), transposed=True)
SWEEP = [{"voxel_size": [v, v, 2 * v], "sites": round(100 / v), "macs": 1e6 / v, "bytes": 1e4 / v} for v in (0.1, 0.4)]


def built(sites, shape, geometry, key="conv", placements=()) -> KeyedRulebook:
    engine = load_engine("cpu")
    indices = np.array(sites, np.int32).reshape(-1, 1 + len(shape))
    book = engine.rulebook(engine.build(engine.sites(indices, shape, 1), geometry))
    return KeyedRulebook(key, ("layer",), book, *placements)


def cube(side, share=0.3):
    filled = np.random.default_rng(0).random((1, side, side, side)) < share
    return np.argwhere(filled)


RULEBOOKS = {
    "worked": built(TWO, (5, 5), VALID),
    "submanifold": built(TWO, (5, 5), submanifold_geometry((3, 3), (1, 1))),
    "transposed": built(TWO, (5, 5), TRANSPOSED),
    "no sites": built((), (5, 5), VALID),
    "no sites in 3-D": built((), (5, 5, 5), submanifold_geometry((3, 3, 3), (1, 1, 1))),
    "one site": built([(0, 2, 2, 2)], (5, 5, 5), submanifold_geometry((3, 3, 3), (1, 1, 1))),
    "343 taps": built(cube(8), (8, 8, 8), submanifold_geometry((7, 7, 7), (1, 1, 1))),
    "far apart": built([(0, 9, 90, 80)], (41, 1600, 1408), regular_geometry((3, 1, 1), (2, 1, 1), (0,) * 3, (1,) * 3)),
    "wide": built(TWO, (50, 60), regular_geometry((3, 3), (1, 1), (20, 20), (20, 20))),
}  # fmt: skip


def words(path) -> str:
    """All the text of an SVG."""
    root = ElementTree.parse(path).getroot()
    return " ".join(" ".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))


def png_size(path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data.rstrip()[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("name", RULEBOOKS)
@pytest.mark.parametrize("picture", RULEBOOK_PICTURES)
def test_every_picture_of_every_rulebook_says_what_it_shows(tmp_path, name, picture):
    keyed, path = RULEBOOKS[name], tmp_path / "a.svg"
    plot_rulebook(str(path), keyed, picture, PictureOptions(source="scan.bin"))
    text = words(path)
    assert "conv: " in text and "scan.bin" in text and "convolution, kernel" in text
    assert f"{len(keyed.rulebook.out_indices):,} output site" in text or not len(keyed.rulebook.out_indices)


@pytest.mark.parametrize(("suffix", "theme"), [("png", "light"), ("svg", "dark"), ("pdf", "light")])
def test_equal_input_gives_equal_bytes_in_every_format(tmp_path, suffix, theme):
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for file in files:
        plot_rulebook(str(file), RULEBOOKS["worked"], "kernel", PictureOptions(theme))
    one, other = (file.read_bytes() for file in files)
    assert one == other
    assert b"CreationDate" not in one and b"atplotlib v" not in one  # neither the moment nor the program


def test_pixels_have_the_colour_of_the_theme(tmp_path):
    from matplotlib.image import imread

    assert list(THEMES) == ["light", "dark"]
    for theme, corner in (("light", 1.0), ("dark", 0x14 / 255)):
        plot_rulebook(str(tmp_path / "a.png"), RULEBOOKS["worked"], options=PictureOptions(theme))
        assert imread(tmp_path / "a.png")[0, 0, 0] == pytest.approx(corner, abs=0.01)
        assert min(png_size(tmp_path / "a.png")) > 400


def test_the_worked_example_is_drawn_with_its_sums_and_rules(tmp_path):
    path = tmp_path / "a.svg"
    assert plot_rulebook(str(path), RULEBOOKS["worked"]) == "kernel"
    assert plot_rulebook(str(tmp_path / "b.svg"), RULEBOOKS["far apart"]) == "offsets"
    text = words(path)
    assert "out[1] = W[0,0]·in[0] + W[1,1]·in[1]" in text and "12 rules from 2 input sites to 8 output sites" in text
    assert "all rules" in text and "offset count in out" in text


def test_a_site_is_named_by_row_by_position_or_in_metres(tmp_path):
    placement = Placement((0.5, 0.5, 1.0), (10.0, 20.0, 0.0), (1, 1))
    keyed = built(TWO, (5, 5), VALID, placements=(placement, placement))
    texts = []
    for number, out in enumerate([(7,), (2, 2), (0, 2, 2), Metres(11.2, 21.3, 0.0)]):
        path = tmp_path / f"{number}.svg"
        plot_rulebook(str(path), keyed, "kernel", out=out)
        texts.append(words(path))
    assert "out[7] = W[-1,0]·in[1]" in texts[0] and len(set(texts)) == 1


def test_a_transposed_kernel_is_spread_over_the_outputs(tmp_path):
    plot_rulebook(str(tmp_path / "a.svg"), RULEBOOKS["transposed"], "kernel", out=(16,))
    text = words(tmp_path / "a.svg")
    assert "out[8] += W[-1,-1]·in[1], out[9] += W[-1,0]·in[1]" in text and "and 5 more" in text


def test_a_slice_of_a_cube_is_chosen_by_z(tmp_path):
    keyed = built(cube(5), (5, 5, 5), submanifold_geometry((3, 3, 3), (1, 1, 1)))
    plot_rulebook(str(tmp_path / "a.svg"), keyed, "kernel", z=2)
    text = words(tmp_path / "a.svg")
    assert "output sites, z = 2" in text and all(f"input sites, z = {z}" in text for z in (1, 2, 3))
    plot_rulebook(str(tmp_path / "a.svg"), keyed, "kernel", z=0)
    assert "input sites, z = -1, beyond the grid" in words(tmp_path / "a.svg")


def test_offsets_show_the_count_of_every_tap(tmp_path):
    plot_rulebook(str(tmp_path / "a.svg"), RULEBOOKS["worked"], "offsets")
    text = words(tmp_path / "a.svg").split()
    counts = np.diff(RULEBOOKS["worked"].rulebook.pair_splits)
    assert counts.tolist() == [1, 2, 2, 1, 2, 2, 0, 1, 1]
    assert [word for word in text if word in ("1", "2")].count("2") >= 4
    plot_rulebook(str(tmp_path / "a.svg"), RULEBOOKS["343 taps"], "offsets")
    assert all(f"z offset {z}" in words(tmp_path / "a.svg") for z in range(-3, 4))


def test_neighbours_are_in_metres_where_the_placement_is_known(tmp_path):
    inputs = Placement((0.5, 0.5, 1.0), (10.0, 20.0, 0.0), (1, 1))
    keyed = built(TWO, (5, 5), VALID, placements=(inputs, inputs.strided((2, 2))))
    plot_rulebook(str(tmp_path / "a.svg"), keyed, "neighbours")
    assert "x (m)" in words(tmp_path / "a.svg")
    plot_rulebook(str(tmp_path / "a.svg"), RULEBOOKS["one site"], "neighbours-mean")
    assert "x (cells)" in words(tmp_path / "a.svg") and "The mean over z" in words(tmp_path / "a.svg")


def test_pixels_gather_sites_by_hand():
    indices = np.array([(0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 3)], np.int32)
    values = np.array([1, 4, 7])
    part = rectangle_around(indices, (2, 2, 4))
    assert part == Rectangle(0, 4, 0, 2)
    nan = np.nan
    for reduce, expected in (("max", [[4, nan], [nan, nan]]), ("mean", 2.5), ("sum", 5)):
        image = gathered(indices, values, part, 1, reduce)
        assert image.shape == (2, 4) and image[1, 3] == 7 and np.isnan(image[0, 1:]).all()
        assert image[0, 0] == (expected[0][0] if isinstance(expected, list) else expected)
    assert gathered(indices, values, part, 2, "sum").tolist() == [[5, 7]]


def test_sites_layer_by_layer_tell_growth_and_density(tmp_path):
    placement = Placement((0.5, 0.5, 0.5), (0.0, -40.0, -3.0))
    sets = [
        SiteSet(0, ("input", "a", "b", "c"), cube(8).astype(np.int32), (8, 8, 8), 1, placement),
        SiteSet(1, ("down",), np.array([(0, 1, 1)], np.int32), (2, 2), 1, placement.strided((4, 4))),
        SiteSet(2, ("gone",), np.zeros((0, 4), np.int32), (1, 1, 1), 1, None),
    ]
    plot_sites(str(tmp_path / "a.svg"), sets)
    text = words(tmp_path / "a.svg")
    assert "input, a and 2 more" in text and "1 site, 0.01 of the input" in text and "grid 2x2, 25 % active" in text
    for few in ([], sets[2:]):
        plot_sites(str(tmp_path / "a.png"), few)
        assert min(png_size(tmp_path / "a.png")) > 300


def test_layers_are_drawn_from_statistics_and_from_their_means(tmp_path):
    layer = {"name": "conv1", "out_sites": 1000, "out_density": 0.25, "pairs": 5000, "macs": 2_000_000}
    means = {"scans": 3, **{name: {"mean": value} for name, value in layer.items() if name != "name"}, "name": "conv1"}
    empty = {"name": "gone", "out_sites": 0, "out_density": None, "pairs": 0, "macs": 0}
    texts = []
    for number, layers in enumerate([[layer, empty], [means]]):
        plot_layers(str(tmp_path / f"{number}.svg"), layers)
        texts.append(words(tmp_path / f"{number}.svg"))
    assert all(part in text for text in texts for part in ("conv1", "1,000", "25 %", "5.0", "2.0M"))
    assert "means of 3 scans" in texts[1]
    plot_layers(str(tmp_path / "none.svg"), [])


def test_a_sweep_has_a_number_at_every_point(tmp_path):
    plot_sweep(str(tmp_path / "a.svg"), SWEEP, PictureOptions(source="scan.bin"))
    text = words(tmp_path / "a.svg")
    assert "2 voxel sizes, 0.1 x 0.1 x 0.2 to 0.4 x 0.4 x 0.8 m" in text and "voxel size in x (m)" in text
    assert all(number in text for number in ("1,000", "250", "10M", "2.5M", "100k", "25k"))
    flat = [{**SWEEP[0], "voxel_size": [0.1, 0.1, z]} for z in (0.1, 0.2)]
    plot_sweep(str(tmp_path / "b.svg"), flat)
    assert "edge of a cube as large" in words(tmp_path / "b.svg")
    plot_sweep(str(tmp_path / "c.svg"), [{"voxel_size": 0.1, "sites": 0, "macs": 0, "bytes": 0}])


def test_the_settings_of_matplotlib_are_left_alone_and_the_users_do_not_matter(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    plot_rulebook(str(tmp_path / "a.svg"), RULEBOOKS["worked"])
    names = [name for name in matplotlib.rcParams if name != "backend"]  # which would be chosen by being looked at
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        before = [matplotlib.rcParams[name] for name in names]
        plot_rulebook(str(tmp_path / "b.svg"), RULEBOOKS["worked"])
        assert [matplotlib.rcParams[name] for name in names] == before
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("name", ["a.jpg", "a", "png", "a.svg.gz"])
def test_an_unknown_suffix_is_named_with_those_there_are(name):
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        check_target(name)


def test_without_matplotlib_one_sentence_tells_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DeviceError, match=r"pip install 'spcli\[plot\]'"):
        check_target("a.png")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"picture": "sweep"}, "rulebooks have kernel, offsets"),
        ({"options": PictureOptions("blue")}, "there are light, dark"),  # type: ignore[arg-type]
        ({"picture": "kernel", "out": (2, 0)}, "the nearest one is"),
        ({"picture": "kernel", "out": (9,)}, "rows 0 to 7"),
        ({"picture": "kernel", "out": Metres(1, 2, 3)}, "does not say where"),
    ],
)
def test_what_cannot_be_drawn_is_a_usage_error_and_leaves_no_file(tmp_path, arguments, said):
    with pytest.raises(UsageError, match=said):
        plot_rulebook(str(tmp_path / "a.png"), RULEBOOKS["worked"], **arguments)
    assert not list(tmp_path.iterdir())


def test_a_slice_without_sites_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no output site lies in this slice"):
        plot_rulebook(str(tmp_path / "a.png"), RULEBOOKS["one site"], "kernel", z=4)


def test_numbers_are_short_and_readable():
    numbers = (0, 7, 999, 1000, 9999, 12_345, 99_960, 1_234_567, 6.4e9, 0.25, 2.5)
    assert [compact(number) for number in numbers] == [
        "0", "7", "999", "1,000", "9,999", "12k", "100k", "1.2M", "6.4G", "0.25", "2.5",
    ]  # fmt: skip
    assert readable_on("#ffffff") == "#000000" and readable_on("#440154") == "#ffffff"
