"""Folders of local state, such as ``VIGIE_STATE_DIR``: writable, private, and not left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from vigie.errors import InvalidDataError

LOCK = ".lock"


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


def make_private(folder: Path) -> None:
    """Create a folder, and those above it, which nobody else may read; existing ones stay."""
    folder = folder.absolute()
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, under another name until it is whole."""
    number, name = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except OSError:
        # As on a full disk: else each attempt would leave a file.
        Path(name).unlink(missing_ok=True)
        raise


def hold(folder: Path) -> IO[str]:
    """Mark a temporary folder as in use until the file is closed, or its process has ended."""
    file = (folder / LOCK).open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def remove_abandoned() -> None:
    """Remove the temporary folders of processes that were killed; see ``hold``."""
    for folder in Path(tempfile.gettempdir()).glob("vigie-*"):
        try:
            if folder.stat().st_uid != os.geteuid():
                continue
            with (folder / LOCK).open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # In use, or not marked.
            continue
        shutil.rmtree(folder, ignore_errors=True)
