"""The versions that served last, saved for the next start of the service.

When a service starts, the registry may not answer. A small file holds the versions that served
before, and when the registry last confirmed them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from vigie.models.from_json import first_fault
from vigie.registry.version import Version
from vigie.state import make_private, write_private

logger = logging.getLogger(__name__)

FILE = "last_served.json"


@dataclass(frozen=True)
class LastServed:
    """The versions of a registry that served last.

    Attributes
    ----------
    registry : str
        Its URI, without a password; the versions are of no use with another registry.
    confirmed : datetime
        When the registry last confirmed them, in UTC.
    versions : mapping of str to Version
        By registered name.
    """

    registry: str
    confirmed: AwareDatetime
    versions: Mapping[str, Version]

    def write(self, folder: Path) -> None:
        """Write the file atomically."""
        make_private(folder)
        # Nobody asks this file who has moved a version.
        content = _FORM.dump_json(self, indent=1, exclude={"versions": {"__all__": {"history"}}})
        write_private(folder / FILE, content)


_FORM = TypeAdapter(LastServed)


def read(folder: Path, registry: str, *, quietly: bool = False) -> LastServed | None:
    """Return the versions of this registry that served last; None if no usable file exists.

    A file that cannot be used is logged, unless ``quietly``.
    """
    path = folder / FILE
    try:
        # Strict: pydantic would otherwise coerce other types, which Vigie never writes.
        saved = _FORM.validate_json(path.read_bytes(), strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        logger.log(
            logging.DEBUG if quietly else logging.WARNING,
            "The versions that served last cannot be read from %s (%s), so no model serves until "
            "the registry answers. Delete the file; it is written again then.",
            path,
            _reason(error),
        )
        return None
    return saved if saved.registry == registry else None


def _reason(error: OSError | ValidationError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else first_fault(error)
