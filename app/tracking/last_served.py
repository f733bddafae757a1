"""Which versions served last, kept beside their copies: a service starts with these.

A service that has just started knows nothing of the registry, and the registry may be away. What
it answered from before, and when the registry last said so, stands in one small file.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from app.tracking.registry import Version

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
    confirmed: datetime
    versions: Mapping[str, Version]

    def write(self, folder: Path) -> None:
        """Keep this for the next start, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {
                "registry": self.registry,
                "confirmed": self.confirmed.isoformat(),
                "versions": {name: asdict(version) for name, version in self.versions.items()},
            },
            indent=1,
        )
        number, name = tempfile.mkstemp(prefix=".last-served-", dir=folder)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, folder / FILE)


def read(folder: Path, registry: str) -> LastServed | None:
    """Return what served last by this registry; None where nothing usable is kept."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if kept["registry"] != registry:
            return None
        versions = {name: Version(**facts) for name, facts in kept["versions"].items()}
        return LastServed(registry, datetime.fromisoformat(kept["confirmed"]), versions)
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
