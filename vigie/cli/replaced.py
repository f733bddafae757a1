"""Which versions serve before and after a command, and whether they know the same sensors."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from vigie.cli.terminal import print_warning
from vigie.errors import ModelNotFoundError, ModelRefusedError, TrackingError

if TYPE_CHECKING:
    from vigie.registry.version import Version
    from vigie.services.mlflow_service import MLflowService

logger = logging.getLogger(__name__)

MOST_NAMED = 4
"""Sensors that a warning names."""


def serving_versions(tracking: MLflowService, names: Iterable[str]) -> dict[str, Version]:
    """Return the versions that serve, by name; none if the registry does not answer."""
    from vigie.registry.version import choose

    serving: dict[str, Version] = {}
    for name in names:
        try:
            serving[name] = choose(tracking.list_versions(name), name)
        except ModelNotFoundError:
            continue
        except TrackingError as error:
            # What the command itself needs of MLflow says so.
            logger.debug("%s", error)
            break
    return serving


def sensors_of(tracking: MLflowService, version: Version) -> tuple[str, ...]:
    """Return the columns of a version; none if it cannot be opened."""
    try:
        return tuple(tracking.open_version(version).feature_names)
    except (ModelRefusedError, ModelNotFoundError, TrackingError) as error:
        logger.debug("%s", error)
        return ()


def warn_of_other_sensors(
    tracking: MLflowService, before: Mapping[str, Version], new: Collection[str]
) -> None:
    """Warn if readings that the versions before could assess lack sensors of the new ones.

    Parameters
    ----------
    tracking : MLflowService
        Opens the versions before.
    before : mapping of str to Version
        What served, by the name of a model that has another version now.
    new : collection of str
        The columns of the new versions.
    """
    columns = {name: sensors_of(tracking, version) for name, version in before.items()}
    others = {name: old for name, old in columns.items() if old and not set(new) <= set(old)}
    if not others:
        return
    old = next(iter(others.values()))
    was_promoted = all(before[name].stage == "Production" for name in others)
    where = "In Production were" if was_promoted else "Until now"
    verb = "" if was_promoted else " served"
    command = "rollback NAME" if was_promoted else "promote NAME VERSION"
    numbers = ", ".join(f"{name} {before[name].version}" for name in others)
    print_warning(
        f"{where} versions with other sensors ({_listed(old)}){verb}: {numbers}. Readings "
        f"without {_listed(name for name in new if name not in old)} are refused once the new ones "
        f"serve. `vigie models {command}` brings the old ones back. A service has one set of "
        "models; for several kinds of machine see How-to, Several machines, in the documentation."
    )


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = ", ..." if len(shown) > MOST_NAMED else ""
    return ", ".join(shown[:MOST_NAMED]) + more
