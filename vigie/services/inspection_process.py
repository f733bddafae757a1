"""Inspect a file that came over HTTP, in a child process.

A foreign file may be anything: a few megabytes that unpack to many gigabytes, or text that takes
a parser minutes. The child has a limit of time and memory, and the service goes on answering.
"""

from __future__ import annotations

import logging
import resource
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigie.child import Child, Parent
from vigie.errors import InvalidDataError
from vigie.state import hold
from vigie.tables.options import ReadOptions

logger = logging.getLogger(__name__)

WITHIN_S = 30.0
MOST_MEMORY = 8 << 30
"""Address space of the child in bytes; libraries reserve some of it without using it."""
MOST_UNPACKED = 256 << 20
"""Bytes of a file, unpacked."""
MOST_CELLS = 30_000_000
"""Cells of a Parquet file, which a few bytes may stand for."""
MAGIC = {b"PAR1": ".parquet"}


@dataclass(frozen=True)
class InspectRequest:
    """A file to inspect.

    Attributes
    ----------
    path : Path
        Where it is.
    name : str
        What the client calls it.
    options : ReadOptions
        What the client states about it.
    """

    path: Path
    name: str
    options: ReadOptions


def inspect_body(body: bytes, extension: str, name: str, options: ReadOptions) -> dict[str, Any]:
    """Return the report on a file as JSON-compatible values; the file is gone afterwards.

    Parameters
    ----------
    body : bytes
        The file.
    extension : str
        What kind of file it is said to be, such as ``.csv``; a Parquet file shows that it is one.
    name : str
        What the client calls it.
    options : ReadOptions
        What the client states about it.

    Raises
    ------
    InvalidDataError
        If it cannot be read, or takes too long or too much memory.
    """
    extension = actual_extension(body, extension)
    with tempfile.TemporaryDirectory(prefix="vigie-inspect-") as folder, hold(Path(folder)):
        path = Path(folder, f"table{extension}")
        path.write_bytes(body)
        try:
            with Child(run) as child:
                child.send(InspectRequest(path, name, options))
                report: dict[str, Any] | None = child.receive(WITHIN_S)
        except TimeoutError:
            raise InvalidDataError(
                f"It takes longer than {WITHIN_S:.0f} s to understand.",
                field="body",
                remedy="Send fewer rows, or look at the file with `vigie inspect FILE`.",
            ) from None
    if report is None:
        raise _not_understood()
    return report


def actual_extension(body: bytes, extension: str) -> str:
    """Return the extension of a file: as it is said to be, unless its first bytes tell otherwise.

    Raises
    ------
    InvalidDataError
        If it is empty.
    """
    if not body:
        raise InvalidDataError(
            "The body is empty.", field="body", remedy="Send the file itself as the body."
        )
    return MAGIC.get(body[:4], extension)


def run(parent: Parent, request: InspectRequest) -> None:
    """Inspect a file and send the report; in the child.

    Raises
    ------
    InvalidDataError
        If it cannot be read.
    """
    # Only the child reads tables, so the service does not import how.
    from vigie.training.inspection import inspect

    with guarded(request.path, request.name):
        report = inspect(request.path, request.options, request.name).report.as_dict()
    parent.send(report)


@contextmanager
def guarded(path: Path, name: str) -> Iterator[None]:
    """Limit the memory of this process while it reads a foreign file, and word what goes wrong.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        What its sender calls it.

    Raises
    ------
    InvalidDataError
        If it cannot be read.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, hard))
    try:
        check_size(path)
        yield
    except InvalidDataError as error:
        # The path is of this machine.
        message = error.message.replace(str(path), name)
        raise InvalidDataError(message, field=error.field, remedy=error.remedy) from error
    except MemoryError as error:
        raise _too_large() from error
    except Exception as error:
        # A library may raise anything at a file that is none of its kind.
        logger.exception("A file could not be inspected.")
        raise _not_understood() from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check_size(path: Path) -> None:
    """Check how large a file is when it is unpacked, without unpacking it into memory.

    Raises
    ------
    InvalidDataError
        If it is too large.
    """
    from vigie.tables import parquet_file, text

    if path.suffix in parquet_file.EXTENSIONS:
        from pyarrow import ArrowInvalid, parquet

        try:
            metadata = parquet.read_metadata(path)
        except ArrowInvalid:
            return  # as the reader will say
        if metadata.num_rows * metadata.num_columns > MOST_CELLS:
            raise _too_large()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST_UNPACKED:
                raise _too_large()
    elif text.packing(path) is not None:
        n_bytes = 0
        with text.open_bytes(path) as file:
            while block := file.read(1 << 20):
                n_bytes += len(block)
                if n_bytes > MOST_UNPACKED:
                    raise _too_large()


def _too_large() -> InvalidDataError:
    return InvalidDataError(
        "It is too large when it is unpacked.",
        field="body",
        remedy="Send fewer rows, or look at the file with `vigie inspect FILE`.",
    )


def _not_understood() -> InvalidDataError:
    return InvalidDataError(
        "It cannot be understood as a table.",
        field="body",
        remedy="Send a CSV, Excel or Parquet file.",
    )
