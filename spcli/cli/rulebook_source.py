"""The rulebooks a command line names: those of a dump, or those built for a scan or tensor."""

from __future__ import annotations

from io import BytesIO

from spcli.cli.choices import DeviceChoices, NetworkChoices
from spcli.errors import UsageError
from spcli.inspect import KeyedRulebook, check_keys, load_dump
from spcli.readers import load
from spcli.readers.scan import RawScan


def read_rulebooks(
    source: str, keys: tuple[str, ...], network: NetworkChoices, where: DeviceChoices, *, check: bool = True
) -> tuple[KeyedRulebook, ...]:
    """The rulebooks of `keys`, all of them where that is empty.

    `check` False lets a dump through whose rules point outside its sites.

    Raises:
        InputError: the source cannot be used.
        UsageError: a scan is given without a configuration, or a key does not exist.
    """
    raw = load(source)
    found = dump_in(raw, keys, check)
    return _built(raw, keys, network, where) if found is None else found


def dump_in(raw: RawScan, keys: tuple[str, ...] = (), check: bool = True) -> tuple[KeyedRulebook, ...] | None:
    """The rulebooks of a dump; None where the bytes are something else."""
    return load_dump(BytesIO(raw.data), raw.source, keys, check=check)


def check_given(source: str, network: NetworkChoices) -> None:
    """A source that is no dump needs a network.

    Raises:
        UsageError: there is none.
    """
    if not network.given:
        raise UsageError(f"{source}: is no rulebook dump; give --config FILE to build the rulebooks of a scan")


def _built(
    raw: RawScan, keys: tuple[str, ...], network: NetworkChoices, where: DeviceChoices
) -> tuple[KeyedRulebook, ...]:
    """The rulebooks of a network for a scan."""
    check_given(raw.source, network)
    # Configurations and the pipeline take 40 ms to import, which reading a dump does without.
    from spcli.cli.inputs import engine_for, index_phase, read_configuration, read_scan
    from spcli.pipeline.explain import keyed_rulebooks

    config = read_configuration(network)
    check_keys(keys, [keyed.key for keyed in config.network().program.keys])
    scan = read_scan(raw, network, config)
    found = keyed_rulebooks(index_phase(config, scan, engine_for(where)), scan)
    return tuple(keyed for keyed in found if not keys or keyed.key in keys)
