"""Environment variables that look like settings of Vigie, and are none."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from vigie.config import FILE_VARIABLE, env_file_names, settings_kinds

logger = logging.getLogger(__name__)

PREFIX, MLFLOW = "VIGIE_", "MLFLOW_"
NEAR = 0.9
"""How like one of ours a name has to be, to be called a misspelling of it: MLflow has many more."""
NAMED = "_VIGIE_NAMED"
"""Holds the variables that this process or its parent has named."""
OTHERS = (
    *("VIGIE_SOURCE_USERNAME", "VIGIE_SOURCE_PASSWORD", "VIGIE_SOURCE_TOKEN"),
    *("VIGIE_DB_PASSWORD", FILE_VARIABLE),
)
"""Variables of sources, of ``compose.yaml``, and the configuration file's: none is a setting."""


SERVICE_LINK = re.compile(
    r"(VIGIE(?:_\w+)?)_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes sets in each pod for a Service, after the Service's name."""


def unknown_variables(read: Collection[str] = ()) -> list[str]:
    """Return a sentence for each variable of the environment or ``.env`` that nothing reads.

    Parameters
    ----------
    read : collection of str
        Variables that are read besides, such as those in the address of a source.

    Raises
    ------
    SettingsFileError
        If ``.env`` cannot be read.
    """
    return list(_unknown(read).values())


def name_unknown_variables(read: Collection[str] = ()) -> None:
    """Log each of these sentences, unless this process or its parent has done so.

    Parameters
    ----------
    read : collection of str
        As for ``unknown_variables``.
    """
    named = os.environ.get(NAMED, "").split()
    for name, sentence in _unknown(read).items():
        if name not in named:
            logger.warning(sentence)
            named.append(name)
    if named:
        os.environ[NAMED] = " ".join(named)


def _unknown(read: Collection[str]) -> dict[str, str]:
    kinds = settings_kinds()
    known = {kind.variable(field) for kind in kinds for field in kind.model_fields} | {*OTHERS}
    ends = [name.removeprefix(PREFIX) for name in known if name.startswith(PREFIX)]
    # Settings are read by the names of their fields too, whatever the case.
    known |= {f"{PREFIX}{field}".upper() for kind in kinds for field in kind.model_fields}
    known |= {name.upper() for name in read}
    given = {name.upper() for name in (*os.environ, *env_file_names())}
    sentences = {}
    for name in sorted(given - known):
        if name.startswith(PREFIX) and not _is_service_link(name, given):
            # The beginning that all have in common makes them no more alike.
            near = get_close_matches(name.removeprefix(PREFIX), ends, n=1)
            meant = f" Did you mean {PREFIX}{near[0]}?" if near else ""
            sentences[name] = f"{name} is no setting, and is ignored.{meant}"
        elif name.startswith(MLFLOW):
            ours = [known_name for known_name in known if known_name.startswith(MLFLOW)]
            near = get_close_matches(name, ours, n=1, cutoff=NEAR)
            if near and not _mlflow_reads(name):
                sentences[name] = f"{name} is no setting, and is ignored. Did you mean {near[0]}?"
    return sentences


def _mlflow_reads(name: str) -> bool:
    """Return whether MLflow knows a variable, without importing it, which takes seconds."""
    mlflow = find_spec("mlflow")
    if mlflow is None or mlflow.origin is None:
        return False
    listed = Path(mlflow.origin).with_name("environment_variables.py")
    return listed.is_file() and f'"{name}"' in listed.read_text(encoding="utf-8")


def _is_service_link(name: str, given: Collection[str]) -> bool:
    link = SERVICE_LINK.fullmatch(name)
    return link is not None and f"{link[1]}_SERVICE_HOST" in given
