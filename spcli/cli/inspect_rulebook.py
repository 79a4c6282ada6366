"""`spcli inspect-rulebook`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import click
from msgspec import Struct

from spcli.cli.choices import DeviceChoices, NetworkChoices, device_options, network_options
from spcli.cli.console import console
from spcli.cli.option_sites import SITE, SiteType
from spcli.cli.option_types import Numbers
from spcli.cli.options import check_absent, format_option, grouped, subcommand
from spcli.cli.plotting import PlotChoices, draw_rulebook, plot_options
from spcli.cli.rulebook_source import read_rulebooks
from spcli.cli.views.render import default_format, print_rows, write_bytes
from spcli.cli.views.rules import Style, hash_table_lines, rule_lines
from spcli.cli.views.summary import summary_text
from spcli.errors import UsageError
from spcli.inspect import (
    KeyedRulebook,
    Query,
    absence,
    hash_tables,
    rule_columns,
    rule_kinds,
    rulebook_summary,
    rules,
)
from spcli.writers.atomic import replacing
from spcli.writers.parquet import write_parquet

EXAMPLES = """
spcli inspect-rulebook out/scan.rulebooks.npz --summary
spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 --offset -1,0,0 --limit 10
spcli inspect-rulebook scan.bin --config second-kitti --key spconv2 --out @12.3,-4.5,0.2
spcli inspect-rulebook out/scan.rulebooks.npz --format parquet -o rules.parquet
spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 --hash-tables | head
spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 --plot subm1.png
"""
FILES = ("csv", "json", "ndjson", "jsonl", "parquet")


class ListingChoices(Struct, frozen=True):
    """What to print of rulebooks, how, and where to."""

    summary: bool
    hash_tables: bool
    output: str | None
    form: str | None


@subcommand("inspect-rulebook", EXAMPLES)
@click.argument("source", metavar="DUMP|SCAN|TENSOR")
@grouped(
    "query",
    Query,
    click.option("--key", "keys", multiple=True, metavar="INDICE_KEY", help="Only this rulebook; repeatable."),
    click.option("--offset", type=Numbers(int, (2, 3), "DZ,DY,DX"), help="Only this centred kernel offset."),
    click.option("--tap", type=click.IntRange(min=0), metavar="K", help="Only this kernel index, by number."),
    click.option("--in", "inputs", type=SiteType(), help=f"Only rules from this input site: {SITE}."),
    click.option("--out", "outputs", type=SiteType(), help="Only rules into this output site."),
    click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Print at most N lines."),
)
@grouped(
    "listing",
    ListingChoices,
    click.option("--summary", is_flag=True, help="Print sizes and counts instead of rules."),
    click.option("--hash-tables", is_flag=True, help="Print site -> row of both ends, and rules as papers draw them."),
    click.option("-o", "--output", metavar="FILE", help="Write rules there: .csv, .json, .ndjson or .parquet."),
    format_option("table", "json", "ndjson", "csv", "parquet"),
)
@plot_options("kernel", "offsets", "neighbours", "neighbours-mean", "histogram")
@network_options()
@device_options("cpu")
def command(
    source: str,
    query: Query,
    listing: ListingChoices,
    plot: PlotChoices,
    network: NetworkChoices,
    where: DeviceChoices,
) -> None:
    """List the rules of convolutions.

    Reads a dump that spcli run wrote, or builds the rulebooks of a scan or voxelized tensor (- for standard input)
    with --config. A rule joins input row and output row through a kernel index (tap); `count` numbers the rules of a
    tap from 0, whatever is filtered out. Sites are batch, z, y, x; rows are numbered in that order, where drawings in
    the literature number them as they are first seen.
    """
    _check(query, listing, plot)
    books = read_rulebooks(source, query.keys, network, where)
    if plot.plot is not None:
        draw_rulebook(books, plot, source, query.outputs)
    elif listing.summary:
        summaries = [rulebook_summary(keyed) for keyed in books]
        print_rows(summaries, default_format(listing.form), summary_text(summaries))
    else:
        _print_lines(books, query, listing)


def _check(query: Query, listing: ListingChoices, plot: PlotChoices) -> None:
    """Refuse options that contradict each other."""
    check_absent(listing.output, plot.overwrite)
    modes = {"--summary": listing.summary, "--hash-tables": listing.hash_tables, "--plot": plot.plot is not None}
    given = [name for name, value in modes.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are {'both' if len(given) == 2 else 'all'} given; give one of them")
    if not given:
        return
    if listing.form == "parquet" or _form_of_file(listing.output) == "parquet":
        raise UsageError(f"{given[0]}: Parquet is for rules; leave --format parquet out")
    if given[0] != "--hash-tables":
        _check_whole(query, listing, given[0])


def _check_whole(query: Query, listing: ListingChoices, mode: str) -> None:
    """Refuse filters of rules, and a file for them, beside what is about whole rulebooks."""
    filters = {"tap": query.tap, "offset": query.offset, "in": query.inputs, "out": query.outputs, "limit": query.limit}
    for name, value in filters.items():
        if value is not None and (mode, name) != ("--plot", "out"):
            raise UsageError(f"--{name} chooses rules, and {mode} does not list them; leave one of them out")
    if listing.output:
        raise UsageError(f"{mode} prints; -o is for rules and hash tables")


def _print_lines(books: Sequence[KeyedRulebook], query: Query, listing: ListingChoices) -> None:
    """Rules, or hash tables, as they are found."""
    form = _form(listing)
    dims = max((keyed.rulebook.in_indices.shape[1] - 1 for keyed in books), default=3)
    if form == "parquet":
        _write_parquet(books, query, dims, listing.output)
        return
    style = Style("ndjson" if form == "json" else form, dims)
    if listing.hash_tables:
        texts = hash_table_lines(hash_tables(books, query), style)
    else:
        texts = rule_lines(rules(books, query), style)
    if not _emit(texts, form, listing.output) and query.limit != 0:
        _warn_of_no_match(books, query)


def _form(listing: ListingChoices) -> str:
    """What to print: what `--format` says, else what the suffix of `-o` says, else the default."""
    if listing.form is None and listing.output not in (None, "-"):
        form = _form_of_file(listing.output)
        if form is None:
            names = "a name that ends in .csv, .json, .ndjson or .parquet"
            raise UsageError(f"-o {listing.output}: give --format, or {names}")
        return form
    form = default_format(listing.form)
    if form == "parquet" and listing.output is None:
        raise UsageError("--format parquet needs -o FILE (- for standard output)")
    return form


def _form_of_file(target: str | None) -> str | None:
    """The format that a suffix stands for."""
    suffix = (target or "").lower().rpartition(".")[2]
    return {"jsonl": "ndjson"}.get(suffix, suffix) if suffix in FILES else None


def _emit(texts: Iterator[bytes], form: str, target: str | None) -> int:
    """Write text as it comes; gives the number of bytes after the header."""
    size = 0
    with nullcontext() if target in (None, "-") else replacing(str(target)) as stream:
        write = write_bytes if stream is None else stream.write
        for number, text in enumerate(texts):
            headed = number == 0 and form in ("csv", "table")
            if form == "json":
                text = (b",\n" if size else b"[") + text.rstrip(b"\n").replace(b"\n", b",\n")
            write(text)
            size += 0 if headed else len(text)
        if form == "json":
            write(b"]\n" if size else b"[]\n")
    return size


def _warn_of_no_match(books: Sequence[KeyedRulebook], query: Query) -> None:
    """Say that no rule was found, and why where a site is not active."""
    reasons = (
        absence(keyed, where, end)
        for keyed in books
        for end, where in (("in", query.inputs), ("out", query.outputs))
        if where is not None
    )
    reason = next(filter(None, reasons), None)
    console.warn(f"nothing matches: {reason}" if reason else "nothing matches")


def _write_parquet(books: Sequence[KeyedRulebook], query: Query, dims: int, target: str | None) -> None:
    """Rules as Parquet, into a file or standard output."""
    if target == "-" and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("-o - writes parquet, which a terminal cannot show; pipe it on, or give a file")
    chunks = (rule_columns(chunk, dims) for chunk in rules(books, query))
    write_parquet(sys.stdout.buffer if target == "-" else str(target), rule_kinds(dims), chunks)
