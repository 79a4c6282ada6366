"""Sites on the command line: `ROW`, `[B,]Z,Y,X`, or metres `@X,Y,Z`."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

import click

from spcli.cli.option_types import ParamType
from spcli.inspect import Metres, Where

SITE = "ROW, [B,]Z,Y,X or @X,Y,Z in metres"


class SiteType(ParamType):
    """A row, a site, or a place in metres."""

    name = "site"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What may stand there."""
        return "SITE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Where:
        """The numbers as a tuple, or a place."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        return self._metres(value, param, ctx) if value.startswith("@") else self._site(value, param, ctx)

    def _metres(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Where:
        try:
            x, y, z = (float(part) for part in value[1:].split(","))
        except ValueError:
            self.fail(f"{value!r} is not @X,Y,Z, three numbers in metres.", param, ctx)
        if not all(map(isfinite, (x, y, z))):
            self.fail(f"{value!r} is no place: every number must be finite.", param, ctx)
        return Metres(x, y, z)

    def _site(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Where:
        try:
            numbers = tuple(int(part) for part in value.strip("[]()").split(","))
        except ValueError:
            numbers = ()
        if not 1 <= len(numbers) <= 4:
            self.fail(f"{value!r} is not {SITE}.", param, ctx)
        return numbers


class SiteCommand(click.Command):
    """A command that takes a site such as `-1,0,0` for a value, and not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, after such a site is put in parentheses."""
        shielded = [f"({arg})" if re.fullmatch(r"-\d+(,-?\d+)+", arg) else arg for arg in args]
        return super().parse_args(ctx, shielded)
