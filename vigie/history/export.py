"""Stored readings as tables: CSV, Parquet, Arrow."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vigie.models.readings import StoredReading
from vigie.printable import cell_for_people

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("asset_id", "sensor_id", "timestamp", "final_score", "p_value", "is_anomaly",
           "criticality", "state", "since", "began")  # fmt: skip
"""The columns before those of the models, the values and the context."""
PARTS = ("models", "features", "context")


def csv_of(readings: Sequence[StoredReading], is_for_people: bool) -> bytes:
    """Return readings as CSV in UTF-8, with times in ISO 8601.

    Parameters
    ----------
    readings : sequence of StoredReading
        The readings.
    is_for_people : bool
        Whether text is written so that a spreadsheet takes it as text.
    """
    guarded: Callable[[str], str] = cell_for_people if is_for_people else str
    parts = _parts(readings)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([guarded(name) for name in (*COLUMNS, *_headings(parts))])
    for reading in readings:
        cells = [getattr(reading, name) for name in COLUMNS]
        cells += [getattr(reading, part).get(name) for part, name in parts]
        writer.writerow([_text(cell, guarded) for cell in cells])
    return text.getvalue().encode()


def table_of(readings: Sequence[StoredReading]) -> pa.Table:
    """Return readings as a table of Arrow; context of several types becomes text."""
    import pyarrow as pa

    time = pa.timestamp("us", "UTC")
    types = (pa.string(), pa.string(), time, pa.float64(), pa.float64(), pa.bool_(),
             pa.string(), pa.string(), time, time)  # fmt: skip
    columns = {
        name: pa.array([getattr(reading, name) for reading in readings], type=kind)
        for name, kind in zip(COLUMNS, types, strict=True)
    }
    parts = _parts(readings)
    for heading, (part, name) in zip(_headings(parts), parts, strict=True):
        values = [getattr(reading, part).get(name) for reading in readings]
        if part == "models":
            columns[heading] = pa.array(values, type=pa.int64())
        elif part == "features":
            columns[heading] = pa.array(values, type=pa.float64())
        elif len({type(value) for value in values if value is not None}) == 1:
            columns[heading] = pa.array(values)
        else:
            columns[heading] = pa.array(
                [None if value is None else _text(value, str) for value in values], pa.string()
            )
    return pa.table(columns)


def parquet_of(readings: Sequence[StoredReading]) -> bytes:
    """Return readings as a Parquet file."""
    from pyarrow import parquet

    content = io.BytesIO()
    parquet.write_table(table_of(readings), content, compression="zstd")
    return content.getvalue()


def arrow_of(readings: Sequence[StoredReading]) -> bytes:
    """Return readings as a stream of Arrow's IPC format."""
    import pyarrow as pa

    table, content = table_of(readings), io.BytesIO()
    with pa.ipc.new_stream(content, table.schema) as stream:
        stream.write_table(table)
    return content.getvalue()


def _parts(readings: Iterable[StoredReading]) -> list[tuple[str, str]]:
    """Return the columns of the models, the values and the context: part and name of each."""
    names: dict[str, dict[str, None]] = {part: {} for part in PARTS}
    for reading in readings:
        for part in PARTS:
            names[part].update(dict.fromkeys(getattr(reading, part)))
    return [(part, name) for part in PARTS for name in names[part]]


def _headings(parts: Iterable[tuple[str, str]]) -> list[str]:
    # As in `features.rms`: a sensor may be called as another column is.
    return [f"{part}.{name}" for part, name in parts]


def _text(cell: Any, guarded: Callable[[str], str]) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, datetime):
        return cell.isoformat().replace("+00:00", "Z")
    return repr(cell) if isinstance(cell, float) else guarded(str(cell))
