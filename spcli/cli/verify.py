"""`spcli verify`."""

from __future__ import annotations

import click

from spcli.cli.choices import DeviceChoices, NetworkChoices, device_options, network_options
from spcli.cli.inputs import engine_for
from spcli.cli.options import format_option, subcommand
from spcli.cli.rulebook_source import read_rulebooks
from spcli.cli.views.checks import checks_record, checks_table, failures_text
from spcli.cli.views.render import default_format, print_rows
from spcli.errors import CheckFailed
from spcli.inspect.verify import verify_inverse, verify_rulebook

EXAMPLES = """
spcli verify out/scan.rulebooks.npz
spcli verify scan.bin --config second-kitti --format table
spcli verify out/scan.rulebooks.npz --key subm1 --key spconv2
"""


@subcommand("verify", EXAMPLES)
@click.argument("source", metavar="DUMP|SCAN|TENSOR")
@click.option("--key", "keys", multiple=True, metavar="INDICE_KEY", help="Only this rulebook; repeatable.")
@network_options()
@device_options("cpu")
@format_option("table", "json", "ndjson", "csv")
def command(
    source: str, keys: tuple[str, ...], network: NetworkChoices, where: DeviceChoices, form: str | None
) -> None:
    """Check every invariant of rulebooks.

    Reads a dump that spcli run wrote, or builds the rulebooks of a scan or voxelized tensor (- for standard input)
    with --config. The rules are checked against the pair equation and the sites themselves: every rule satisfies it,
    none is missing and none stands twice. The exit code is 7 where an invariant is broken, and the error names the
    first rule or site that breaks it.
    """
    found = []
    engine = engine_for(where)
    for keyed in read_rulebooks(source, keys, network, where, check=False):
        checks = verify_rulebook(keyed.rulebook, keyed.key)
        if all(check.ok is not False for check in checks) and not keyed.rulebook.geometry.submanifold:
            checks = (*checks, verify_inverse(keyed.rulebook, engine, keyed.key))
        found.append((keyed, checks))
    records = [checks_record(keyed, checks) for keyed, checks in found]
    print_rows(records, default_format(form), checks_table(records))
    failed = [check for _, checks in found for check in checks if check.ok is False]
    if failed:
        raise CheckFailed(f"{source}: {failures_text(failed)}; write the dump again")
