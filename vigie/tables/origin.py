"""What a table was read from, and why it was read so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FileKind = Literal["CSV", "workbook", "Parquet"]


@dataclass(frozen=True)
class Origin:
    """A file, as it was understood.

    Attributes
    ----------
    kind : {"CSV", "workbook", "Parquet"}
        What it is.
    encoding, separator, decimal : str or None
        Of a CSV file.
    packing : str or None
        How a CSV file is packed, such as gzip.
    first_line : int or None
        The first line with readings, from 1.
    has_header : bool
        Whether the names of the columns stand in the file.
    sheet : str or None
        The sheet of a workbook.
    because : tuple of str
        Why it was understood so, and what was not chosen.
    """

    kind: FileKind
    encoding: str | None = None
    separator: str | None = None
    decimal: str | None = None
    packing: str | None = None
    first_line: int | None = None
    has_header: bool = True
    sheet: str | None = None
    because: tuple[str, ...] = ()
