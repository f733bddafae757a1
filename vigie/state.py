"""The folder of local state, ``VIGIE_STATE_DIR``: a check that it is writable."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vigie.errors import InvalidDataError


def require_writable(folder: Path) -> None:
    """Check that a folder, or the parent in which it would be created, is writable.

    Raises
    ------
    InvalidDataError
        If it is not.
    """
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return
    except OSError as error:
        raise InvalidDataError(
            f"{folder} is not writable ({existing}: {error.strerror}).",
            field="VIGIE_STATE_DIR",
            remedy="Set it to a writable folder, or make this one writable.",
        ) from error
