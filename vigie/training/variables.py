"""Environment variables that look like settings of Vigie, and are none."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pkgutil import resolve_name

from dotenv import dotenv_values

from vigie.config import Settings
from vigie.detectors.catalogue import algorithms

PREFIX = "VIGIE_"
OTHERS = (
    *("VIGIE_SOURCE_USERNAME", "VIGIE_SOURCE_PASSWORD", "VIGIE_SOURCE_TOKEN"),
    "VIGIE_DB_PASSWORD",
)
"""Variables with secrets, of sources and of ``compose.yaml``; none of the settings, which are
shown."""


def unknown_variables() -> list[str]:
    """Return a sentence for each variable of the environment or ``.env`` that nothing reads."""
    kinds = [Settings, *(resolve_name(a.settings) for a in algorithms().values() if a.settings)]
    known = {kind.variable(field) for kind in kinds for field in kind.model_fields} | {*OTHERS}
    ends = [name.removeprefix(PREFIX) for name in known if name.startswith(PREFIX)]
    given = {name.upper() for name in (*os.environ, *dotenv_values(".env"))}
    sentences = []
    for name in sorted(given - known):
        if name.startswith(PREFIX):
            # The beginning that all have in common makes them no more alike.
            near = get_close_matches(name.removeprefix(PREFIX), ends, n=1)
            meant = f" Did you mean {PREFIX}{near[0]}?" if near else ""
            sentences.append(f"{name} is no setting, and is ignored.{meant}")
    return sentences
