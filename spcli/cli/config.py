"""`spcli config init | show | validate | schema`."""

from __future__ import annotations

import click

from spcli.cli.choices import NetworkChoices, set_option
from spcli.cli.inputs import read_configuration
from spcli.cli.options import CONTEXT, format_option, subcommand, verbosity_options
from spcli.cli.views.network import NETWORK_SCHEMA, network_object, network_text
from spcli.cli.views.render import Record, default_format, json_line, json_text, write_bytes, write_line
from spcli.config import Config, json_schema, preset_path

INIT = """
spcli config init > net.yaml
spcli config init --preset second-kitti > net.yaml
"""
SHOW = """
spcli config show second-kitti --set voxelize.max_voxels=null
spcli config show net.yaml
"""
VALIDATE = """
spcli config validate net.yaml
spcli config validate net.yaml --set layers.conv1.out_channels=32 --format json
"""
SCHEMA = """
spcli config schema > spcli.schema.json
"""


@click.group(
    "config",
    context_settings=CONTEXT,
    epilog="\b\nExamples:\n  spcli config init > net.yaml\n  spcli config validate net.yaml",
)
@verbosity_options
def command() -> None:
    """Start, show and check configurations."""


@subcommand("init", INIT)
@click.option("--preset", default="quickstart", show_default=True, metavar="NAME", help="The one to start from.")
def init(preset: str) -> None:
    """Print a shipped configuration, with its comments, to start from."""
    with open(preset_path(preset), "rb") as file:
        write_bytes(file.read())


@subcommand("show", SHOW)
@click.argument("config", metavar="FILE|PRESET")
@set_option
def show(config: str, sets: tuple[str, ...]) -> None:
    """Print a configuration with everything resolved: overrides, repeats and every default."""
    write_bytes(_loaded(config, sets).resolved.encode())


@subcommand("validate", VALIDATE)
@click.argument("config", metavar="FILE|PRESET")
@set_option
@format_option("table", "json", "ndjson")
def validate(config: str, sets: tuple[str, ...], form: str | None) -> None:
    """Check a configuration and print its layers and shapes; all problems are reported at once."""
    loaded = _loaded(config, sets)
    form = default_format(form)
    if not loaded.layers:
        found: Record = {"schema": NETWORK_SCHEMA, "name": loaded.name, "layers": []}
        text = f"{loaded.name}: no layers, only a voxelize section"
    else:
        found = network_object(loaded, loaded.network())
        text = network_text(found)
    write_line(text if form == "table" else json_text(found) if form == "json" else json_line(found))


@subcommand("schema", SCHEMA)
def schema() -> None:
    """Print the JSON Schema of configurations, for editors."""
    write_line(json_text(json_schema()))


def _loaded(config: str, sets: tuple[str, ...]) -> Config:
    return read_configuration(NetworkChoices(config, sets=sets))


for subcommand_ in (init, show, validate, schema):
    command.add_command(subcommand_)
