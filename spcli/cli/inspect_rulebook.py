"""`spcli inspect-rulebook`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from spcli.cli.console import console
from spcli.cli.options import (
    Numbers,
    check_absent,
    columns_option,
    device_options,
    format_option,
    set_option,
    subcommand,
)
from spcli.cli.plotting import check_plot, plot_options
from spcli.cli.site_option import SITE, SiteType
from spcli.errors import UsageError

if TYPE_CHECKING:
    from spcli.inspect import KeyedRulebook, Query, RuleChunk

EXAMPLES = """
spcli inspect-rulebook out/scan.rulebooks.npz --summary
spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 --offset -1,0,0 --limit 10
spcli inspect-rulebook scan.bin --config second-kitti --key spconv2 --out @12.3,-4.5,0.2
spcli inspect-rulebook scan.bin --config second-kitti --layer conv1 --explain 0,20,799,358
spcli inspect-rulebook out/scan.rulebooks.npz --verify
spcli inspect-rulebook diff a/scan.rulebooks.npz b/scan.rulebooks.npz
spcli inspect-rulebook out/scan.rulebooks.npz --format parquet -o rules.parquet
spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 --hash-tables | head
"""
FILES = ("csv", "json", "ndjson", "jsonl", "parquet")
MODES = ("summary", "hash_tables", "verify", "explain", "plot")
FILTERS = {"tap": "tap", "offset": "offset", "in": "inputs", "out": "outputs", "limit": "limit"}
"""What chooses rules: the option, and the name of its value."""


@subcommand("inspect-rulebook", EXAMPLES)
@click.argument("sources", nargs=-1, required=True, metavar="DUMP|SCAN|TENSOR | diff A B")
@click.option("--config", metavar="FILE", help="The network, for a scan or tensor: a file, or a preset's name.")
@click.option("--preset", metavar="NAME", help="A configuration that comes with spcli.")
@click.option("--key", "keys", multiple=True, metavar="INDICE_KEY", help="Only this rulebook; repeatable.")
@click.option("--offset", type=Numbers(int, (2, 3), "DZ,DY,DX"), help="Only this centred kernel offset.")
@click.option("--tap", type=click.IntRange(min=0), metavar="K", help="Only this kernel index, by number.")
@click.option("--in", "inputs", type=SiteType(), help=f"Only rules from this input site: {SITE}.")
@click.option("--out", "outputs", type=SiteType(), help="Only rules into this output site.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Print at most N lines.")
@click.option("--summary", is_flag=True, help="Print sizes and counts instead of rules.")
@click.option("--hash-tables", is_flag=True, help="Print site -> row of both ends, and the rules as papers draw them.")
@click.option("--verify", is_flag=True, help="Check every invariant; exit 7 where one is broken.")
@click.option("--explain", type=SiteType(), help="Write out the sum that makes this output site.")
@click.option("--layer", metavar="NAME", help="Of --explain: the layer; of a scan the last one with rules by default.")
@click.option("--weights", metavar="FILE", help="Of --explain: .npz or .safetensors; drawn from --seed without.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of --explain: 0 by default.")
@click.option("-o", "--output", metavar="FILE", help="Write rules there: .csv, .json, .ndjson or .parquet.")
@plot_options("kernel", "offsets", "neighbours", "neighbours-mean", "histogram")
@columns_option
@set_option
@device_options("cpu")
@format_option("table", "json", "ndjson", "csv", "parquet")
def command(sources: Sequence[str], **options: Any) -> int:
    """List, check and explain the rules of convolutions.

    Reads a dump that spcli run wrote, or builds the rulebooks of a scan or voxelized tensor (- for standard input)
    with --config. A rule joins input row and output row through a kernel index (tap); `count` numbers the rules of a
    tap from 0, whatever is filtered out. Sites are batch, z, y, x; rows are numbered in that order, where drawings in
    the literature number them as they are first seen. `diff A B` lists what only one of two has; 7 is the exit code
    when they differ.
    """
    _check(options)
    if sources[0] == "diff" and len(sources) == 3:
        return _diff(sources[1], sources[2], options)
    if len(sources) > 1:
        raise UsageError(f"{len(sources)} sources are given; give one, or diff and two")
    return _answer(sources[0], options)


def _check(options: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other."""
    given = [f"--{mode.replace('_', '-')}" for mode in MODES if options[mode] not in (None, False)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are {'both' if len(given) == 2 else 'all'} given; give one of them")
    check_plot(options)
    check_absent(options["output"], options["overwrite"])
    if given and given != ["--hash-tables"]:
        _refuse_filters(given[0], options, "out" if options["plot"] else "")
    for name in ("layer", "weights", "seed"):
        if options[name] is not None and options["explain"] is None:
            raise UsageError(f"--{name} belongs to --explain; give that too, or leave it out")
    if options["weights"] is not None and options["seed"] is not None:
        raise UsageError("--weights and --seed are both given; give one of them")
    if given and (_form_of_file(options["output"]) == "parquet" or options["form"] == "parquet"):
        raise UsageError(f"{given[0]}: Parquet is for rules; leave --format parquet out")
    if options["output"] and given not in ([], ["--hash-tables"]):
        raise UsageError(f"{given[0]} prints; -o is for rules and hash tables")


def _refuse_filters(mode: str, options: Mapping[str, Any], allowed: str) -> None:
    """Refuse filters of rules, but for `allowed`, beside what is about a whole rulebook."""
    for name, value in FILTERS.items():
        if options[value] is not None and name != allowed:
            raise UsageError(f"--{name} chooses rules, and {mode} does not list them; leave one of them out")


def _answer(source: str, options: dict[str, Any]) -> int:
    """One question to one source."""
    from spcli.cli.rulebook_source import read_rulebooks
    from spcli.cli.views.render import default_format
    from spcli.inspect import Query

    form = default_format(options["form"])
    if options["explain"] is not None:
        from spcli.cli.explain_view import explain_source

        return explain_source(source, options, form)
    if options["verify"]:
        from spcli.cli.rulebook_checks import verify_source

        return verify_source(source, options, form)
    query = Query(
        options["keys"], options["tap"], options["offset"], options["inputs"], options["outputs"], options["limit"]
    )
    rulebooks = read_rulebooks(source, options)
    if options["plot"]:
        from spcli.cli.plotting import draw_rulebook

        draw_rulebook(rulebooks, options, source)
    elif options["summary"]:
        _print_summary(rulebooks, query, form)
    else:
        _print_lines(rulebooks, query, options)
    return 0


def _diff(a: str, b: str, options: dict[str, Any]) -> int:
    if a == b == "-":
        raise UsageError("standard input (-) is named twice and can be read once")
    if any(options[mode] not in (None, False) for mode in MODES) or options["output"]:
        raise UsageError("diff prints what differs; leave --summary, --verify and the like, and -o, out")
    _refuse_filters("diff", options, "limit")
    from spcli.cli.rulebook_checks import diff_sources
    from spcli.cli.views.render import default_format

    return diff_sources(a, b, options, default_format(options["form"]))


def _print_summary(rulebooks: Sequence[KeyedRulebook], query: Query, form: str) -> None:
    from spcli.cli.views.render import print_rows, table
    from spcli.inspect import choose, rulebook_summary

    rows = [rulebook_summary(keyed) for keyed in choose(rulebooks, query.keys)]
    header = (
        "key", "layers", "in_sites", "out_sites", "pairs", "pairs/output", "most", "no_neighbour", "symmetric",
        "out_spatial_shape", "kernel", "stride",
    )  # fmt: skip
    cells = [
        (
            row["key"],
            ", ".join(row["layers"]),
            row["in_sites"],
            row["out_sites"],
            row["pairs"],
            row["pairs_per_output"]["mean"],
            row["pairs_per_output"]["max"],
            row["sites_without_neighbour"],
            row["symmetric"],
            row["out_spatial_shape"],
            row["kernel_size"],
            row["stride"],
        )
        for row in rows
    ]
    print_rows(rows, form, "\n\n".join([table(cells, header), *map(_histogram, rows)]))


def _histogram(row: Mapping[str, Any]) -> str:
    """Rules an output and rules an offset, drawn with bars."""
    counts = row["pairs_per_output"]["histogram"]
    most = max(counts, default=0)
    lines = [f"{row['key']}: rules an output"]
    lines += [f"{rules:4} {count:>10,}  {'#' * -(-40 * count // most)}" for rules, count in enumerate(counts) if count]
    texts = [f"{','.join(map(str, at))}: {n:,}" for at, n in zip(row["offsets"], row["pairs_per_offset"], strict=True)]
    width = max(map(len, texts), default=0)
    side = row["kernel_size"][-1]
    grid = ["  ".join(text.rjust(width) for text in texts[at : at + side]) for at in range(0, len(texts), side)]
    return "\n".join([*lines, f"{row['key']}: rules an offset", *grid])


def _print_lines(rulebooks: Sequence[KeyedRulebook], query: Query, options: Mapping[str, Any]) -> None:
    """Rules, or hash tables, as they are found."""
    from spcli.inspect import hash_tables, rules

    form = _form(options)
    if form == "parquet":
        _write_parquet(rulebooks, rules(rulebooks, query), options["output"])
        return
    from spcli.cli.views.rules import Style, hash_table_lines, rule_lines

    dims = max((keyed.rulebook.in_indices.shape[1] - 1 for keyed in rulebooks), default=3)
    style = Style("ndjson" if form == "json" else form, dims)
    texts = (
        hash_table_lines(hash_tables(rulebooks, query), style)
        if options["hash_tables"]
        else rule_lines(rules(rulebooks, query), style)
    )
    if not _emit(texts, form, options["output"]) and query.limit != 0:
        _say_nothing_matches(rulebooks, query)


def _form(options: Mapping[str, Any]) -> str:
    """What to print: what `--format` says, else what the suffix of `-o` says, else the default."""
    from spcli.cli.views.render import default_format

    target = options["output"]
    if options["form"] is None and target not in (None, "-"):
        form = _form_of_file(target)
        if form is None:
            raise UsageError(f"-o {target}: give --format, or a name that ends in .csv, .json, .ndjson or .parquet")
        return form
    form = default_format(options["form"])
    if form == "parquet" and target is None:
        raise UsageError("--format parquet needs -o FILE (- for standard output)")
    return form


def _form_of_file(target: str | None) -> str | None:
    """The format that a suffix stands for."""
    suffix = (target or "").lower().rpartition(".")[2]
    return {"jsonl": "ndjson"}.get(suffix, suffix) if suffix in FILES else None


def _emit(texts: Iterator[bytes], form: str, target: str | None) -> int:
    """Write text as it comes; gives the number of bytes after the header."""
    from contextlib import nullcontext

    from spcli.cli.views.render import write_bytes
    from spcli.writers.atomic import replacing

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


def _say_nothing_matches(rulebooks: Sequence[KeyedRulebook], query: Query) -> None:
    from spcli.inspect import absence, choose

    reasons = [
        absence(keyed, where, end)
        for keyed in choose(rulebooks, query.keys)
        for end, where in (("in", query.inputs), ("out", query.outputs))
        if where is not None
    ]
    told = next(filter(None, reasons), None)
    console.warn(f"nothing matches: {told}" if told else "nothing matches")


def _write_parquet(rulebooks: Sequence[KeyedRulebook], chunks: Iterator[RuleChunk], target: str) -> None:
    import sys

    from spcli.inspect import rule_columns, rule_kinds
    from spcli.writers.parquet import write_parquet

    dims = max((keyed.rulebook.in_indices.shape[1] - 1 for keyed in rulebooks), default=3)
    if target == "-" and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError("-o - writes parquet, which a terminal cannot show; pipe it on, or give a file")
    stream = sys.stdout.buffer if target == "-" else target
    write_parquet(stream, rule_kinds(dims), (rule_columns(chunk, dims) for chunk in chunks))
