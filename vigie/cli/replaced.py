"""Which versions serve before and after a command, and whether they know the same sensors."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vigie.cli.terminal import print_warning
from vigie.errors import ModelNotFoundError, ModelRefusedError, TrackingError, listed

if TYPE_CHECKING:
    from vigie.registry.version import Version
    from vigie.services.mlflow_service import MLflowService

logger = logging.getLogger(__name__)

MOST_NAMED = 4
"""Sensors that a warning names."""


@dataclass(frozen=True)
class Waiting:
    """Why a version does not serve yet, in sentences, and the models whose sensors it waits for."""

    reason: str
    others: Sequence[str] = ()


class ServingHere:
    """What a service in this folder serves, while a command changes the registry.

    Each look is saved, so that the next one here has the same answer while MLflow is away.

    Parameters
    ----------
    tracking : MLflowService
        The registry.
    """

    def __init__(self, tracking: MLflowService):
        from vigie.serving.follower import RegistryFollower
        from vigie.serving.served import ServedModels

        self._tracking = tracking
        self._models = ServedModels(tracking.settings)
        self._registry = RegistryFollower(
            tracking.settings, tracking.server, self._models, lambda: False, is_quiet=True
        )
        self._registry.resume()

    def refresh(self) -> None:
        """Look again, after a change of the registry."""
        self._registry.refresh()

    def waits(self, version: Version) -> Waiting | None:
        """Return why a version that should serve does not yet; None if it does."""
        from vigie.detectors.catalogue import algorithms

        name, number = version.name, version.version
        serving = self._models.current.for_everything.served
        problem, before = self._registry.problems.get(name), serving.get(name)
        if name not in algorithms() or not self._registry.answers or problem is None:
            return None
        columns = sensors_of(self._tracking, version)
        registered = serving_versions(self._tracking, (other for other in serving if other != name))
        others = [
            other
            for other, its_version in registered.items()
            if not set(columns) <= set(sensors_of(self._tracking, its_version))
        ]
        if before is None or not others:
            goes_on = f" Version {before.version} goes on serving." if before else ""
            return Waiting(f"Version {number} cannot serve: {problem.rstrip('.')}.{goes_on}")
        known = {sensor for served in serving.values() for sensor in served.model.feature_names}
        unknown = (column for column in columns if column not in known)
        verb = "does" if len(others) == 1 else "do"
        return Waiting(
            f"Version {before.version} goes on serving until the other models know the same "
            f"sensors: version {number} needs {listed(unknown, MOST_NAMED)}, "
            f"which {', '.join(others)} {verb} not know.",
            others,
        )


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
    from vigie.detectors.catalogue import algorithms

    columns = {name: sensors_of(tracking, version) for name, version in before.items()}
    others = {name: old for name, old in columns.items() if old and not set(new) <= set(old)}
    if not others:
        return
    old = next(iter(others.values()))
    was_promoted = all(before[name].stage == "Production" for name in others)
    where = "In Production were" if was_promoted else "Until now"
    verb = "" if was_promoted else " served"
    command = "promote NAME VERSION"
    if was_promoted:
        command = "rollback --all" if set(others) == set(algorithms()) else "rollback NAME"
    lacking = (name for name in new if name not in old)
    numbers = ", ".join(f"{name} {before[name].version}" for name in others)
    print_warning(
        f"{where} versions with other sensors ({listed(old, MOST_NAMED)}){verb}: {numbers}. "
        f"Readings without {listed(lacking, MOST_NAMED)} are refused once the new ones serve. "
        f"`vigie models {command}` brings the old ones back. A service has one set of models; for "
        "several kinds of machine see How-to, Several machines, in the documentation."
    )
