"""Which versions served last, kept beside their copies: a service starts with these.

A service that has just started knows nothing of the registry, and the registry may be away. What
it answered from before, and when the registry last said so, stands in one small file.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from vigie.registry.version import Version

logger = logging.getLogger(__name__)

FILE = "last_served.json"


@dataclass(frozen=True)
class LastServed:
    """What served, by the registry at an address.

    Attributes
    ----------
    registry : str
        The address, without a password. What another registry said is of no use.
    confirmed : datetime
        When it was last heard of, in UTC.
    versions : mapping of str to Version
        By the registered name.
    """

    registry: str
    confirmed: AwareDatetime
    versions: Mapping[str, Version]

    def write(self, folder: Path) -> None:
        """Keep this for the next start, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=".last-served-", dir=folder)
        with os.fdopen(number, "wb") as file:
            file.write(_FORM.dump_json(self, indent=1))
        os.replace(name, folder / FILE)


_FORM = TypeAdapter(LastServed)


def read(folder: Path, registry: str) -> LastServed | None:
    """Return what served last by this registry; None where nothing usable is kept."""
    path = folder / FILE
    try:
        # Strict: what is not of the type that was written has not been written by us.
        kept = _FORM.validate_json(path.read_bytes(), strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        logger.warning(
            "What served last cannot be read from %s (%s), so the registry has to say what serves. "
            "Delete the file; it is written again when the registry answers.",
            path,
            _what_is_wrong(error),
        )
        return None
    return kept if kept.registry == registry else None


def _what_is_wrong(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else fault["msg"]
