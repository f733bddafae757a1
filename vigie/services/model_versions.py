"""The versions of the models: which there are, which serves, and how they came to their stages."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vigie.detectors.catalogue import algorithms
from vigie.errors import ConflictError
from vigie.models.comparison import Comparison
from vigie.registry import history, lookup, pages, stages
from vigie.registry.history import Move
from vigie.registry.scopes import MARK
from vigie.registry.version import Run, Version, choose, in_stage, unknown_model
from vigie.services.mlflow_service import MLflowService
from vigie.serving.follower import RegistryFollower

ASSET = re.compile(r"[0-9A-Za-z._-]+")
"""The part of a registered name that names an asset; see ``vigie.registry.scopes``."""

Status = Mapping[str, Mapping[str, Any]]


class ModelVersions:
    """Ask the registry for the versions of the models that serve, and move them.

    Every method raises ``ConflictError`` if tracking is disabled, ``TrackingUnavailableError`` if
    the server does not answer, and ``ModelNotFoundError`` if there is no such model. The models are
    those of the catalogue, and those of single assets, such as ``isolation_forest--pump-3``.

    Parameters
    ----------
    tracking : MLflowService
        The registry.
    follower : RegistryFollower
        Serves what is promoted.
    status : callable
        Returns the state of each model of the catalogue, as ``/status`` has it.
    comparison : callable
        Returns how the version of a model in Staging compares with the one that serves, if so.
    """

    def __init__(
        self,
        tracking: MLflowService,
        follower: RegistryFollower,
        status: Callable[[], Status],
        comparison: Callable[[str], Comparison | None],
    ):
        self._tracking, self._follower, self._status = tracking, follower, status
        self._comparison = comparison
        self._known = lookup.KnownVersions(tracking.server)
        self._asking = threading.Lock()

    def models(self) -> list[dict[str, Any]]:
        """Return each model of the catalogue: what serves, and what is in the registry."""
        self._require_registry()
        with self._asking:
            self._known.check(tuple(algorithms()))
            registered = {name: self._known.of(name) for name in algorithms()}
        status = self._status()
        return [
            {
                "name": name,
                "algorithm": name,
                "serving": _serving(status[name]),
                "production": _number(in_stage(versions, "Production")),
                "staging": _number(in_stage(versions, "Staging")),
                "newest": _number(versions[0] if versions else None),
                "n_versions": len(versions),
                "problem": status[name]["problem"],
            }
            for name, versions in registered.items()
        ]

    def versions(self, name: str, limit: int) -> list[dict[str, Any]]:
        """Return the last versions of a model, newest first, with what their runs logged."""
        return self._described(self._registered(name)[:limit])

    def history(self, name: str, limit: int) -> list[dict[str, Any]]:
        """Return the last moves of a model's versions between stages, newest first."""
        return [_move(move) for move in history.of(self._registered(name))[:limit]]

    def promote(
        self, name: str, version: int, stage: str, reason: str | None = None, by: str | None = None
    ) -> dict[str, Any]:
        """Move a version to a stage; one in Production serves here when this returns.

        Parameters
        ----------
        name, version, stage
            The model, the version and its new stage.
        reason, by : str, optional
            Why and who, for the history.

        Returns
        -------
        dict
            The version, with the ``previous`` one in this stage, the ``problem`` if the model does
            not serve as the registry says, and what its comparison says (``compared``), if it has
            been compared. The history has that behind the reason.

        Raises
        ------
        ConflictError
            If another version was moved to the stage at the same time.
        """
        self._require(name)
        compared = self._compared(name, version) if stage == "Production" else None
        why = history.because(by, reason, compared)
        before, now = stages.move(self._tracking.server, name, version, stage, why=why)
        return {**self._moved(before, now), "compared": compared}

    def rollback(
        self, name: str, reason: str | None = None, by: str | None = None
    ) -> dict[str, Any]:
        """Promote the version that was in Production before; see ``promote``.

        Raises
        ------
        ModelNotFoundError
            If no version is in Production, or none was before it.
        """
        self._require(name)
        why = history.because(by, reason)
        return {**self._moved(*stages.rollback(self._tracking.server, name, why)), "compared": None}

    def _compared(self, name: str, version: int) -> str | None:
        if name not in algorithms():
            return None
        found = self._comparison(name)
        return found.summary if found is not None and found.challenger.version == version else None

    def _moved(self, before: Version | None, now: Version) -> dict[str, Any]:
        self._follower.refresh()
        [described] = self._described([now])
        problem = None
        if now.name in algorithms():
            problem = self._status()[now.name]["problem"]
            if problem is None and now.stage == "Production" and not described["is_serving"]:
                problem = f"Version {now.version} does not serve yet; /status says what does."
        return {**described, "previous": _number(before), "problem": problem}

    def _registered(self, name: str) -> list[Version]:
        """Return all versions of a model, newest first."""
        self._require(name)
        found = lookup.versions(self._tracking.server, name)
        if not found and MARK in name:
            choose(found, name)
        return found

    def _described(self, versions: Sequence[Version]) -> list[dict[str, Any]]:
        server, status = self._tracking.server, self._status()
        runs = lookup.runs(server, [v.run_id for v in versions if v.run_id is not None])
        return [
            {
                "version": version.version,
                "stage": version.stage,
                "is_serving": _is_serving(version, status.get(version.name)),
                "created": _time(version.created_ms),
                "trained": _time(version.trained_ms),
                "promoted": _time(version.promoted_ms),
                "run_id": version.run_id,
                **_of_run(server.uri, runs.get(version.run_id or "")),
            }
            for version in versions
        ]

    def _require_registry(self) -> None:
        if not self._tracking.enabled:
            raise ConflictError(
                "Tracking is disabled, so there is no registry.",
                field="MLFLOW_ENABLED",
                remedy="Start the service with MLFLOW_ENABLED=true. /status says what serves.",
            )

    def _require(self, name: str) -> None:
        """Raise if there is no registry, or if no model of it can have this name."""
        self._require_registry()
        algorithm, mark, asset = name.partition(MARK)
        if algorithm not in algorithms() or (mark and not ASSET.fullmatch(asset)):
            raise unknown_model(name)


def _serving(status: Mapping[str, Any]) -> dict[str, Any] | None:
    if not status["trained"]:
        return None
    return {"version": status["version"], "stage": status["stage"]}


def _is_serving(version: Version, status: Mapping[str, Any] | None) -> bool:
    return status is not None and status["version"] == version.version


def _number(version: Version | None) -> int | None:
    return None if version is None else version.version


def _of_run(uri: str, run: Run | None) -> dict[str, Any]:
    if run is None:
        return {"run_name": None, "run_page": None, "metrics": {}, "parameters": {}}
    return {
        "run_name": run.name,
        "run_page": pages.run_page(uri, run.experiment_id, run.run_id),
        "metrics": run.metrics,
        "parameters": run.params,
    }


def _move(move: Move) -> dict[str, Any]:
    return {
        "at": _time(move.at_ms),
        "version": move.version,
        "from_stage": move.from_stage,
        "to_stage": move.to_stage,
        "action": move.action,
        "by": move.by,
        "reason": move.reason,
        "run_id": move.run_id,
    }


def _time(unix_ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(unix_ms / 1000, UTC) if unix_ms else None
