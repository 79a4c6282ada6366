"""`spcli explain`."""

from __future__ import annotations

from collections.abc import Sequence

import click
from msgspec import Struct

from spcli.cli.choices import (
    DeviceChoices,
    NetworkChoices,
    WeightChoices,
    device_options,
    network_options,
    weight_options,
)
from spcli.cli.console import console
from spcli.cli.inputs import engine_for, read_configuration, read_scan
from spcli.cli.option_sites import SiteCommand, SiteType
from spcli.cli.options import format_option, grouped, subcommand
from spcli.cli.rulebook_source import check_given, dump_in
from spcli.cli.views.explain import print_explanation
from spcli.cli.views.render import default_format
from spcli.config import Config
from spcli.errors import UsageError
from spcli.inspect import KeyedRulebook, Where, check_keys
from spcli.inspect.explain import Explanation, terms_into
from spcli.inspect.sites import only_row
from spcli.pipeline.explain import Explainer
from spcli.pipeline.parameters import Weights
from spcli.readers import load
from spcli.readers.scan import RawScan

EXAMPLES = """
spcli explain scan.bin --config second-kitti --layer conv1 0,20,799,358
spcli explain scan.bin --config second-kitti --weights net.safetensors @12.3,-4.5,0.2 --format table
spcli explain out/scan.rulebooks.npz --layer conv1 42
"""


class ExplainChoices(Struct, frozen=True):
    """The layer, by its name or by a key that no other layer has, and the output."""

    site: Where
    layer: str | None
    keys: tuple[str, ...]
    form: str | None


@subcommand("explain", EXAMPLES, SiteCommand)
@click.argument("source", metavar="SCAN|TENSOR|DUMP")
@grouped(
    "choices",
    ExplainChoices,
    click.argument("site", type=SiteType(), metavar="SITE"),
    click.option("--layer", metavar="NAME", help="The layer; of a scan the last one with rules by default."),
    click.option("--key", "keys", multiple=True, metavar="INDICE_KEY", help="The layer that has this rulebook."),
    format_option("table", "json", "ndjson", "csv"),
)
@weight_options
@network_options()
@device_options("cpu")
def command(
    source: str, choices: ExplainChoices, parameters: WeightChoices, network: NetworkChoices, where: DeviceChoices
) -> None:
    """Write out the sum behind one output.

    SITE is the output: ROW, [B,]Z,Y,X or @X,Y,Z in metres. For a scan or voxelized tensor (- for standard input) that
    goes through --config, every input that feeds the output is printed with its features and its contribution, then
    bias, norm, residual and activation, and the feature that spcli run writes. A dump holds no features, so its sum
    is written in symbols.
    """
    raw = load(source)
    dumped = dump_in(raw, choices.keys)
    if dumped is not None:
        explanation = _of_dump(dumped, choices, parameters)
    else:
        explanation = _of_scan(raw, choices, parameters, network, where)
    print_explanation(explanation, default_format(choices.form))


def _of_dump(books: Sequence[KeyedRulebook], choices: ExplainChoices, parameters: WeightChoices) -> Explanation:
    """The rules into an output row."""
    for name, value in (("weights", parameters.weights), ("seed", parameters.seed)):
        if value is not None:
            raise UsageError(f"--{name}: a dump holds no features; give the scan and --config FILE instead")
    layer = choices.layer
    fitting = [keyed for keyed in books if layer is None or layer in keyed.layers]
    if not fitting or (layer is None and len(fitting) > 1):
        known = ", ".join(name for keyed in books for name in keyed.layers)
        raise UsageError(f"say which layer with --layer; there are {known}")
    keyed = fitting[0]
    indices = keyed.rulebook.out_indices
    row = only_row(choices.site, keyed.out_placement, indices, keyed.key)
    site = tuple(indices[row].tolist())
    return Explanation(layer or ", ".join(keyed.layers), "", keyed.key, row, site, terms_into(keyed, row))


def _of_scan(
    raw: RawScan, choices: ExplainChoices, parameters: WeightChoices, network: NetworkChoices, where: DeviceChoices
) -> Explanation:
    """The terms, the steps and the feature of an output row."""
    check_given(raw.source, network)
    config = read_configuration(network)
    layer = choices.layer or _layer_of_key(config, choices.keys)
    weights = Weights(parameters.weights, parameters.seed or 0)
    if parameters.weights is None:
        console.warn(f"no --weights: parameters are {weights.describe()}")
    scan = read_scan(raw, network, config)
    explainer = Explainer(config, scan, layer, weights=weights, device=engine_for(where))
    return explainer.explain(explainer.row(choices.site))


def _layer_of_key(config: Config, keys: Sequence[str]) -> str | None:
    """The layer of `--key`, where it has one only."""
    if not keys:
        return None
    known = config.network().program.keys
    check_keys(keys, [keyed.key for keyed in known])
    layers = [name for keyed in known if keyed.key in keys for name in keyed.layers]
    if len(layers) > 1:
        others = ", ".join(layers[1:])
        raise UsageError(f"--key {' '.join(keys)} belongs to several layers; give --layer {layers[0]}, or {others}")
    return str(layers[0])
