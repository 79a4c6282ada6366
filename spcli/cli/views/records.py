"""The records of `voxelize` and `run` as they are printed, one after another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from spcli.cli.console import console
from spcli.cli.views.render import CsvWriter, Record, flat, json_line, json_text, table, write_line

CSV_COLUMNS = (
    "source",
    "ok",
    "device",
    "voxels",
    "max_points_in_a_voxel",
    *(
        f"points_{name}"
        for name in ("read", "in_range", "nonfinite", "out_of_range", "over_max_points", "over_max_voxels")
    ),
    "weights",
    "time_s",
    "outputs",
    "warnings",
    "error_code",
    "error_message",
    "engine",
)


class RecordPrinter:
    """Prints records as they come.

    `single` prints everything about the one record in a table; many get one line each. With `to_stderr` the data itself
    has standard output, so records go to standard error.
    """

    def __init__(self, form: str, single: bool, to_stderr: bool = False, warned: Sequence[str] = ()) -> None:
        """`warned` are warnings that hold for every scan and were printed before the first."""
        self._warned = warned
        self._form = form
        self._single = single
        self._write: Callable[[str], None] = _write_stderr if to_stderr else write_line
        self._records: list[Record] = []
        self._csv = CsvWriter()

    def emit(self, record: Record) -> None:
        """Print a record, and say its warnings and its error."""
        source = record["source"]
        for warning in record.get("warnings", ()):
            if warning not in self._warned:
                console.warn(warning if warning.startswith(source) else f"{source}: {warning}")
        if not record["ok"]:
            console.error(record["error"]["message"])
        if self._form == "json":
            self._records.append(record)
        elif self._form == "ndjson":
            self._write(json_line(record))
        elif self._form == "csv":
            self._write(self._csv.text([csv_row(record)]).rstrip("\n"))
        elif self._single:
            self._write(details(record))
        else:
            self._emit_row(record)

    def _emit_row(self, record: Record) -> None:
        if not self._records:
            self._write(f"{'ok':3} {'points':>10} {'voxels':>10} {'s':>8}  source")
            self._records.append(record)
        points = (record.get("points") or {}).get("read", "-")
        seconds = f"{sum(record['time_s'].values()):.3f}" if "time_s" in record else "-"
        ok = "skp" if record.get("skipped") else "yes" if record["ok"] else "no"
        self._write(f"{ok:3} {points:>10} {record.get('voxels', '-'):>10} {seconds:>8}  {record['source']}")

    def close(self) -> None:
        """Print what had to wait for the last record."""
        if self._form == "json":
            self._write(json_text(self._records))


def _write_stderr(text: str) -> None:
    if sys.stderr is not None:
        with console.above_bar():
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def csv_row(record: Record) -> Record:
    """A record as one row: the outputs joined, the time summed up."""
    row = flat(record)
    row["time_s"] = round(sum(record.get("time_s", {}).values()), 6)
    row["outputs"] = "; ".join(record.get("outputs", {}).values())
    return {name: row.get(name) for name in CSV_COLUMNS}


def details(record: Record) -> str:
    """All that one record says, for people."""
    if not record["ok"]:
        return f"{record['source']}: {record['error']['message']}"
    lines = [f"source     {record['source']}"]
    if record.get("skipped"):
        return "\n".join([*lines, "skipped    its results are there already"])
    points = record["points"]
    if points:
        lost = ", ".join(
            f"{count:,} {name.replace('_', ' ')}" for name, count in points.items() if name != "read" and count
        )
        lines.append(f"points     {points['read']:,}" + (f": {lost}" if lost else ""))
    most = record["max_points_in_a_voxel"]
    lines.append(f"voxels     {record['voxels']:,}" + (f", the fullest of {most:,} points" if most else ""))
    lines += _computed_on(record)
    if record.get("weights"):
        lines.append(f"weights    {record['weights']}")
    seconds = ", ".join(f"{phase} {1000 * s:.1f}" for phase, s in record["time_s"].items())
    lines.append(f"ms         {seconds}")
    lines += [f"{kind:<11}{path}" for kind, path in record["outputs"].items()]
    if "layers" in record:
        rows = [(layer["name"], layer["sites"], layer["pairs"]) for layer in record["layers"]]
        lines += ["", table(rows, ("layer", "sites", "pairs"))]
    return "\n".join(lines)


def _computed_on(record: Record) -> list[str]:
    """Where it was computed, by which engine where that is not the CPU's, and how such frames were found to be."""
    device, engine, checked = record["device"], record["engine"], record.get("checked")
    if engine == device:
        return [f"device     {device}"]
    lines = [f"device     {record['card'] or device}, the {engine} engine"]
    if checked is not None:
        of = "this frame" if checked["frame"] == "this" else "an earlier frame"
        layer = f", largest error {checked['error']:.1e} in {checked['layer']}" if checked["layer"] else ""
        allowed = f", {checked['allowed']:g} allowed" if layer else ""
        lines.append(f"checked    {of} agrees with the CPU engine's{layer}{allowed}")
    return lines
