"""DataFrames as readings and rows; pandas is there already if there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from vigie.errors import InvalidDataError, listed

if TYPE_CHECKING:
    import pandas as pd

NUMBERS, TIME = "iufb", "M"
"""Kinds of types, as numpy names them."""


def is_table(data: Any) -> TypeGuard[pd.DataFrame]:
    """Return whether data are a DataFrame, without importing pandas."""
    return hasattr(data, "columns") and hasattr(data, "iloc")


def readings_of(
    table: pd.DataFrame,
    asset_id: str | None,
    sensor_id: str | None,
    time: str | None,
    context: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Yield each row of a table as a reading.

    Parameters
    ----------
    table : DataFrame
        Numbers by sensor; a missing one is NaN. Its index or a column has the times, in UTC if they
        have no zone.
    asset_id, sensor_id : str or None
        Of all rows.
    time : str or None
        The column of the times; by default the index if it holds times, else the only column that
        does.
    context : sequence of str
        Columns that say how the machine is run.

    Raises
    ------
    InvalidDataError
        If there is no asset, a column does not exist, or one holds no numbers.
    """
    columns = reading_columns(table, asset_id, sensor_id, time, context)
    times, features, contexts = (columns.pop(n, {}) for n in ("timestamps", "features", "context"))
    for row in range(len(table)):
        reading = {**columns, "features": {name: values[row] for name, values in features.items()}}
        if contexts:
            reading["context"] = {name: values[row] for name, values in contexts.items()}
        if times:
            reading["timestamp"] = times[row]
        yield reading


def reading_columns(
    table: pd.DataFrame,
    asset_id: str | None,
    sensor_id: str | None,
    time: str | None,
    context: Sequence[str],
) -> dict[str, Any]:
    """Return a table as ``ReadingColumns`` has it; see ``readings_of``."""
    if asset_id is None:
        raise InvalidDataError(
            "A table does not say of which machine it is.",
            field="asset_id",
            remedy='Give it: asset_id="pump-7".',
        )
    times, names = _parted(table, time, context)
    columns: dict[str, Any] = {
        "asset_id": asset_id,
        "features": {str(name): _values(table[name]) for name in names if name not in context},
    }
    if sensor_id is not None:
        columns["sensor_id"] = sensor_id
    if context:
        columns["context"] = {name: _values(table[name]) for name in context}
    if None not in (times := list(times)):
        columns["timestamps"] = times
    return columns


def columns_of(table: pd.DataFrame, context: Sequence[str]) -> dict[str, Any]:
    """Return the body of a training on a table, in the order of its times, which are no features.

    Raises
    ------
    InvalidDataError
        If a column does not exist, holds no numbers, or lacks a value.
    """
    times, columns = _parted(table, None, context)
    if None not in (times := list(times)):
        order = sorted(range(len(times)), key=times.__getitem__)
        table = table.iloc[order]
    words = [name for name in columns if table[name].dtype.kind not in NUMBERS]
    numbers = [name for name in columns if name not in words]
    for name in numbers:
        if n_missing := int(table[name].isna().sum()):
            raise InvalidDataError(
                f"{n_missing} of {len(table)} values are missing.",
                field=str(name),
                remedy="Leave out these rows (dropna), or the column.",
            )
    body: dict[str, Any] = {
        "data": table[numbers].astype(float).to_numpy().tolist(),
        "feature_names": [str(name) for name in numbers],
        "context_features": [name for name in context if name not in words],
    }
    if words:
        body["context"] = {str(name): table[name].tolist() for name in words}
    return body


def _parted(
    table: pd.DataFrame, time: str | None, context: Sequence[str]
) -> tuple[Iterable[Any], list[Any]]:
    """Return the times of a table, in Python's form or None each, and its other columns."""
    for name in (*context, *([time] if time is not None else ())):
        if name not in table.columns:
            raise InvalidDataError(
                f"The table has no column {name!r}.",
                field="context" if name in context else "time",
                remedy=f"It has {listed(map(str, table.columns))}.",
            )
    with_times = [name for name in table.columns if table[name].dtype.kind == TIME]
    if time is None and table.index.dtype.kind != TIME and len(with_times) == 1:
        [time] = with_times
    if time is not None:
        times: Iterable[Any] = _moments(table[time])
    elif table.index.dtype.kind == TIME:
        times = _moments(table.index)
    else:
        times = [None] * len(table)
    columns = [name for name in table.columns if name != time and name not in with_times]
    for name in columns:
        if name not in context and table[name].dtype.kind not in NUMBERS:
            raise InvalidDataError(
                f"The column holds {table[name].dtype}, not numbers.",
                field=str(name),
                remedy="Leave it out (drop), or name it under context.",
            )
    return times, columns


def _moments(times: Any) -> list[Any]:
    """Return times as ISO 8601; strings as they are."""
    if times.dtype.kind != TIME:
        return list(times.tolist())
    if times.isna().any():
        raise InvalidDataError(
            "A row has no time.", field="time", remedy="Leave out such rows (dropna)."
        )
    return [moment.isoformat() for moment in times]


def _values(column: pd.Series[Any]) -> list[Any]:
    """Return values as Python's objects, with None for a missing one."""
    found: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return found
