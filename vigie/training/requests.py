"""The request of a training as it is stored until it is trained.

The folder of a request holds its body as it came, and ``about.json``. Only this user may read it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, Field

from vigie.models.training import UploadedFile
from vigie.state import write_private

BODY, ABOUT = "body", "about.json"


class About(BaseModel):
    """What is known of a request besides its body."""

    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    """When it came."""
    file: UploadedFile | None = None
    """What is said of a body that is a file; None for JSON."""
    serving_features: list[str] = Field(default_factory=list)
    """The sensors of the models that serve."""
    serving_context: list[str] = Field(default_factory=list)
    """Those of them that say how the machine is run."""


def store_request(folder: Path, body: bytes, about: About) -> None:
    """Store a request in a new folder.

    Raises
    ------
    OSError
        If it cannot be stored.
    """
    folder.mkdir(mode=0o700)
    write_private(folder / ABOUT, about.model_dump_json().encode())
    write_private(body_of(folder, about), body)


def is_stored(folder: Path) -> bool:
    """Return whether a request is stored completely in a folder."""
    return (folder / ABOUT).is_file() and body_of(folder, about_of(folder)).is_file()


def about_of(folder: Path) -> About:
    """Return what is known of a stored request besides its body."""
    return About.model_validate_json((folder / ABOUT).read_bytes())


def body_of(folder: Path, about: About) -> Path:
    """Return the file with the body of a request."""
    # A reader of tables tells the kind of a file by its name.
    return folder / f"{BODY}{about.file.extension if about.file else ''}"
