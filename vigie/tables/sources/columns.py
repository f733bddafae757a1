"""Typed columns: of the values that a driver returns, and of types that are less plain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
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
        The values, a sequence for each column; None for a missing one.
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
        array = _array(values, field.type)
        if array is None:
            row = next(i for i, v in enumerate(values) if _array([v], field.type) is None)
            raise InvalidDataError(
                f"The column {field.name} is of the type {field.type} by its first rows, and holds "
                f"{str(values[row])[:80]!r} in row {n_before + row + 1}.",
                field="--query",
                remedy="Leave such rows out by WHERE, or CAST the column to one type.",
            )
        arrays.append(array)
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


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Return values as an array; None if they do not have its type."""
    import pyarrow as pa

    errors = (ValueError, TypeError, OverflowError, pa.ArrowException)
    # Most values need no conversion, which would take several times as long.
    with suppress(*errors):
        return pa.array(values, kind)
    convert = _converter(kind)
    with suppress(*errors):
        return pa.array([None if value is None else convert(value) for value in values], kind)
    return None


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    """Return what turns a driver's value into one that Arrow takes for a type."""
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return _number
    return int if pa.types.is_integer(kind) else str


def _number(value: Any) -> float:
    # float() would read text such as "nan" or "1e3" as numbers, where the source holds text.
    if isinstance(value, str | bytes):
        raise TypeError
    return float(value)
