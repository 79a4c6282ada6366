"""`spcli diff`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import click
from msgspec import Struct

from spcli.cli.choices import DeviceChoices, NetworkChoices, device_options, network_options
from spcli.cli.options import format_option, grouped, subcommand
from spcli.cli.rulebook_source import read_rulebooks
from spcli.cli.views.differences import counts_text, difference_texts
from spcli.cli.views.render import default_format, write_bytes
from spcli.errors import CheckFailed, UsageError
from spcli.inspect.diff import Difference, diff_rulebooks
from spcli.rulebook import Rulebook

EXAMPLES = """
spcli diff a/scan.rulebooks.npz b/scan.rulebooks.npz
spcli diff out/scan.rulebooks.npz scan.bin --config second-kitti --key subm1 --limit 10
"""


class DiffChoices(Struct, frozen=True):
    """Which rulebooks to compare, and how many differences to print."""

    keys: tuple[str, ...]
    limit: int | None
    form: str | None


@subcommand("diff", EXAMPLES)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@grouped(
    "choices",
    DiffChoices,
    click.option("--key", "keys", multiple=True, metavar="INDICE_KEY", help="Only this rulebook; repeatable."),
    click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Print at most N differences."),
    format_option("table", "json", "ndjson", "csv"),
)
@network_options()
@device_options("cpu")
def command(a: str, b: str, choices: DiffChoices, network: NetworkChoices, where: DeviceChoices) -> None:
    """List what only one of two sets of rulebooks has.

    A and B are dumps that spcli run wrote, or scans or voxelized tensors (- for standard input) that go through
    --config. They are compared by keys, sizes, sites and rules, whatever the numbers of their rows. As with diff,
    nothing is printed where they agree; the exit code is 7 where they differ. In a table, < is only in A, > only in
    B, and ! differs.
    """
    if a == b == "-":
        raise UsageError("standard input (-) is named twice and can be read once")
    ours, theirs = (_by_key(source, choices.keys, network, where) for source in (a, b))
    counts: Counter[str] = Counter()
    differences = _counted(diff_rulebooks(ours, theirs), counts)
    for text in difference_texts(islice(differences, choices.limit), default_format(choices.form)):
        write_bytes(text.encode())
    for _ in differences:  # beyond the limit: for their number
        pass
    if counts:
        raise CheckFailed(f"{a} and {b} differ: {counts_text(counts)}")


def _by_key(source: str, keys: tuple[str, ...], network: NetworkChoices, where: DeviceChoices) -> dict[str, Rulebook]:
    return {keyed.key: keyed.rulebook for keyed in read_rulebooks(source, keys, network, where)}


def _counted(differences: Iterable[Difference], counts: Counter[str]) -> Iterator[Difference]:
    for difference in differences:
        counts[difference.what] += 1
        yield difference
