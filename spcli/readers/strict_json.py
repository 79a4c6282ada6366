"""JSON from files of unknown origin, so that what was read can also be printed again."""

from __future__ import annotations

from typing import Any

_DEEPEST = 64


def parse_json(text: str | bytes | bytearray) -> Any:
    """The value in `text`, without what JSON has no place for or what could not be written again.

    Raises:
        ValueError: it is no JSON, holds NaN, infinities, numbers beyond float64 or int64 or lone surrogates, or nests
            too deeply.
    """
    import json

    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_int64)
        _check_depth(value, _DEEPEST)
    except RecursionError:
        raise ValueError("nests too deeply") from None
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"holds {constant}")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"holds {digits[:20]}")
    return number


def _int64(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"holds {digits[:20]}")
    return number


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise ValueError("nests too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)
