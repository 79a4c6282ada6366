"""A site on the command line: `ROW`, `[B,]Z,Y,X`, or metres `@X,Y,Z`."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spcli.inspect.sites import Where

    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # generic in newer versions only

SITE = "ROW, [B,]Z,Y,X or @X,Y,Z in metres"


class SiteType(_Type):
    """A row, a site, or a place."""

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
        from spcli.inspect.sites import Metres

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
