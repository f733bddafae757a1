"""Rows from all over a large CSV file, without those between them."""

from __future__ import annotations

import csv

import numpy as np

from vigie.tables import text
from vigie.tables.csv_file import BLOCK_BYTES, TAIL_BYTES, CsvFile

PLACES = 100
LINE_BYTES = 1 << 14
"""Bytes that hold the rest of a line and a whole one."""
ENCODINGS = ("utf-8", "utf-8-sig", "cp1252")
"""In these, the byte of a new line is always the end of one."""


def sampled_rows(file: CsvFile) -> list[list[str]] | None:
    """Return the cells of some rows behind the first block, in order, and of the last ones.

    The places are irregular: rows of several machines, one below the other and equally many of
    each, are not all met at one time.

    Returns
    -------
    list of list of str, or None
        None where the bytes do not tell the rows, as in packed files, or one at these places is no
        reading.
    """
    dialect = file.dialect
    if (
        text.packing(file.path)
        or file.encoding not in ENCODINGS
        or file.has_quotes
        or file.is_changed
    ):
        return None
    first, last = BLOCK_BYTES, file.path.stat().st_size - TAIL_BYTES
    lines: list[str] = []
    if first < last:
        golden = np.sort(np.arange(1, PLACES + 1) * (5**0.5 - 1) / 2 % 1)
        with file.path.open("rb") as source:
            for place in first + golden * (last - LINE_BYTES - first):
                source.seek(max(int(place), first))
                _, *whole = source.read(LINE_BYTES).split(b"\n", 2)
                if len(whole) < 2:
                    return None
                lines.append(text.decoded(whole[0], file.encoding.removesuffix("-sig")))
    lines += file.last_lines()
    filled = [line for line in lines if line]
    rows = list(csv.reader(filled, delimiter=dialect.separator, quotechar=dialect.quote))
    is_whole = all(len(row) == dialect.layout.n_cells for row in rows)
    return rows if is_whole else None
