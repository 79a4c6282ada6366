"""YAML text to plain data with the line of every key, and back; the only file that knows YAML.

Scalars are read by the rules of YAML 1.2: `1e-3` is a number (PyYAML's rules make it a string), `on` and `12:30` are
strings, `012` is 12. Duplicate keys are errors. The text is read event by event: PyYAML's composers recurse, and a
text of nothing but opening brackets ends the C one with a segmentation fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from msgspec import Struct

from spcli.errors import Problem

Path = tuple[str | int, ...]
"""Where a value stands: the keys and list positions that lead to it."""

MAX_DEPTH = 16
MAX_VALUES = 100_000

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]{0,30}")
_PREFIXED = re.compile(r"0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(Exception):
    """The text cannot be read at all; carries the one problem."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.problem = Problem(message, line=line)
        super().__init__(message)


class Document(Struct):
    """A text as plain data.

    Attributes:
        data: dicts, lists and scalars.
        lines: path to line, from 1; that of a mapping's value is its key's.
        problems: keys that stand twice.
    """

    data: Any
    lines: dict[Path, int]
    problems: list[Problem]


class _Node(Struct, frozen=True):
    """A value and its line; a dict's values are pairs of the key's line and a node."""

    value: Any
    line: int


class _Open(Struct):
    """A mapping or sequence whose end has not been read; `key` is the one that waits for its value."""

    node: _Node
    anchor: str | None
    key: tuple[str, int] | None = None
    merged: list[_Node] = []  # msgspec gives each its own


def parse(text: str) -> Document:
    """Read one YAML document.

    Raises:
        YamlError: the text is not YAML, holds tags, several documents or recursion, or is too deep or too large.
    """
    builder = _Builder()
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        if "cannot start any token" in reason:
            reason += " (a tab? indent with spaces)"
        raise YamlError(f"is not valid YAML: {reason}", mark.line + 1 if mark else None) from error
    except yaml.YAMLError as error:  # characters YAML does not allow
        raise YamlError(f"is not valid YAML: {str(error).splitlines()[0]}") from error
    lines: dict[Path, int] = {}
    data = _plain(builder.root, (), lines) if builder.root else None
    return Document(data, lines, builder.problems)


def parse_value(text: str) -> Any:
    """The value of one override, such as `[.05, .05, .1]`.

    Raises:
        YamlError: as `parse`.
    """
    document = parse(text)
    if document.problems:
        raise YamlError(document.problems[0].message)
    return document.data


def _events(text: str) -> Iterator[yaml.Event]:
    loader = _LOADER(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Builder:
    """Events to nodes, with a stack of its own."""

    def __init__(self) -> None:
        self.root: _Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, _Node] = {}
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """One event; those that carry no value are passed over."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._start(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor, line)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise YamlError("holds more than one YAML document; keep one", line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.node.value, dict) and top.key is None:
            top.key = (event.value, line)
            return
        _check_tag(event.tag, line)
        plain = event.implicit[0] if event.tag is None else event.tag != _TAG + "str"
        node = _Node(_scalar(event.value) if plain else event.value, line)
        self._anchor(event.anchor, node)
        self._add(node)

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        _check_tag(event.tag, line)
        if len(self._open) >= MAX_DEPTH:
            raise YamlError(f"is nested more than {MAX_DEPTH} levels deep", line)
        node = _Node({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        self._open.append(_Open(node, event.anchor))

    def _end(self) -> None:
        closed = self._open.pop()
        for merged in closed.merged:
            for key, pair in merged.value.items():
                closed.node.value.setdefault(key, pair)
        self._anchor(closed.anchor, closed.node)
        self._add(closed.node)

    def _alias(self, anchor: str | None, line: int) -> None:
        if anchor is None or anchor not in self._anchors:
            inside = any(level.anchor == anchor for level in self._open)
            reason = "stands inside what it names" if inside else "names no anchor before it"
            raise YamlError(f"the alias *{anchor} {reason}", line)
        self._add(self._anchors[anchor])

    def _anchor(self, anchor: str | None, node: _Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _add(self, node: _Node) -> None:
        if not self._open:
            self.root = node
            return
        top = self._open[-1]
        if isinstance(top.node.value, list):
            top.node.value.append(node)
            return
        if top.key is None:
            raise YamlError("has a key that is not a single word", node.line)
        (key, line), top.key = top.key, None
        if key == "<<":
            top.merged += _merged(node, line)
        elif key in top.node.value:
            first = top.node.value[key][0]
            self.problems.append(Problem(f"stands twice, first on line {first}; keep one", key, line))
        else:
            top.node.value[key] = (line, node)


def _merged(node: _Node, line: int) -> list[_Node]:
    """The mappings a merge key `<<` brings in."""
    nodes = node.value if isinstance(node.value, list) else [node]
    if not all(isinstance(part.value, dict) for part in nodes):
        raise YamlError("'<<' merges mappings; give it an alias of one", line)
    return nodes


def _check_tag(tag: str | None, line: int) -> None:
    if tag is not None and tag not in _TAGS:
        raise YamlError(f"the tag {tag!r} is not allowed; configurations hold plain data", line)


def _scalar(text: str) -> bool | int | float | str | None:
    """A plain scalar by the core schema of YAML 1.2; digits may be grouped as in 160_000."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text.rstrip("_"))
    if _FLOAT.fullmatch(text):
        return float(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _plain(node: _Node, path: Path, lines: dict[Path, int]) -> Any:
    """Nodes to data, aliases written out; `lines` gets the line of every path."""
    if len(path) > MAX_DEPTH:
        raise YamlError(f"is nested more than {MAX_DEPTH} levels deep", node.line)
    if len(lines) > MAX_VALUES:
        raise YamlError(f"holds more than {MAX_VALUES} values, aliases written out", node.line)
    lines.setdefault(path, node.line)
    if isinstance(node.value, list):
        return [_plain(child, (*path, i), lines) for i, child in enumerate(node.value)]
    if not isinstance(node.value, dict):
        return node.value
    data = {}
    for key, (line, child) in node.value.items():
        lines[(*path, key)] = line
        data[key] = _plain(child, (*path, key), lines)
    return data


_SAFE = re.compile(r"[A-Za-z_$][A-Za-z0-9_.$-]*")
_NOT_STRINGS = frozenset(("null", "true", "false", "yes", "no", "on", "off"))


def flow(value: Any) -> str:
    """`value` on one line, such as `{name: conv1, kernel_size: [3, 1, 1]}`; any YAML reader gets the same back."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    return _string(value) if isinstance(value, str) else str(value)


def _float(value: float) -> str:
    """Readers of YAML 1.1 take an exponent for a number only after a point; infinity and NaN begin with one."""
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        return text.replace("inf", ".inf").replace("nan", ".nan")
    mantissa, e, exponent = text.partition("e")
    return text if not e or "." in mantissa else f"{mantissa}.0e{exponent}"


def _string(text: str) -> str:
    if _SAFE.fullmatch(text) and text.lower() not in _NOT_STRINGS:
        return text
    import json

    return json.dumps(text, ensure_ascii=False)
