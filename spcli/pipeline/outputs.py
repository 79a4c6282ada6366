"""What a command is going to write, settled before it reads: paths, collisions, and space on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from math import prod

from msgspec import Struct

from spcli.errors import UsageError
from spcli.network import Network
from spcli.program import builds
from spcli.readers import ScanPath
from spcli.writers import SUFFIXES, Target

GIGABYTE = 10**9
POINT_BYTES = 16
VOXELS_PER_POINT = 0.5
RULES_PER_OUTPUT = 0.4
SITE_BYTES = 16
RULE_BYTES = 8
FLOAT_BYTES = 4


class Job(Struct, frozen=True):
    """One scan and where its results go, by kind; features of layer L that are written besides are `features.L`."""

    scan: ScanPath
    outputs: dict[str, Target] = {}


def plan_jobs(scans: Iterable[ScanPath], folder: str, kinds: Sequence[str], keep_tree: bool = False) -> list[Job]:
    """Jobs whose results lie in `folder`, below each scan's own folders with `keep_tree`.

    Raises:
        UsageError: two inputs would write the same file, or one would overwrite itself; names them.
    """
    jobs = []
    for scan in scans:
        below = os.path.join(folder, scan.relative_dir) if keep_tree else folder
        jobs.append(Job(scan, {kind: os.path.join(below, scan.stem + _suffix(kind)) for kind in kinds}))
    check_collisions(jobs)
    return jobs


def _suffix(kind: str) -> str:
    return SUFFIXES.get(kind) or f".{kind}.npz"


def check_collisions(jobs: Sequence[Job]) -> None:
    """Every output belongs to one input, and is no input.

    Raises:
        UsageError: otherwise; names both.
    """
    sources = {os.path.realpath(job.scan.source): job.scan.source for job in jobs}
    owners: dict[str, Job] = {}
    for job in jobs:
        for path in paths(job):
            owner = owners.setdefault(path, job)
            if owner is not job:
                both = f"{owner.scan.source} and {job.scan.source} would both write {path}"
                raise UsageError(f"{both}; run them into two folders, or keep their folders with --keep-tree")
            if os.path.realpath(path) in sources:
                raise UsageError(f"{path} is an input and would be overwritten; choose another -o")


def check_given(given: Sequence[str | None], jobs: Sequence[Job], folder: str | None) -> None:
    """The configuration and the weights that were given are not replaced by results.

    Args:
        given: files the command reads besides its scans; None stands for none.
        jobs: what will be written.
        folder: gets `config.yaml`; a configuration read from there is replaced by its resolved form.

    Raises:
        UsageError: a result would take the place of one of them.
    """
    written = {os.path.realpath(path) for job in jobs for path in paths(job)}
    if folder is not None:
        written.add(os.path.realpath(os.path.join(folder, "config.yaml")))
    for path in given:
        if path is not None and os.path.realpath(path) in written:
            raise UsageError(f"{path} is read and would be replaced by a result; choose another -o")


def paths(job: Job) -> list[str]:
    """The files of a job; a stream is none."""
    return [target for target in job.outputs.values() if isinstance(target, str)]


def check_existing(jobs: Sequence[Job]) -> None:
    """Nothing is overwritten by accident.

    Raises:
        UsageError: an output exists; names the first and counts the others.
    """
    existing = [path for job in jobs for path in paths(job) if os.path.isfile(path)]
    if existing:
        others = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]}{others} exists; pass --overwrite or --skip-existing, or choose another -o")


def estimated_bytes(job: Job, network: Network | None) -> int:
    """Roughly the bytes a job will write, its voxels where there is no network; 0 for standard input, whose size is
    not known.

    Half as many voxels as points and 0.4 of the kernel a rule per output are what dense real scans reach; sites are
    taken to thin out as strides grow.
    """
    try:
        voxels = VOXELS_PER_POINT * os.path.getsize(job.scan.source) / POINT_BYTES
    except OSError:
        return 0
    if network is None:
        return int(voxels * (SITE_BYTES + FLOAT_BYTES * (1 + 4)))
    spec = network.program.voxelize
    if spec is not None and spec.max_voxels is not None:
        voxels = min(voxels, spec.max_voxels)
    if network.shapes[0] is not None:
        voxels = min(voxels, prod(network.shapes[0]))
    sites = {slot: voxels * share for slot, share in _site_shares(network).items()}
    by_name = {layer.name: layer for layer in network.layers}
    total = 0.0
    for kind in job.outputs:
        if kind.partition(".")[0] != "features":
            continue
        layer = by_name[kind.partition(".")[2] or network.program.output]
        total += sites[layer.out_sites] * (SITE_BYTES + FLOAT_BYTES * layer.out_channels)
    if "rulebooks" in job.outputs:
        total += _rule_bytes(network, sites)
    return int(total)


def _rule_bytes(network: Network, sites: Mapping[int, float]) -> float:
    keyed = {entry.map for entry in network.program.keys}
    total = 0.0
    for op in builds(network.program).values():
        if op.map in keyed:
            rules = max(1.0, RULES_PER_OUTPUT * op.geometry.volume) * sites[op.outputs]
            total += RULE_BYTES * rules + SITE_BYTES * (sites[op.sites] + sites[op.outputs])
    return total


def _site_shares(network: Network) -> dict[int, float]:
    """Sites by slot, as a share of the input's: as many as there are up to 64 cells together, fewer beyond."""
    shares = {}
    for slot, stride in enumerate(network.strides()):
        cells = prod(stride, start=1.0)
        shares[slot] = min(1.0, 4 / cells**0.5) if cells > 0 else 1.0
    return shares


def check_space(bytes_needed: int, folder: str) -> None:
    """Refuse what the disk cannot hold.

    Raises:
        UsageError: names both amounts.
    """
    free = free_bytes(folder)
    if free is not None and bytes_needed > free:
        raise UsageError(
            f"{folder}: the results need about {bytes_needed / GIGABYTE:.1f} GB and {free / GIGABYTE:.1f} GB are "
            "free; write less (--write, --compress) or choose another -o"
        )


def free_bytes(folder: str) -> int | None:
    """Bytes that are free where `folder` is or will be; None where the system does not say."""
    place = os.path.abspath(folder)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    try:
        disk = os.statvfs(place)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
