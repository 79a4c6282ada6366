"""The one module that touches matplotlib's settings: themes, sizes, and files with equal bytes for equal input.

Figures are made without pyplot, so nothing is registered anywhere; settings hold for the time of one drawing and are
those of this module, whatever the user's own matplotlibrc says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from msgspec import Struct

from spcli.errors import DeviceError, UsageError
from spcli.writers.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What each format would otherwise write about the moment and the program, by format.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
DPI = 150

# Inches, and characters per inch, of the two sizes of text over a picture.
MARGIN = 0.1
TITLE_SIZE, TITLE_LINE, TITLE_CHARACTERS = 12, 0.22, 9.0
TEXT_SIZE, TEXT_LINE, TEXT_CHARACTERS = 9, 0.165, 14.2


ThemeName = Literal["light", "dark"]


class PictureOptions(Struct, frozen=True):
    """What every picture takes, apart from what it shows.

    Attributes:
        theme: for light paper or a dark screen.
        source: what was measured, such as a scan's name, for the title.
    """

    theme: ThemeName = "light"
    source: str = ""


class Colours(Struct, frozen=True):
    """The colours of a theme. Accents are Okabe and Ito's, which no common colour blindness confuses.

    Attributes:
        paper, ink, faint, line: background, text, secondary text, grid lines.
        blank: cells in which nothing is active.
        first, second, third: accents, in order of use.
        scale: the part of viridis that stands out from the background, from 0 to 1.
    """

    paper: str
    ink: str
    faint: str
    line: str
    blank: str
    first: str
    second: str
    third: str
    scale: tuple[float, float]


THEMES = {
    "light": Colours(
        "#ffffff", "#16191d", "#5b626b", "#c9ced4", "#f1f3f5", "#0072b2", "#d55e00", "#aa4499", (0.0, 0.9)
    ),
    "dark": Colours("#14171c", "#eceff2", "#a4acb5", "#3f4750", "#20252c", "#3d8fd1", "#c8660f", "#f4b3e0", (0.2, 1.0)),
}


def check_target(path: str) -> str:
    """The format that the suffix of `path` asks for; to be called before anything is computed for a picture.

    Raises:
        UsageError: there is no such format.
        DeviceError: matplotlib is not installed.
    """
    suffix = os.path.splitext(path)[1].lower().removeprefix(".")
    if suffix not in METADATA:
        raise UsageError(f"{path}: a picture ends in .png, .svg or .pdf; give such a name")
    if find_spec("matplotlib") is None:
        raise DeviceError("matplotlib is not installed, and pictures need it; run pip install 'spcli[plot]'")
    return suffix


@contextmanager
def styled(theme: str) -> Iterator[Colours]:
    """Matplotlib's own defaults and a theme on top, for the time of the block.

    Raises:
        UsageError: there is no such theme.
        DeviceError: matplotlib cannot be loaded.
    """
    if theme not in THEMES:
        raise UsageError(f"--theme {theme}: there are {', '.join(THEMES)}")
    try:
        import matplotlib
    except ImportError as error:
        remedy = "run pip install --force-reinstall 'spcli[plot]'"
        raise DeviceError(f"matplotlib cannot be loaded ({error}); {remedy}") from error

    colours = THEMES[theme]
    settings: Any = {k: value for k, value in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    settings.update(_settings(colours))
    with matplotlib.rc_context(rc=settings):
        yield colours


def _settings(colours: Colours) -> dict[str, Any]:
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
    lines = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    papers = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys(inks, colours.ink),
        **dict.fromkeys(lines, colours.line),
        **dict.fromkeys(papers, colours.paper),
        "font.family": ["DejaVu Sans"],
        "font.size": TEXT_SIZE,
        "axes.titlesize": 9.5,
        "axes.labelsize": 9.0,
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.0,
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "spcli",
        "pdf.fonttype": 42,
    }


def new_figure(width: float, height: float, texts: tuple[str, str], colours: Colours, packed: bool = False) -> Figure:
    """A figure whose axes get `width` x `height` inches, below `texts`: a title and a line that say what was measured.

    Both texts are wrapped to the width, and the figure grows by the lines they need. `packed` brings axes of a fixed
    aspect close together.
    """
    from matplotlib.figure import Figure

    title_lines = wrap(texts[0], max(20, int(width * TITLE_CHARACTERS)))
    lines = wrap(texts[1], max(20, int(width * TEXT_CHARACTERS)))
    total = height + 2 * MARGIN + TITLE_LINE * len(title_lines) + TEXT_LINE * len(lines)
    figure = Figure(figsize=(width, total), dpi=DPI, layout="compressed" if packed else "constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, 0, 1, height / total), w_pad=MARGIN, h_pad=MARGIN)
    left, top = MARGIN / width, 1 - MARGIN / total
    figure.text(left, top, "\n".join(title_lines), fontsize=TITLE_SIZE, fontweight="bold", va="top")
    top -= TITLE_LINE * len(title_lines) / total
    figure.text(left, top, "\n".join(lines), color=colours.faint, va="top", linespacing=1.3)
    return figure


def write_figure(path: str, figure: Figure) -> None:
    """Draw `figure` and make it the file `path`.

    Raises:
        UsageError: the file cannot be written.
    """
    form = check_target(path)
    drawn = BytesIO()
    figure.savefig(drawn, format=form, metadata=METADATA[form])
    with replacing(path) as stream:
        stream.write(drawn.getvalue())


def headline(source: str, *parts: str) -> str:
    """A title: what the picture shows, and of what."""
    return " · ".join(part for part in (*parts, source) if part)


def write_inside(axes: Any, x: float, y: float, text: object, **settings: Any) -> None:
    """Text within axes, centred unless `settings` say otherwise; no space is made for it, which saves measuring it."""
    axes.text(x, y, text, **{"ha": "center", "va": "center", **settings}).set_in_layout(False)


def counted(number: int, noun: str) -> str:
    """`1 rule`, `12,345 rules`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def readable_on(colour: Any) -> str:
    """Black or white, whichever reads better on `colour`, by its relative luminance."""
    from matplotlib.colors import to_rgb

    red, green, blue = (part**2.2 for part in to_rgb(colour))
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.22 else "#ffffff"


def colour_map(colours: Colours) -> Any:
    """The theme's colour map, with its blank colour where there is no number."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    scale = colormaps["viridis"](np.linspace(*colours.scale, 256))
    return ListedColormap(scale, name="spcli").with_extremes(bad=colours.blank)


def colour_bar(figure: Figure, drawn: Any, axes: Any, label: str, **settings: Any) -> Any:
    """A slim colour bar without a frame, beside `axes`."""
    bar: Any = figure.colorbar(drawn, ax=axes, label=label, **{"aspect": 32, "shrink": 0.95, "pad": 0.02, **settings})
    bar.outline.set_visible(False)
    return bar


def compact(number: float) -> str:
    """A number in at most five characters: 0.25, 999, 9,999, 12k, 123k, 1.2M."""
    if 1e3 <= number < 1e4 and number == int(number):
        return f"{number:,.0f}"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            scaled = number / limit
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{number:.0f}" if number == int(number) else f"{number:.2g}"
