"""`spcli doctor`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from spcli.cli.console import console
from spcli.cli.option_types import Words
from spcli.cli.options import format_option, subcommand
from spcli.cli.views.render import CsvWriter, default_format, flat, json_line, json_text, write_bytes, write_line
from spcli.config import preset_names
from spcli.doctor import HealthCheck, checkup, report
from spcli.engines.base import Engine
from spcli.engines.device import choose_engine, with_dtype
from spcli.errors import UsageError
from spcli.pipeline.verdicts import Stored, kept
from spcli.pipeline.warmup import warm_up

EXAMPLES = """
spcli doctor
spcli doctor --full --format json
spcli doctor --warmup --dtype float32,float16
"""
BROKEN = 3
MARKS = {True: "OK  ", False: "FAIL", None: "--  "}


@subcommand("doctor", EXAMPLES)
@click.option("--full", is_flag=True, help="Also import open3d, which takes seconds.")
@click.option(
    "--warmup",
    is_flag=True,
    help="Also compile the kernels of all presets for the GPU, and compare their frames with the CPU's.",
)
@click.option("--dtype", "dtypes", type=Words("float32", "tf32", "float16", "bfloat16"),
              help="What --warmup compiles for; float32 by default.")  # fmt: skip
@format_option("table", "json", "ndjson", "csv")
def command(full: bool, warmup: bool, dtypes: tuple[str, ...] | None, form: str | None) -> int:
    """Check the installation.

    Versions, instruction set, threads, CUDA, Triton and open3d, then a self-test: a small cloud is voxelized and
    convolved and compared with plain Python, on a GPU too where there is one. Then what the first frames of networks
    on a GPU were found to be. Ends with 3 when something that is needed fails, or a frame was wrong.
    """
    if dtypes and not warmup:
        raise UsageError("--dtype says what --warmup compiles for; give both or neither")
    form = default_format(form)
    checks = []
    for check in _checks(full, (dtypes or ("float32",)) if warmup else ()):
        checks.append(check)
        if form == "table":
            write_line(f"{MARKS[check.ok]}  {check.name}: {check.detail}")
    found = report(checks)
    if form == "csv":
        write_bytes(CsvWriter().text(map(flat, found["checks"])).encode())
    elif form != "table":
        write_line(json_text(found) if form == "json" else json_line(found))
    return 0 if found["ok"] else BROKEN


def _checks(full: bool, warm: tuple[str, ...]) -> Iterator[HealthCheck]:
    """The checks, then one for each dtype to warm up; without a device for that it ends before the first."""
    engine = choose_engine("cuda", console.warn) if warm else None
    yield from checkup(full)
    if engine is not None:
        for dtype in warm:
            yield _warmed(engine, dtype)
    yield from map(_checked, kept())


def _warmed(engine: Engine, dtype: str) -> HealthCheck:
    done = warm_up(with_dtype(engine, dtype), preset_names())
    for sentence in done.wrong:
        console.warn(sentence)
    found = f"{done.compiled} kernels compiled and {done.found} found in {done.folder}, " if done.folder else ""
    return HealthCheck(f"warm-up for {dtype}", True, f"{found}{done.seconds:.1f} s")


def _checked(stored: Stored) -> HealthCheck:
    """What the frames of a network were found to be."""
    subject, verdict = stored.subject, stored.worst
    of = (subject.identity.get("card", subject.device), f"{subject.engine} engine", subject.dtype)
    what = "frames" if subject.values else "rulebooks"
    found = verdict.wrong or "agree with the CPU engine's"
    if verdict.ok and verdict.layer:
        found += f", largest error {verdict.error:.1e} in {verdict.layer}, {verdict.allowed:g} allowed"
    return HealthCheck(f"{what} of {subject.network}", verdict.ok, f"{', '.join(of)}: {found}")
