"""Typed columns: of the values that a driver returns, and of types that are less plain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_A_TIME = 32_768
"""Rows of a batch."""
EXACT = 1 << 53
"""The largest integer up to which a float64 holds all."""


def batch_of(
    columns: Sequence[Sequence[Any]], schema: pa.Schema, n_before: int = 0
) -> pa.RecordBatch:
    """Return a batch of the values of a driver.

    Parameters
    ----------
    columns : sequence of sequence
        The values, each column by itself; None for a missing one.
    schema : Schema
        Names and types of the columns.
    n_before : int
        Number of rows in earlier batches, to say where a fault is.

    Raises
    ------
    InvalidDataError
        If a value does not have the type of its column.
    """
    import pyarrow as pa

    arrays = []
    for values, field in zip(columns, schema, strict=True):
        convert = _converter(field.type)
        try:
            arrays.append(pa.array([None if v is None else convert(v) for v in values], field.type))
        except (ValueError, TypeError, OverflowError, pa.ArrowException):
            row = next(i for i, v in enumerate(values) if not _fits(v, convert, field.type))
            raise InvalidDataError(
                f"The column {field.name} is of the type {field.type} by its first rows, and holds "
                f"{str(values[row])[:80]!r} in row {n_before + row + 1}.",
                field="--query",
                remedy="Leave such rows out by WHERE, or CAST the column to one type.",
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def inferred(values: Iterable[Any]) -> pa.DataType:
    """Return the type of a column whose source does not tell it, by its first values.

    Numbers are floats, since a later row may hold a fraction, unless one is too large an integer
    for a float: these are mostly times.
    """
    import pyarrow as pa

    present = [value for value in values if value is not None]
    kinds = set(map(type, present))
    if kinds == {bool}:
        return pa.int8()
    if kinds <= {bool, int, float, Decimal}:
        is_large = kinds == {int} and max(map(abs, present)) > EXACT
        return pa.int64() if is_large else pa.float64()
    if kinds == {datetime}:
        return pa.timestamp("us", tz="UTC" if present[0].tzinfo else None)
    return pa.date32() if kinds == {date} else pa.string()


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with numbers, times and text only."""
    import pyarrow as pa

    arrays = [_plain_array(array) for array in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _plain_array(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        return _plain_array(array.dictionary_decode())
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8())
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return array.cast(pa.float64())
    is_kept = (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
        or pa.types.is_string(kind)
    )
    if is_kept:
        return array
    return pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())


def _converter(kind: pa.DataType) -> Any:
    """Return what turns a driver's value into one that Arrow takes for a type."""
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return _number
    if pa.types.is_integer(kind):
        return int
    if pa.types.is_string(kind):
        return str
    return _as_it_is


def _number(value: Any) -> float:
    # float() would read text such as "nan" or "1e3" as numbers, where the source holds text.
    if isinstance(value, str | bytes):
        raise TypeError
    return float(value)


def _as_it_is(value: Any) -> Any:
    return value


def _fits(value: Any, convert: Any, kind: pa.DataType) -> bool:
    import pyarrow as pa

    try:
        pa.array([None if value is None else convert(value)], kind)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return False
    return True
