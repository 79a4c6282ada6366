"""A run as one HTML file: its network, its active sites in 3-D with the rules of each, and its tables.

    result = spcli.run(config, "scan.bin", want=spcli.Want(rulebooks=True, values=False))
    spcli.write_report("scan.html", spcli.report_contents(result, "scan.bin"))
    spcli.write_report("scan.html", spcli.read_run("out/scan.rulebooks.npz"))

The file needs no network and forbids itself one. It stores sites only; the page makes the rules from them.
"""

from __future__ import annotations

from collections.abc import Sequence

from spcli.report.contents import ReportContents, report_contents
from spcli.report.folder import read_run
from spcli.report.page import report_page
from spcli.writers import Target
from spcli.writers.atomic import replacing

__all__ = ["MAX_SITES", "ReportContents", "read_run", "report_contents", "report_page", "write_report"]

MAX_SITES = 400_000
"""Sites of one level that a page shows by default: about 1 MB of it."""


def write_report(
    target: Target, contents: ReportContents, layers: Sequence[str] = (), max_sites: int = MAX_SITES
) -> None:
    """Write the report of a run.

    Args:
        target: a path, or a binary stream.
        contents: what to show, from `report_contents` or `read_run`.
        layers: the layers whose sites the page holds; all of them where empty. Tables always show every layer.
        max_sites: levels with more sites are in the tables only.

    Raises:
        UsageError: there is no layer of a name in `layers`, or the file cannot be written.
    """
    page = report_page(contents, layers, max_sites).encode()
    if isinstance(target, str):
        with replacing(target) as stream:
            stream.write(page)
    else:
        target.write(page)
