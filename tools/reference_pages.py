"""The parts of the documentation that are made from the code, so that they cannot fall behind it.

mkdocs calls `on_page_markdown` for each page; a line such as `<!-- made from the code: options of run -->` becomes the
table it names. `PARTS` lists what there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

_PLACE = re.compile(r"^<!-- made from the code: (.+?) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page with its places filled; the hook that mkdocs calls."""
    return _PLACE.sub(lambda found: made(found.group(1)), markdown)


def made(what: str) -> str:
    """The Markdown that stands for `what`, such as `options of run`.

    Raises:
        KeyError: there is no such part.
    """
    name, _, argument = what.partition(" of ")
    return PARTS[name](*([argument] if argument else []))


def command_options(name: str) -> str:
    """A table of a command's arguments and options; of each of its subcommands, under a heading, where it has some."""
    from spcli.cli.group import group

    command = group.get_command(click.Context(group), name)
    assert command is not None, name
    if not isinstance(command, click.Group):
        return _options_of(command, f"spcli {name}")
    return "\n\n".join(
        f"### {name} {sub}\n\n{each.help}\n\n{_options_of(each, f'spcli {name} {sub}')}"
        for sub, each in command.commands.items()
    )


def _options_of(command: click.Command, title: str) -> str:
    context = click.Context(command, info_name=title)
    usage = " ".join([title, *command.collect_usage_pieces(context)])
    records = [option.get_help_record(context) for option in command.get_params(context)]
    rows = [(f"`{names}`", _cell(text)) for names, text in filter(None, records) if text]
    return f"```text\n{usage}\n```\n\n{_table(('option', 'does'), rows)}"


def command_table() -> str:
    """The commands and what each does, with links to their pages."""
    from spcli.cli.group import COMMANDS

    return _table(("command", "does"), [(f"[`spcli {name}`]({name}.md)", text) for name, (_, text) in COMMANDS.items()])


def layer_types() -> str:
    """Each layer type: what it does, and its keys with their defaults."""
    from spcli.config.schema import json_schema
    from spcli.layers import LAYERS

    definitions = json_schema()["$defs"]
    bases: dict[str, list[str]] = {}
    for name in LAYERS:
        bases.setdefault(re.sub(r"[23]d$", "", name), []).append(name)
    return "\n\n".join(_layer_types(names, definitions) for names in bases.values())


def _layer_types(names: Sequence[str], definitions: Mapping[str, Any]) -> str:
    """Types that differ in their number of axes only stand together."""
    texts = [f"`{name}`: {definitions[name]['description']}" for name in names]
    title = ", ".join(names)
    return f"### {title}\n\n" + "  \n".join(texts) + f"\n\n{_keys(definitions[names[-1]])}"


def section(name: str) -> str:
    """The keys of a section of a configuration (`Voxelize`, `Defaults`, `Feature`), or of a norm or activation."""
    from spcli.config.schema import json_schema

    return _keys(json_schema()["$defs"][name])


def _keys(schema: Mapping[str, Any]) -> str:
    keys = {key: value for key, value in schema["properties"].items() if key != "type"}
    if not keys:
        return "It has no keys."
    rows = [(f"`{key}`", _default(key, schema), _cell(_description(value))) for key, value in keys.items()]
    return _table(("key", "default", "takes"), rows)


def _description(value: Mapping[str, Any]) -> str:
    """Of a key; where it may also be null, that of its other form, with null added."""
    if "description" in value:
        return str(value["description"])
    (form,) = (each for each in value["anyOf"] if "description" in each)
    return f"{form['description']}, or null"


def _default(key: str, schema: Mapping[str, Any]) -> str:
    if key in schema["required"]:
        return "required"
    from spcli.config.yaml_text import flow

    return f"`{flow(schema['properties'][key]['default'])}`"


def presets() -> str:
    """The configurations that come with spcli, with the first line of each, which says what it is."""
    from spcli.config.load import load_preset
    from spcli.config.presets import preset_names, preset_path

    rows = []
    for name in preset_names():
        with open(preset_path(name), encoding="utf-8") as file:
            first = file.readline().removeprefix("#").strip()
        config = load_preset(name)
        assert config.voxelize is not None
        size = " x ".join(f"{side:g}" for side in config.voxelize.voxel_size)
        rows.append((f"`{name}`", _cell(first), size))
    return _table(("preset", "is", "voxels in metres (x, y, z)"), rows)


def exit_codes() -> str:
    """Each exit code with the class of error that ends a command with it."""
    from spcli.errors import SpcliError

    rows = [("0", "it worked; a pipe that its reader closed also counts as worked")]
    rows += [(str(SpcliError.exit_code), "unexpected: a fault of spcli; `-vv` shows the traceback, please report it")]
    for kind in sorted(SpcliError.__subclasses__(), key=lambda kind: kind.exit_code):
        text = re.sub(r"\s*\(exit \d+\)\.?$", "", (kind.__doc__ or "").strip().splitlines()[0])
        rows.append((str(kind.exit_code), _cell(text[0].lower() + text[1:])))
    return _table(("code", "means"), [*rows, ("130", "interrupted (Ctrl-C)")])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PARTS: dict[str, Callable[..., str]] = {
    "options": command_options,
    "commands": command_table,
    "layer types": layer_types,
    "section": section,
    "presets": presets,
    "exit codes": exit_codes,
}
