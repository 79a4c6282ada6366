"""A run as one HTML file: its network, its active sites in 3-D with the rules of each, and its tables.

    result = spcli.run(config, "scan.bin", want=spcli.Want(rulebooks=True, values=False))
    spcli.write_report("scan.html", spcli.report_subject(result, "scan.bin"))
    spcli.write_report("scan.html", spcli.read_run("out/scan.rulebooks.npz"))

The file needs no network and forbids itself one. It stores sites only; the page makes the rules from them.
"""

from __future__ import annotations

from collections.abc import Sequence

from spcli.report.contents import InputGrid, Subject, report_subject
from spcli.report.folder import read_run
from spcli.report.page import report_page
from spcli.writers import Target

__all__ = ["MAX_SITES", "InputGrid", "Subject", "read_run", "report_page", "report_subject", "write_report"]

MAX_SITES = 400_000
"""Sites of one level that a page shows unless told otherwise: about 1 MB of it."""


def write_report(target: Target, subject: Subject, layers: Sequence[str] = (), max_sites: int = MAX_SITES) -> None:
    """Write the report of a run.

    Args:
        target: a path, or a binary stream.
        subject: what to show, from `report_subject` or `read_run`.
        layers: the layers whose sites the page holds; all of them where empty. Tables always show every layer.
        max_sites: levels with more sites are in the tables only.

    Raises:
        UsageError: there is no layer of a name in `layers`, or the place cannot be written to.
    """
    from spcli.writers.atomic import replacing

    page = report_page(subject, layers, max_sites).encode()
    if isinstance(target, str):
        with replacing(target) as stream:
            stream.write(page)
    else:
        target.write(page)
