"""Serve the registry's versions: the newest in Production, or the newest of all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.errors import (
    ModelNotFoundError,
    ModelRefusedError,
    TrackingError,
    TrackingUnavailableError,
    VigieError,
)
from vigie.registry import lookup
from vigie.registry.cache import open_cached, open_version
from vigie.registry.scopes import EVERYTHING
from vigie.registry.server import Server
from vigie.registry.version import Version, choose, in_stage
from vigie.serving import last_served
from vigie.serving.compatibility import incompatible
from vigie.serving.last_served import LastServed
from vigie.serving.served import ModelKey, Served, ServedModels
from vigie.serving.trial import require_verdicts

logger = logging.getLogger(__name__)

REFUSED_FOR_S = 60.0
"""Pause before a retry of a version that could not be opened; other versions are tried at once."""
SAVE_EVERY = timedelta(minutes=1)
"""How often an unchanged state is saved for the next start."""


@dataclass(frozen=True)
class Refusal:
    """A version that could not be opened, the error, and the monotonic time of the next retry."""

    version: Version
    error: VigieError
    until: float


class RegistryFollower:
    """Update the models that serve from the registry.

    Parameters
    ----------
    settings : Settings
        Whether tracking is enabled, and the folder of local state.
    server : Server
        The registry's server.
    models : ServedModels
        The models to update.
    has_unsent : callable
        Returns whether trainings of this machine are still in the outbox.
    is_quiet : bool, default False
        Whether what does not serve is for the caller to tell; see ``problems``.

    Attributes
    ----------
    answers : bool
        Whether the registry answered the last request.
    confirmed : datetime or None
        Time of the last successful refresh, by this or an earlier process; None if there was none.
    problems : mapping of str to str
        By algorithm, why the registry's version does not serve.
    outages : set of str
        Those of ``problems`` in which the registry itself fails: they name its address.
    unserved : mapping of str to ModelNotFoundError
        By algorithm, that the registry has versions, but none to serve, with the remedy.
    staged : mapping of str to Version
        By algorithm, the version in Staging; none of them serves for that.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        models: ServedModels,
        has_unsent: Callable[[], bool],
        *,
        is_quiet: bool = False,
    ):
        self._settings, self._server, self._models = settings, server, models
        self._known = lookup.KnownVersions(server)
        self._has_unsent, self._is_quiet = has_unsent, is_quiet
        self._refreshing = threading.Lock()
        self._is_current = False
        self._refused: dict[str, Refusal] = {}
        self._following: dict[str, Version] = {}
        self._earlier: dict[str, tuple[Served, Version | None]] = {}
        self._saved: LastServed | None = None
        self.answers = True
        self.confirmed: datetime | None = None
        self.problems: dict[str, str] = {}
        self.outages: set[str] = set()
        self.unserved: dict[str, ModelNotFoundError] = {}
        self.staged: dict[str, Version] = {}

    def refresh_once(self) -> None:
        """Refresh, unless that has been done already."""
        if not self._is_current:
            self.refresh()

    def refresh(self) -> None:
        """Serve the registry's current versions.

        If a version cannot be opened, the previous one keeps serving; the reason is logged once,
        and available in ``problems``. If the server does not answer, nothing changes.
        """
        with self._refreshing:
            if self._settings.mlflow_enabled:
                self._follow()
            self._is_current = True

    def resume(self) -> None:
        """Serve what a service that is restarted here would: what served last, then the registry's.

        Until the models that assess the same readings know its sensors, a version waits as it does
        in a running service.
        """
        self._restore()
        self.refresh()
        if not self.answers:
            self._log_waiting(self.problems)

    def restore(self) -> None:
        """Serve the versions that served last, from the local cache, until the registry answers.

        The versions of another registry are not restored, nor any if tracking is disabled.
        """
        before = dict(self.problems)
        self._restore()
        self._log_waiting(
            {name: why for name, why in self.problems.items() if before.get(name) != why}
        )

    def _restore(self) -> None:
        if not self._settings.mlflow_enabled or (saved := self._saved_before) is None:
            return
        for name, version in saved.versions.items():
            key = ModelKey(EVERYTHING, name)
            if name not in algorithms() or self._models.get(key) is not None:
                continue
            try:
                served = self._open(name, version, from_cache=True)
            except VigieError as error:
                self.problems[name] = str(error)
                continue
            self._models.change({key: served})
            self._following[name] = version
            self.confirmed = saved.confirmed
            self._is_current = True

    def adopt(self, name: str, trained: Served) -> None:
        """Serve a model that was just trained, unless a promoted version has precedence."""
        key = ModelKey(EVERYTHING, name)
        before = self._models.get(key)
        if trained.version is None:
            if before is None or before.stage != "Production":
                self._models.change({key: trained})
            return
        try:
            version = lookup.pick(self._server, name)
            if version.version != trained.version:
                trained = self._open(name, version)
        except TrackingError as error:
            logger.warning("The version just trained serves. %s", error, extra={"model": name})
        except VigieError as error:
            logger.error("The version just trained serves. %s", error, extra={"model": name})
        self._models.change({key: trained})

    def earlier(self) -> dict[str, Served]:
        """Return the model that served before each version that has taken the place of one."""
        return {name: served for name, (served, _) in self._earlier.items()}

    def withdraw(self, name: str, error: Exception) -> None:
        """Serve the model before again, since the version that replaced it fails while serving.

        The version is not opened again until the registry has another one, or changes it.
        """
        earlier, version = self._earlier.pop(name)
        key = ModelKey(EVERYTHING, name)
        failing, refused = self._models.get(key), self._following.get(name)
        self._models.change({key: earlier})
        number = None if failing is None else failing.version
        why = ModelRefusedError(
            f"Version {number} of '{name}' fails on readings. The version before serves again.",
            field="version",
            remedy="Promote another version (`vigie models rollback`), or train the model again.",
        )
        if refused is not None:
            self._refused[name] = Refusal(refused, why, float("inf"))
        if version is None:
            self._following.pop(name, None)
        else:
            self._following[name] = version
        self.problems = {**self.problems, name: str(why)}
        logger.error("%s", why, exc_info=error, extra={"model": name, "version": number})
        self.save(at_once=True)

    def save(self, *, at_once: bool = False) -> None:
        """Save which versions serve for the next start: after a change, and at intervals."""
        if self.confirmed is None:
            return
        saved, now = self._saved, self.confirmed
        is_same = saved is not None and saved.versions == self._following
        if is_same and saved is not None and not at_once and now - saved.confirmed < SAVE_EVERY:
            return
        self._saved = LastServed(self._server.masked_uri, now, dict(self._following))
        folder = self._settings.state_dir
        there = last_served.read(folder, self._server.masked_uri, quietly=True)
        if there is not None and now < there.confirmed <= datetime.now(UTC):
            # Another process, such as `vigie models promote`, has asked the registry since.
            return
        try:
            self._saved.write(folder)
        except OSError as error:
            logger.warning("The versions that serve are not saved for the next start: %s.", error)

    @cached_property
    def _saved_before(self) -> LastServed | None:
        """The state saved by an earlier process; read once, so that a fault is logged once."""
        return last_served.read(self._settings.state_dir, self._server.masked_uri)

    def _follow(self) -> None:
        """Serve the registry's versions, if it answers."""
        try:
            self._known.check(tuple(algorithms()))
            self._serve_known()
        except TrackingUnavailableError as error:
            self._server.log_outage(error)
            self.answers = False
            if self.confirmed is None:
                self.restore()
            return
        self.answers = True
        self.confirmed = datetime.now(UTC)
        self.save()

    def _serve_known(self) -> None:
        """Serve the registry's versions; all changes take effect at once."""
        before = self._models.current.for_everything.served
        versions: dict[str, Version] = {}
        coming: dict[str, Served] = {}
        going: dict[str, Served] = {}
        problems: dict[str, VigieError] = {}
        unserved: dict[str, ModelNotFoundError] = {}
        staged: dict[str, Version] = {}
        for name in algorithms():
            served = before.get(name)
            try:
                versions_there = self._known.of(name)
                if (challenger := in_stage(versions_there, "Staging")) is not None:
                    staged[name] = challenger
                version = choose(versions_there, name)
                if self._supersedes(version, served):
                    coming[name] = self._open_unless_refused(name, version)
                    versions[name] = version
            except ModelNotFoundError as error:
                # Archived or deleted: it must stop serving.
                if versions_there:
                    unserved[name] = error
                self._following.pop(name, None)
                if served is not None and served.version is not None:
                    going[name] = served
            except TrackingUnavailableError:
                raise
            except VigieError as error:
                problems[name] = error
        staying = {name: served for name, served in before.items() if name not in going}
        misfits = incompatible(staying, coming)
        fit = {name: served for name, served in coming.items() if name not in misfits}
        for name, served in fit.items():
            earlier = before.get(name)
            if earlier is not None and earlier.model is not served.model:
                self._earlier[name] = earlier, self._following.get(name)
        self._models.change(_by_key(fit), _by_key(going))
        self._following |= {name: versions[name] for name in fit}
        self._report({**problems, **misfits})
        for name in going:
            reason = unserved.get(name, f"The registry has no version of '{name}' any more.")
            self._log(logging.WARNING, "%s has stopped serving. %s", name, reason)
        self.unserved, self.staged = unserved, staged

    def _supersedes(self, version: Version, served: Served | None) -> bool:
        """Whether the registry's version replaces the model that serves.

        A model trained during an outage is newer than all versions in the registry until it has
        been sent; only a promoted version replaces it.
        """
        if served is None or served.version is not None or version.stage == "Production":
            return True
        return served.card_sha256 is not None and not self._has_unsent()

    def _open_unless_refused(self, name: str, version: Version) -> Served:
        """Open a version, unless that has just failed: then raise the same error."""
        refusal = self._refused.get(name)
        if refusal is not None and refusal.version == version and time.monotonic() < refusal.until:
            raise refusal.error
        try:
            return self._open(name, version)
        except TrackingUnavailableError:
            raise
        except VigieError as error:
            self._refused[name] = Refusal(version, error, time.monotonic() + REFUSED_FOR_S)
            raise

    def _open(self, name: str, version: Version, *, from_cache: bool = False) -> Served:
        before = self._models.get(ModelKey(EVERYTHING, name))
        return open_served(
            self._server, self._settings.model_cache, name, version, before, from_cache=from_cache
        )

    def _report(self, problems: Mapping[str, VigieError]) -> None:
        """Set ``problems``, and log those that are new."""
        for name, error in problems.items():
            if self.problems.get(name) != str(error):
                self._log(logging.ERROR, "%s keeps serving its previous version. %s", name, error)
        self.problems = {name: str(error) for name, error in problems.items()}
        self.outages = {
            name for name, error in problems.items() if isinstance(error, TrackingError)
        }

    def _log_waiting(self, problems: Mapping[str, str]) -> None:
        for name, problem in problems.items():
            self._log(logging.WARNING, "%s waits for the registry. %s", name, problem)

    def _log(self, level: int, message: str, name: str, reason: object) -> None:
        shown = logging.DEBUG if self._is_quiet else level
        logger.log(shown, message, name, reason, extra={"model": name})


def open_served(
    server: Server,
    cache: Path,
    name: str,
    version: Version,
    before: Served | None = None,
    *,
    from_cache: bool = False,
) -> Served:
    """Open a version of an algorithm.

    Parameters
    ----------
    server : Server
        The registry's server.
    cache : Path
        Folder of the cached versions.
    name : str
        The algorithm.
    version : Version
        The version to open.
    before : Served, optional
        The model that serves now; it is reused if it is this version.
    from_cache : bool, default False
        Use only the cached copy, without a request to the registry.

    Raises
    ------
    ModelRefusedError
        If it cannot be opened, or is of another algorithm.
    """
    # A registered model that is deleted and created again restarts its numbers, so compare the run.
    if before and (before.version, before.run_id) == (version.version, version.run_id):
        return replace(before, stage=version.stage)
    model = open_cached(version, cache) if from_cache else open_version(server, version, cache)
    if model.algorithm != name:
        raise ModelRefusedError(
            f"Version {version.version} of '{version.name}' is a {model.algorithm}.",
            field="version",
            remedy=f"Register it as '{model.algorithm}'.",
        )
    try:
        require_verdicts(model)
    except ModelRefusedError as error:
        error.message = f"'{version.name}' version {version.version}: {error.message}"
        raise
    return Served(model, version.version, version.stage, version.run_id)


def _by_key(served: Mapping[str, Served]) -> dict[ModelKey, Served]:
    return {ModelKey(EVERYTHING, name): model for name, model in served.items()}
