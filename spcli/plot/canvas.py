"""The one page that touches matplotlib's settings: themes, sizes, and files with equal bytes for equal input.

Figures are made without pyplot, so nothing is registered anywhere; settings hold for the time of one drawing and are
those of this page, whatever the user's own matplotlibrc says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from spcli.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What each format would otherwise write about the moment and the program, by format.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
DPI = 150


class Colours(Struct, frozen=True):
    """The colours of a theme. Accents are Okabe and Ito's, which no common colour blindness confuses.

    Attributes:
        ground, ink, faint, line: paper, text, secondary text, grid lines.
        blank: cells in which nothing is active.
        first, second, third: accents, in order of use.
        scale: matplotlib's name of the colour map, dark to bright with the value on light paper and dark alike.
    """

    ground: str
    ink: str
    faint: str
    line: str
    blank: str
    first: str
    second: str
    third: str
    scale: str = "viridis"


THEMES = {
    "light": Colours("#ffffff", "#16191d", "#5b626b", "#d4d8dd", "#f1f3f5", "#0072b2", "#d55e00", "#aa4499"),
    "dark": Colours("#14171c", "#eceff2", "#a4acb5", "#3b424b", "#20252c", "#56b4e9", "#f0a030", "#dd99cc"),
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
    """
    if theme not in THEMES:
        raise UsageError(f"--theme {theme}: there are {', '.join(THEMES)}")
    import matplotlib

    colours = THEMES[theme]
    settings: Any = {k: value for k, value in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    settings.update(_settings(colours))
    with matplotlib.rc_context(rc=settings):
        yield colours


def _settings(colours: Colours) -> dict[str, Any]:
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
    lines = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    grounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys(inks, colours.ink),
        **dict.fromkeys(lines, colours.line),
        **dict.fromkeys(grounds, colours.ground),
        "font.family": ["DejaVu Sans"],
        "font.size": 9.0,
        "axes.titlesize": 9.5,
        "axes.labelsize": 9.0,
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.0,
        "svg.fonttype": "none",
        "svg.hashsalt": "spcli",
        "pdf.fonttype": 42,
    }


def new_figure(width: float, height: float, title: str, subtitle: str = "") -> Figure:
    """An empty figure of `width` x `height` inches below a title that says what was measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    text = f"{title}\n" if subtitle else title
    figure.suptitle(text, fontsize=12, fontweight="bold", x=0.012, ha="left")
    return figure


def write_figure(path: str, figure: Figure) -> None:
    """Draw `figure` and make it the file `path`.

    Raises:
        UsageError: the place cannot be written to.
    """
    from spcli.writers.atomic import replacing

    form = check_target(path)
    drawn = BytesIO()
    figure.savefig(drawn, format=form, metadata=METADATA[form])
    with replacing(path) as stream:
        stream.write(drawn.getvalue())


def bare(axes: Axes) -> None:
    """Take frame and ticks away."""
    axes.set_axis_off()
