"""Columns as a Parquet file, through pyarrow (extra `[parquet]`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from spcli.errors import DeviceError
from spcli.writers.atomic import replacing
from spcli.writers.npz import Target

GROUP_ROWS = 1 << 18


def write_parquet(target: Target, kinds: Mapping[str, type], parts: Iterable[Mapping[str, Any]]) -> None:
    """Write one table, part by part.

    Args:
        target: a path, which is written whole or not at all, or a stream.
        kinds: the columns in order: `int` is an int32, `str` a word that few rows differ in.
        parts: by column an array, or one value for all rows (None where there is none); at least one is an array.

    Raises:
        DeviceError: pyarrow is not installed.
        UsageError: the place cannot be written to.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DeviceError("pyarrow is not installed, and Parquet needs it; run pip install 'spcli[parquet]'") from None
    types = {int: pyarrow.int32(), str: pyarrow.string()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    batches = (pyarrow.table([_column(part, name, schema) for name in kinds], schema=schema) for part in parts)
    with replacing(target) if isinstance(target, str) else nullcontext(target) as stream:  # noqa: SIM117
        with parquet.ParquetWriter(stream, schema, use_dictionary=True) as writer:
            for group in _grouped(batches):
                writer.write_table(pyarrow.concat_tables(group), row_group_size=GROUP_ROWS)


def _column(part: Mapping[str, Any], name: str, schema: Any) -> Any:
    import pyarrow

    value, kind = part[name], schema.field(name).type
    if value is None or isinstance(value, str):
        count = next(len(column) for column in part.values() if column is not None and not isinstance(column, str))
        return pyarrow.repeat(pyarrow.scalar(value, kind), count)
    return pyarrow.array(value, kind)


def _grouped(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """Parts that make a row group together."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if sum(map(len, group)) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group
