"""Open a text file, whatever it is packed in and whichever encoding it has."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vigie.errors import InvalidDataError
from vigie.tables.encodings import legacy_encoding
from vigie.tables.other_files import refuse_damaged

if TYPE_CHECKING:
    import pyarrow as pa

_OF_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that macOS and Windows put into folders."""
SAMPLE_BYTES = 1 << 20
PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
}
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def packing(path: Path) -> str | None:
    """Return how a file is packed, by its first bytes; None if it is not."""
    with path.open("rb") as file:
        start = file.read(6)
    return next((name for magic, name in PACKED.items() if start.startswith(magic)), None)


def is_workbook(path: Path) -> bool:
    """Return whether a file is an Excel or OpenDocument workbook, whatever it is called."""
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return True
    if not start.startswith(b"PK\x03\x04"):
        return False
    with _archive(path) as archive:
        return not {"[Content_Types].xml", "mimetype"}.isdisjoint(archive.namelist())


def open_bytes(path: Path) -> IO[bytes] | pa.NativeFile:
    """Open a file for reading, unpacked.

    Raises
    ------
    InvalidDataError
        If it is an archive of several files.
    """
    import pyarrow as pa

    kind = packing(path)
    if kind == "zip":
        archive = _archive(path)
        members = [name for name in archive.namelist() if not _is_no_file(name)]
        if len(members) != 1:
            listed = f": {', '.join(members[:5])}" if members else ""
            raise InvalidDataError(
                f"{path} holds {len(members)} files{listed}.",
                field="FILE",
                remedy="Unpack it, and name one of them." if members else "Pack the table anew.",
            )
        return archive.open(members[0])
    if kind == "xz":
        import lzma

        return lzma.open(path, "rb")
    return pa.input_stream(str(path), compression=kind, buffer_size=SAMPLE_BYTES)


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        refuse_damaged(path, "zip")


def _is_no_file(name: str) -> bool:
    """Return whether an entry of an archive is a folder, or what a system keeps of its own."""
    base = name.rsplit("/", 1)[-1]
    return not base or base in _OF_SYSTEMS or name.startswith("__MACOSX/") or base[:2] == "._"


def read_sample(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    with open_bytes(path) as file:
        return bytes(file.read(SAMPLE_BYTES))


def encoding_of(sample: bytes) -> tuple[str, str]:
    """Return the encoding of a text by its mark and content, and a note where it is not sure."""
    for mark, name in MARKS.items():
        if sample.startswith(mark):
            return name, ""
    zeros = [sample[start : 1 << 12 : 2].count(0) for start in (0, 1)]
    if max(zeros) > len(sample[: 1 << 12]) // 5:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le", ""
    try:
        # The sample may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return legacy_encoding(sample)
    return "utf-8", ""


def decoded(sample: bytes, encoding: str) -> str:
    """Return a sample as text; undecodable bytes become question marks."""
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(sample)
    return text.lstrip("\ufeff")


def lines_of(content: str) -> list[str]:
    """Return the lines of a text, whichever system ended them."""
    return content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
