"""Say what a file is that holds no table in text: a picture, an archive, another program's data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from vigie.errors import InvalidDataError

_UNPACK = "Unpack it, and name the table in it."
_EXPORT = "Export the table as CSV, or as .xlsx or Parquet."
_DECODE = "Decode it to signals with its database (DBC) first, and export these as CSV."
_LOAD = "Load it into the database, and read the table there: --query 'SELECT ...'."
_MAGIC = {
    b"%PDF": ("a PDF document", _EXPORT),
    b"{\\rtf": ("a text document (RTF)", _EXPORT),
    b"\x89PNG": ("a picture (PNG)", _EXPORT),
    b"\xff\xd8\xff": ("a picture (JPEG)", _EXPORT),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
    b"Rar!\x1a": ("a RAR archive", _UNPACK),
    b"\x1f\x9d": ("a packed file (.Z)", _UNPACK),
    b"PK\x03\x04": ("an archive or a workbook within an archive", _UNPACK),
    b"\xd0\xcf\x11\xe0": ("a workbook within an archive", _UNPACK),
    b"PAR1": ("a Parquet file within an archive", _UNPACK),
    b"SQLite format 3": (
        "an SQLite database",
        "Name it as sqlite:///FILE, and say what to read with --query.",
    ),
    b"\x89HDF": ("an HDF5 file", _EXPORT),
    b"MATLAB 5.0 MAT-file": ("a MATLAB file", _EXPORT),
    b"TDSm\x0e": ("a TDMS file of LabVIEW", _EXPORT),
    b"ARROW1\x00": ("an Arrow (Feather) file", _EXPORT),
    b"MDF     ": ("an MDF (MF4) file", _EXPORT),
    b"LOGG": ("a trace of a bus (BLF)", _DECODE),
    b"Obj\x01": ("an Avro file", _EXPORT),
    b"\x80\x04\x95": ("a Python pickle", _EXPORT),
    b"\x80\x05\x95": ("a Python pickle", _EXPORT),
}
_BUS = re.compile(
    r"(;\$FILEVERSION=|\*\*\*BUSMASTER)"
    r"|(date .*\n)?\s*base +(hex|dec) +timestamps +(absolute|relative)"
    r"|\(\d+\.\d{6}\)\s+\w+\s+[0-9A-Fa-f]{3,8}(#|\s)",
    re.IGNORECASE,
)
"""Traces of PCAN, BUSMASTER, CANalyzer and candump."""
_SQL = re.compile(
    r"(\s*(--|/\*).*\n|\s*\n|\s*SET .*\n)*\s*"
    r"(INSERT\s+INTO|CREATE\s+TABLE|DROP\s+TABLE|BEGIN\b.*;|PRAGMA|COPY\s+\S+\s*\()",
    re.IGNORECASE,
)
"""Dumps of databases."""
_TAR = slice(257, 262)
_HTML = re.compile(r"\s*(<\?xml[^>]*>\s*)?<(!doctype html|html)\b", re.IGNORECASE)
_HTML_TABLE = re.compile(r"\s*<(table|body|head|meta|style|div)\b", re.IGNORECASE)
_XML = re.compile(r"\s*<\?xml")
_JSON = re.compile(r'\s*(\[\s*)*\{\s*("|\})')
LOOKED_AT = 4096
MOST_CONTROLS = 0.02
_TEXT_CONTROLS = "\t\n\r\f\v\x1a\x1b"


def refuse_other(sample: bytes, content: str) -> None:
    """Check that a file may be a table in text, by its first bytes, unpacked.

    Parameters
    ----------
    sample : bytes
        The first bytes.
    content : str
        These as text.

    Raises
    ------
    InvalidDataError
        If it is a file of another kind; the error names it.
    """
    for start, (kind, remedy) in _MAGIC.items():
        if sample.startswith(start):
            _refuse(f"It is {kind}, not a table.", remedy)
    if sample[_TAR] == b"ustar":
        _refuse("It is an archive (tar), not a table.", _UNPACK)
    if _HTML.match(content):
        if "<table" in content.lower():
            _refuse("It is a web page (HTML), not a table.", _resave("as .xlsx or CSV"))
        _refuse(
            "It is a web page, not a table.",
            "Look at it in a browser: a login or an error may stand in place of the file.",
        )
    if _HTML_TABLE.match(content):
        _refuse("It is a table of a web page (HTML).", _resave("as .xlsx or CSV"))
    if _XML.match(content):
        _refuse("It is XML, not a table.", _resave("as .xlsx or CSV"))
    if _BUS.match(content):
        _refuse("It is a trace of the messages on a bus, not a table of readings.", _DECODE)
    if _SQL.match(content):
        _refuse("It holds commands for a database (SQL), not a table.", _LOAD)
    if _JSON.match(content):
        _refuse("It is JSON, not a table.", "Write it as CSV, one row a line.")
    _refuse_controls(content)


def _resave(form: str) -> str:
    return f"Open it in a spreadsheet program, and save it {form}."


def _refuse_controls(content: str) -> None:
    start = content[:LOOKED_AT]
    controls = [c for c in start if c < " " and c not in _TEXT_CONTROLS and c != "\0"]
    if len(controls) > MOST_CONTROLS * len(start):
        _refuse("It holds bytes that are no text.", _EXPORT)


def refuse_damaged(path: Path, kind: str) -> NoReturn:
    """Raise because a file begins as one of a kind, and cannot be read to its end.

    Raises
    ------
    InvalidDataError
        Always.
    """
    raise InvalidDataError(
        f"{path} begins as a file of the kind {kind}, but is cut off or damaged.",
        field="FILE",
        remedy="Copy or export it again.",
    )


def _refuse(message: str, remedy: str) -> NoReturn:
    raise InvalidDataError(message, field="FILE", remedy=remedy)
