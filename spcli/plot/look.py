"""How a picture looks, apart from what it shows."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ThemeName = Literal["light", "dark"]


class Ground(Struct, frozen=True):
    """Where the columns of a grid lie, seen from above.

    Attributes:
        origin: metres x, y of the lower corner of site (0, 0).
        cell: metres a site spans in x and y.
    """

    origin: tuple[float, float]
    cell: tuple[float, float]


class Look(Struct, frozen=True):
    """What every picture can be told.

    Attributes:
        theme: for light paper or a dark screen.
        source: what was measured, such as a scan's name, for the title.
    """

    theme: ThemeName = "light"
    source: str = ""
