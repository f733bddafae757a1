"""A check that a folder is writable, such as that of local state, ``VIGIE_STATE_DIR``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vigie.errors import InvalidDataError


def require_writable(folder: Path, field: str = "VIGIE_STATE_DIR") -> None:
    """Check that a folder, or the parent in which it would be created, is writable.

    Parameters
    ----------
    folder : Path
        The folder.
    field : str
        The setting or option that names it.

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
            field=field,
            remedy="Set it to a writable folder, or make this one writable.",
        ) from error
