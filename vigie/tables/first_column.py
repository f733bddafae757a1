"""Read the first column of a CSV file, which mostly holds the times, without its other cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.tables import text

if TYPE_CHECKING:
    import pyarrow as pa

    from vigie.tables.csv_file import CsvFile

AT_A_TIME = 1 << 20
"""Bytes that are read together."""
ENCODINGS = ("utf-8", "utf-8-sig", "cp1252")
"""In these, a byte below 128 is always the character that ASCII has for it."""
LONGEST_CELL, LONGEST_LINE = 40, 1 << 22
_ZERO, _NINE, _NEW_LINE, _RETURN = b"09\n\r"


def first_column(file: CsvFile) -> pa.ChunkedArray | None:
    """Return the cells of the first column, as text.

    Returns
    -------
    pyarrow.ChunkedArray or None
        None unless all cells are alike but for their digits, as times mostly are, and no line is
        anything but a reading: then the file must be read as a whole.
    """
    import pyarrow as pa

    separator = file.dialect.separator
    if file.encoding not in ENCODINGS or file.has_quotes or separator == " " or len(separator) > 1:
        return None
    if len(file.columns) == 1:
        return None
    form: NDArray[np.uint8] | None = None
    parts: list[pa.Array] = []
    rest, to_skip, is_last = b"", file.dialect.skipped_lines, False
    with text.open_bytes(file.path) as source:
        while not is_last:
            block = bytes(source.read(AT_A_TIME))
            is_last = not block
            whole = rest + (block or b"\n")
            while to_skip and (found := whole.find(b"\n")) >= 0:
                whole = whole[found + 1 :]
                to_skip -= 1
            cut = 0 if to_skip else whole.rfind(b"\n") + 1
            rest = whole[cut:]
            if not cut and len(rest) > LONGEST_LINE:
                return None
            if not cut:
                continue
            if form is None:
                form = _form(whole, separator)
            has_quotes = file.dialect.quote.encode() in whole
            cells = None if form is None or has_quotes else _cells(whole, cut, form)
            if cells is None:
                return None
            parts.append(_as_text(cells))
    return pa.chunked_array(parts, pa.string()) if parts else None


def _form(lines: bytes, separator: str) -> NDArray[np.uint8] | None:
    """Return the first cell and its separator, with zeros for digits."""
    cell, found, _ = lines[:LONGEST_CELL].partition(separator.encode())
    if not found or b"\n" in cell:
        return None
    return _masked(np.frombuffer(cell + separator.encode(), np.uint8))


def _cells(lines: bytes, size: int, form: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the first cells of the lines in so many bytes, shape (n_lines, n_bytes).

    None if one has another form.
    """
    if b"\r" in lines and lines.count(b"\r", 0, size) != lines.count(b"\r\n", 0, size):
        return None
    data = np.frombuffer(lines, np.uint8, size)
    ends = np.flatnonzero(data == _NEW_LINE)
    begins = np.concatenate([[0], ends[:-1] + 1])
    # A parser passes over empty lines.
    is_used = (begins < ends) & ~((begins + 1 == ends) & (data[begins] == _RETURN))
    begins, ends = begins[is_used], ends[is_used]
    if not len(begins):
        return np.empty((0, len(form) - 1), np.uint8)
    if (begins + len(form) > ends).any():
        return None
    cells = np.lib.stride_tricks.sliding_window_view(data, len(form))[begins]
    return cells[:, :-1] if (_masked(cells) == form).all() else None


def _masked(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    masked: NDArray[np.uint8] = np.where((data >= _ZERO) & (data <= _NINE), np.uint8(_ZERO), data)
    return masked


def _as_text(cells: NDArray[np.uint8]) -> pa.Array:
    import pyarrow as pa

    n_cells, length = cells.shape
    offsets = np.arange(n_cells + 1, dtype=np.int32) * np.int32(length)
    return pa.StringArray.from_buffers(
        n_cells, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(cells))
    )
