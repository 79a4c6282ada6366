"""What can be wrong with a layer's names and its `indice_key`, as complaints: the key, and a sentence."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence

from msgspec import Struct

from spcli.geometry import ConvGeometry
from spcli.layers.base import Layer
from spcli.program import Shape

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class SitesEntry(Struct):
    """A sites slot while the network is built; `ndim` is learnt from the first layer that needs it."""

    ndim: int | None
    shape: Shape | None
    maker: str
    known: bool = True


class KeyEntry(Struct):
    """A rulebook's key while the network is built; `named` False is a layer without an `indice_key`."""

    layer: str
    named: bool
    sites: int
    geometry: ConvGeometry | None
    map: int
    outputs: int
    layers: list[str] = []


Complaint = tuple[str, str]
"""The key of a layer that something is wrong with, and what is wrong."""


def wrong_names(layer: Layer, outputs: Container[str]) -> Iterator[Complaint]:
    """Names must be unique, and usable in file names."""
    if layer.name in outputs:
        yield "name", f"{layer.name!r} is the name of an earlier layer too; names must be unique"
    for key in ("name", "indice_key"):
        text = getattr(layer, key, None)
        if text is not None and not _NAME.fullmatch(text):
            yield key, f"is {text!r}, but may hold only letters, digits, '_', '.' and '-'"


def wrongly_shared(key: str, first: KeyEntry, entry: KeyEntry, sites: Sequence[SitesEntry]) -> Iterator[Complaint]:
    """Two layers with one key must mean one rulebook."""
    if first.geometry is None or entry.geometry is None or first.layer == entry.layer:
        return
    if not (first.named and entry.named):
        unnamed = entry.layer if first.named else first.layer
        where = "indice_key" if entry.named else "name"
        message = f"{key!r} would be the key of two rulebooks: that of {unnamed!r}, which has no indice_key, is"
        yield where, f"{message} stored under its name; give it an indice_key or another name"
        return
    for name, here, there in _differences(entry.geometry, first.geometry):
        yield "indice_key", f"{key!r} is shared with {first.layer!r}, but {name} is {here} here and {there} there"
    known = sites[first.sites].known and sites[entry.sites].known
    if first.sites != entry.sites and known:
        here, there = sites[entry.sites].maker, sites[first.sites].maker
        message = f"{key!r} is shared with {first.layer!r}, but that starts from the sites of {there}"
        yield "indice_key", f"{message} and this layer from those of {here}; give it a key of its own"


def wrong_inverse(key: str, kernel_size: Shape, forward: KeyEntry, geometry: ConvGeometry) -> Complaint | None:
    """An inverse layer must have the kernel of a forward one that does not keep its sites."""
    if geometry.submanifold and geometry.volume > 1:
        message = f"{key!r} is the key of the submanifold layer {forward.layer!r}, which keeps its sites"
        return "indice_key", f"{message}; an inverse convolution undoes a regular one or a pooling"
    if kernel_size != geometry.kernel_size:
        there = list(geometry.kernel_size)
        message = f"is {list(kernel_size)}, but {forward.layer!r}, which has the key {key!r}, has {there}"
        return "kernel_size", message
    return None


def _differences(here: ConvGeometry, there: ConvGeometry) -> list[tuple[str, object, object]]:
    """The fields in which two geometries differ, kinds first; other sizes do not matter where the kinds differ.

    A submanifold padding follows from the other sizes, and so does that of most other layers: it is named where
    nothing else explains it.
    """
    if _kind(here) != _kind(there):
        return [("the type", _kind(here), _kind(there))]
    names = ["kernel_size", "stride", "dilation", "output_padding"]
    if not here.submanifold and (here.kernel_size, here.dilation) == (there.kernel_size, there.dilation):
        names.insert(2, "padding")
    pairs = ((name, getattr(here, name), getattr(there, name)) for name in names)
    return [(name, list(one), list(other)) for name, one, other in pairs if one != other]


def _kind(geometry: ConvGeometry) -> str:
    if geometry.keeps_sites:
        return "submanifold"
    return "transposed" if geometry.transposed else "regular"
