"""The group of commands. A new command is one module with a `command` and one line in `COMMANDS`."""

from __future__ import annotations

from importlib import import_module

import click

from spcli import __version__
from spcli.cli.options import CONTEXT, verbosity_options

COMMANDS = {
    "voxelize": ("spcli.cli.voxelize", "Turn scans into voxels: sparse tensors on a grid."),
    "run": ("spcli.cli.run", "Run a sparse-convolution network over scans."),
    "inspect-rulebook": ("spcli.cli.inspect_rulebook", "List the rules of convolutions."),
    "verify": ("spcli.cli.verify", "Check every invariant of rulebooks."),
    "explain": ("spcli.cli.explain", "Write out the sum behind one output."),
    "diff": ("spcli.cli.diff", "List what only one of two sets of rulebooks has."),
    "stats": ("spcli.cli.stats", "Show sparsity and cost, layer by layer."),
    "report": ("spcli.cli.report", "Write an HTML report: layers, sites in 3-D, rules."),
    "export": ("spcli.cli.export", "Write active sites as a coloured point cloud."),
    "info": ("spcli.cli.info", "Say what a file holds."),
    "config": ("spcli.cli.config", "Start, show and check configurations."),
    "sample": ("spcli.cli.sample", "Write a synthetic street scan."),
    "doctor": ("spcli.cli.doctor", "Check the installation."),
}

EXAMPLES = """\b
Examples:
  spcli sample -o scan.bin
  spcli info scan.bin
  spcli voxelize scan.bin --preset second-kitti -o out
  spcli run --config second-kitti scan.bin -o out
  spcli inspect-rulebook out/scan.rulebooks.npz --key subm1 | head
  spcli verify out/scan.rulebooks.npz
  cat scan.bin | spcli voxelize - --preset second-kitti -o - | spcli run --config second-kitti - -o out

\b
Exit codes: 0 ok, 1 unexpected, 2 usage, 3 device or environment missing, 4 bad input data,
5 bad configuration, 6 checkpoint does not fit, 7 a check failed, 130 interrupted."""


class LazyGroup(click.Group):
    """Imports the module of a command when that command is used, and none to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of their table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a misspelt command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from its own short texts."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, name="spcli", context_settings=CONTEXT, epilog=EXAMPLES)
@click.version_option(__version__, prog_name="spcli", message="%(prog)s %(version)s")
@verbosity_options
def group() -> None:
    """Sparse convolution on LiDAR point clouds, from the shell.

    Scans become voxels, voxels become rulebooks and features; each step can be written, inspected and piped on.
    Standard output carries data only: one JSON object per scan and line, or a table on a terminal.
    """
