"""Every layer of a run as bars: active sites, density, rules per output site and multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spcli.plot.canvas import Colours, PictureOptions, compact, counted, headline, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Layer = Mapping[str, Any]


def draw(layers: Sequence[Layer], options: PictureOptions, colours: Colours) -> Figure:
    """Four columns of bars, one row per layer in network order; the means where the layers are those of a summary."""
    scans = max((int(layer.get("scans", 1)) for layer in layers), default=1)
    title = headline(options.source, "cost, layer by layer" + (f", means of {scans} scans" if scans > 1 else ""))
    total = sum(_number(layer.get("macs")) for layer in layers)
    text = f"{counted(len(layers), 'layer')} in network order; {compact(total)} multiply-adds (MACs) in total."
    figure = new_figure(9.6, max(1.6, 0.24 * len(layers) + 0.6), (title, text), colours)
    columns = (
        ("active output sites", "first", [_number(layer.get("out_sites")) for layer in layers], compact),
        ("active share of the output grid", "first", [100 * _number(layer.get("out_density")) for layer in layers],
         _percent),
        ("rules per output site", "second", [_rules(layer) for layer in layers], _decimal),
        ("multiply-adds (MACs)", "third", [_number(layer.get("macs")) for layer in layers], compact),
    )  # fmt: skip
    panels = figure.subplots(1, len(columns), sharey=True)
    for axes, (name, colour, values, show) in zip(panels, columns, strict=True):
        _bars(axes, values, getattr(colours, colour), [show(value) for value in values])
        axes.set_title(name, loc="left")
    panels[0].set_yticks(range(len(layers)), [str(layer["name"]) for layer in layers])
    panels[0].set_ylim(len(layers) - 0.4, -0.6)
    return figure


def _bars(axes: Any, values: Sequence[float], colour: str, labels: Sequence[str]) -> None:
    most = max((*values, 0)) or 1.0
    axes.barh(range(len(values)), values, height=0.72, color=colour)
    axes.set_xlim(0, most * 1.34)
    for row, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.annotate(label, (value, row), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _percent(share: float) -> str:
    return f"{share:.2g} %"


def _decimal(mean: float) -> str:
    return f"{mean:.1f}"


def _rules(layer: Layer) -> float:
    sites = _number(layer.get("out_sites"))
    return _number(layer.get("pairs")) / sites if sites else 0.0


def _number(value: Any) -> float:
    """A number, or the mean of a summary; 0 for what is not known."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    return 0.0 if value is None else float(value)
