"""One output explained, rule by rule, in every format."""

from __future__ import annotations

from math import floor, log10
from typing import Any

import numpy as np

from spcli.cli.views.render import CsvWriter, Record, print_one, table, write_bytes
from spcli.inspect.explain import Explanation

SCHEMA = "spcli.explain/1"
SHOWN_CHANNELS = 4


def print_explanation(explanation: Explanation, form: str) -> None:
    """The explanation in the format `form`."""
    if form == "csv":
        write_bytes(CsvWriter().text(_csv_rows(explanation)).encode())
    else:
        print_one(_record(explanation), form, _people(explanation) if form == "table" else "")


def _record(explanation: Explanation) -> Record:
    """The explanation as JSON."""
    return {
        "schema": SCHEMA,
        "layer": explanation.layer,
        "type": explanation.type or None,
        "key": explanation.key,
        "out": explanation.out_row,
        "out_site": list(explanation.out_site),
        "terms": [
            {
                "tap": term.tap,
                "offset": list(term.offset),
                "count": term.count,
                "in": term.in_row,
                "in_site": None if term.in_site is None else list(term.in_site),
                "features": None if term.features is None else term.features.tolist(),
                "contribution": None if term.contribution is None else term.contribution.tolist(),
            }
            for term in explanation.terms
        ],
        "steps": [{"step": step.name, "what": step.what, "value": step.value.tolist()} for step in explanation.steps],
        "total": None if explanation.total is None else explanation.total.tolist(),
        "feature": None if explanation.feature is None else explanation.feature.astype(float).tolist(),
        "largest_difference": explanation.largest_difference,
    }


def _csv_rows(explanation: Explanation) -> list[Record]:
    """One row per term and one per step; `f0...` are the input's features, `c0...` the contribution or the value."""
    blank: dict[str, Any] = {"tap": None, "offset": None, "count": None, "in": None, "in_site": None}
    width = max([len(term.features) for term in explanation.terms if term.features is not None], default=0)
    blank |= {f"f{channel}": None for channel in range(width)}
    rows: list[Record] = []
    for term in explanation.terms:
        head = {
            "tap": term.tap,
            "offset": ",".join(map(str, term.offset)),
            "count": term.count,
            "in": term.in_row,
            "in_site": ",".join(map(str, term.in_site or ())),
        }
        numbers = {**_numbered("f", term.features), **_numbered("c", term.contribution)}
        rows.append({"step": "term", "what": None, **head, **numbers})
    values = [(step.name, step.what, step.value) for step in explanation.steps]
    if explanation.feature is not None:
        values.append(("feature", explanation.layer, explanation.feature.astype(np.float64)))
    rows += [{"step": name, "what": what, **blank, **_numbered("c", value)} for name, what, value in values]
    return rows


def _numbered(letter: str, values: Any) -> dict[str, float]:
    return {} if values is None else {f"{letter}{channel}": value for channel, value in enumerate(values.tolist())}


def _people(explanation: Explanation) -> str:
    """A title, the terms as a table, and the steps below them."""
    count = len(explanation.terms)
    where = ",".join(map(str, explanation.out_site))
    kind = f" ({explanation.type})" if explanation.type else ""
    title = f"{explanation.layer}{kind}: output row {explanation.out_row} at {where} is fed by {count} input"
    title += "" if count == 1 else "s"
    rows = [
        (
            f"({','.join(map(str, term.offset))})" if term.offset else "-",
            str(term.in_row),
            ",".join(map(str, term.in_site or ())),
            _channels(term.features),
            _channels(term.contribution),
        )
        for term in explanation.terms
    ]
    steps = [(step.name, "", step.what, "", _channels(step.value)) for step in explanation.steps]
    if explanation.feature is not None:
        steps.append(("feature", "", "as run writes it", "", _channels(explanation.feature)))
    header = ("offset", "in", "in site", "in features", "contribution")
    lines = [title, "", table([*rows, *steps], header)]
    if not explanation.steps:
        lines += ["", f"A dump holds no features: out[{explanation.out_row}] = " + _symbols(explanation)]
    elif explanation.largest_difference is not None:
        lines += ["", f"The last step and the feature differ by less than {_bound(explanation.largest_difference):g}."]
    return "\n".join(lines)


def _bound(difference: float) -> float:
    """The power of ten above a difference: engines round in different orders, which the last digits show."""
    return 1e-12 if difference < 1e-12 else float(10.0 ** (floor(log10(difference)) + 1))


def _symbols(explanation: Explanation) -> str:
    terms = [f"W[{','.join(map(str, term.offset))}] · in[{term.in_row}]" for term in explanation.terms]
    return " + ".join(terms) or "0"


def _channels(values: Any) -> str:
    """The first channels of a row."""
    if values is None:
        return ""
    shown = [f"{value:.5g}" for value in np.asarray(values)[:SHOWN_CHANNELS].tolist()]
    return " ".join(shown) + (f" ... ({len(values)})" if len(values) > SHOWN_CHANNELS else "")
