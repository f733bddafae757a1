"""The folder of local state, ``VIGIE_STATE_DIR``: whether anything can be kept there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vigie.errors import InvalidDataError


def require_writable(folder: Path) -> None:
    """Return if files can be kept in a folder, which need not be there yet; leave nothing behind.

    Raises
    ------
    InvalidDataError
        If they cannot.
    """
    folder = folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise InvalidDataError(
            f"Nothing can be kept in {folder} ({there}: {error.strerror}).",
            field="VIGIE_STATE_DIR",
            remedy="Set it to a folder that can be written, or make this one writable.",
        ) from error
