"""`spcli inspect-rulebook`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from spcli.cli.console import console
from spcli.cli.options import Numbers, columns_option, device_options, format_option, set_option, subcommand
from spcli.errors import UsageError

if TYPE_CHECKING:
    from spcli.inspect import KeyedRulebook, Query

EXAMPLES = """
spcli inspect-rulebook out/scan.rulebooks.npz --summary
spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 --offset -1,0,0 --limit 10
spcli inspect-rulebook scan.bin --config second-kitti --key spconv2 --out 0,20,799,358
spcli inspect-rulebook out/scan.rulebooks.npz --format csv > rules.csv
spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 --hash-tables | head
"""
SITE = Numbers(int, (1, 2, 3, 4), "ROW or [B,]Z,Y,X")


@subcommand("inspect-rulebook", EXAMPLES)
@click.argument("source", metavar="DUMP|SCAN|TENSOR")
@click.option("--config", metavar="FILE", help="The network, for a scan or tensor: a file, or a preset's name.")
@click.option("--preset", metavar="NAME", help="A configuration that comes with spcli.")
@click.option("--key", "keys", multiple=True, metavar="INDICE_KEY", help="Only this rulebook; repeatable.")
@click.option("--offset", type=Numbers(int, (2, 3), "DZ,DY,DX"), help="Only this centred kernel offset.")
@click.option("--tap", type=click.IntRange(min=0), metavar="K", help="Only this kernel index, by number.")
@click.option("--in", "inputs", type=SITE, help="Only rules from this input site.")
@click.option("--out", "outputs", type=SITE, help="Only rules into this output site.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Print at most N lines.")
@click.option("--summary", is_flag=True, help="Print sizes and counts instead of rules.")
@click.option("--hash-tables", is_flag=True, help="Print site -> row of both ends instead of rules.")
@columns_option
@set_option
@device_options("cpu")
@format_option("table", "json", "ndjson", "csv")
def command(source: str, **options: Any) -> None:
    """List and count the rules of a network's convolutions.

    Reads a dump that spcli run wrote, or builds the rulebooks of a scan or voxelized tensor (- for standard input)
    with --config. A rule joins input row and output row through a kernel index (tap); `count` numbers the rules of a
    tap from 0, whatever is filtered out. Sites are batch, z, y, x.
    """
    from spcli.cli.render import default_format
    from spcli.inspect import Query

    if options["summary"] and options["hash_tables"]:
        raise UsageError("--summary and --hash-tables are both given; give one of them")
    query = Query(
        options["keys"], options["tap"], options["offset"], options["inputs"], options["outputs"], options["limit"]
    )
    rulebooks = _rulebooks(source, options)
    form = default_format(options["form"])
    if options["summary"]:
        _print_summary(rulebooks, query, form)
    else:
        _print_lines(rulebooks, query, form, options["hash_tables"])


def _rulebooks(source: str, options: dict[str, Any]) -> Sequence[KeyedRulebook]:
    """The rulebooks of a dump, or those built for a scan."""
    from io import BytesIO

    from spcli.inspect import check_keys, load_dump
    from spcli.readers import load

    raw = load(source)
    found = load_dump(BytesIO(raw.data), source, options["keys"])
    if found is not None:
        return found
    if options["config"] is None and options["preset"] is None:
        raise UsageError(f"{source}: is no rulebook dump; give --config FILE to build the rulebooks of a scan")
    from spcli.cli.inputs import read_configuration

    config = read_configuration(options["config"], options["preset"], options["sets"], options["columns"])
    check_keys(options["keys"], [keyed.key for keyed in config.network().program.keys])
    return _built(raw, config, options)


def _built(raw: Any, config: Any, options: dict[str, Any]) -> Sequence[KeyedRulebook]:
    from spcli.engines.base import Want
    from spcli.engines.device import choose_engine
    from spcli.inspect import KeyedRulebook
    from spcli.pipeline import run
    from spcli.readers import parse

    scan = parse(raw, options["columns"] or config.columns)
    engine = choose_engine(options["device"], console.warn, options["threads"])
    result = run(config, scan, want=Want(rulebooks=True, values=False), engine=engine)
    for warning in result.warnings:
        console.warn(f"{raw.source}: {warning}")
    return [KeyedRulebook(k.key, k.layers, result.rulebooks[k.key]) for k in result.network.program.keys]


def _print_summary(rulebooks: Sequence[KeyedRulebook], query: Query, form: str) -> None:
    from spcli.cli.render import print_rows, table
    from spcli.inspect import choose, rule_counts, summary

    rows = [
        summary(keyed.key, keyed.layers, keyed.rulebook.geometry, rule_counts(keyed.rulebook))
        for keyed in choose(rulebooks, query.keys)
    ]
    header = (
        "key",
        "layers",
        "in_sites",
        "out_sites",
        "pairs",
        "pairs/output",
        "out_spatial_shape",
        "kernel",
        "stride",
    )
    people = table(
        [
            (
                row["key"],
                ", ".join(row["layers"]),
                row["in_sites"],
                row["out_sites"],
                row["pairs"],
                row["pairs_per_output"]["mean"],
                row["out_spatial_shape"],
                row["kernel_size"],
                row["stride"],
            )
            for row in rows
        ],
        header,
    )
    print_rows(rows, form, people)


def _print_lines(rulebooks: Sequence[KeyedRulebook], query: Query, form: str, tables: bool) -> None:
    """Rules, or the entries of hash tables, as they are found."""
    from spcli.cli.render import write_bytes
    from spcli.cli.rule_lines import Style, entry_lines, rule_lines
    from spcli.inspect import hash_tables, rules

    dims = max((keyed.rulebook.in_indices.shape[1] - 1 for keyed in rulebooks), default=3)
    style = Style("ndjson" if form == "json" else form, dims)
    texts = entry_lines(hash_tables(rulebooks, query), style) if tables else rule_lines(rules(rulebooks, query), style)
    chunks = 0
    for chunks, text in enumerate(texts):
        if form == "json":
            text = ("[" if not chunks else ",\n" if chunks > 1 else "") + text.rstrip("\n").replace("\n", ",\n")
        write_bytes(text.encode())
    if form == "json":
        write_bytes(b"]\n")
    if not chunks:
        console.warn("nothing matches")
