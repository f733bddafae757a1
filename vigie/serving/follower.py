"""Serve what the registry says: the newest version in Production, or the newest of all."""

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
from vigie.registry.cache import open_kept, open_version
from vigie.registry.server import Server
from vigie.registry.version import Version
from vigie.serving import last_served
from vigie.serving.compatibility import incompatible
from vigie.serving.last_served import LastServed
from vigie.serving.served import EVERYTHING, ModelKey, Served, ServedModels

logger = logging.getLogger(__name__)

REFUSED_FOR_S = 60.0
"""How long a version that was refused is not fetched again; another one is at once."""
REMEMBERED_EVERY = timedelta(minutes=1)
"""How old what is kept for the next start may become while nothing changes."""


@dataclass(frozen=True)
class Refusal:
    """A version that could not be opened, why, and until when (monotonic) it is not tried again."""

    version: Version
    error: VigieError
    until: float


class RegistryFollower:
    """Keep what serves in step with the registry.

    Parameters
    ----------
    settings : Settings
        Whether there is a registry, and where local state is kept.
    server : Server
        The registry's.
    models : ServedModels
        What serves.
    has_unsent : callable
        Whether trainings of this machine wait to be sent to the registry.

    Attributes
    ----------
    answers : bool
        Whether the registry answered when it was last asked.
    confirmed : datetime or None
        When the registry last said what is to serve; None if it never has.
    problems : mapping of str to str
        By registered name, why the version that the registry says does not serve.
    """

    def __init__(
        self,
        settings: Settings,
        server: Server,
        models: ServedModels,
        has_unsent: Callable[[], bool],
    ):
        self._settings, self._server, self._models = settings, server, models
        self._has_unsent = has_unsent
        self._asking = threading.Lock()
        self._asked = False
        self._refused: dict[str, Refusal] = {}
        self._following: dict[str, Version] = {}
        self._kept: LastServed | None = None
        self.answers = True
        self.confirmed: datetime | None = None
        self.problems: dict[str, str] = {}

    def ask_once(self) -> None:
        """Serve what the registry says, if it has not been asked yet."""
        if not self._asked:
            self.refresh()

    def refresh(self) -> None:
        """Serve what the registry says is to be served now.

        A version that cannot be opened leaves the one before in place; the reason is logged
        once and stands in ``problems``. A server that is away changes nothing.
        """
        with self._asking:
            if self._settings.mlflow_enabled:
                self._follow()
            self._asked = True

    def recall(self) -> None:
        """Serve what served last, from the copies on this machine, until the registry answers.

        Nothing is recalled of another registry, nor where tracking is disabled.
        """
        if not self._settings.mlflow_enabled or (kept := self._kept_before) is None:
            return
        for name, version in kept.versions.items():
            key = ModelKey(EVERYTHING, name)
            if name not in algorithms() or self._models.get(key) is not None:
                continue
            try:
                served = self._opened(name, version, kept=True)
            except VigieError as error:
                if self.problems.get(name) != str(error):
                    logger.warning("%s waits for the registry. %s", name, error)
                self.problems[name] = str(error)
                continue
            self._models.change({key: served})
            self._following[name] = version
            self.confirmed = kept.confirmed
            self._asked = True

    def adopt(self, name: str, trained: Served) -> None:
        """Let a model that was just trained answer, unless a promoted version goes on serving."""
        key = ModelKey(EVERYTHING, name)
        before = self._models.get(key)
        if trained.version is None:
            if before is None or before.stage != "Production":
                self._models.change({key: trained})
            return
        try:
            version = lookup.pick(self._server, name)
            if version.version != trained.version:
                trained = self._opened(name, version)
        except TrackingError as error:
            logger.warning("The version just trained serves. %s", error)
        except VigieError as error:
            logger.error("The version just trained serves. %s", error)
        self._models.change({key: trained})

    def remember(self, *, at_once: bool = False) -> None:
        """Keep what serves for the next start: when it changes, and else now and then."""
        if self.confirmed is None:
            return
        kept, now = self._kept, self.confirmed
        same = kept is not None and kept.versions == self._following
        if same and kept is not None and not at_once and now - kept.confirmed < REMEMBERED_EVERY:
            return
        self._kept = LastServed(self._server.masked_uri, now, dict(self._following))
        try:
            self._kept.write(self._settings.state_dir)
        except OSError as error:
            logger.warning("What serves is not remembered for the next start: %s.", error)

    @cached_property
    def _kept_before(self) -> LastServed | None:
        """What an earlier process has left; read once, so that a fault in it is told once."""
        return last_served.read(self._settings.state_dir, self._server.masked_uri)

    @property
    def _cache(self) -> Path:
        return self._settings.state_dir / "models"

    def _follow(self) -> None:
        """Serve what the registry says; what has changed in it, all at once."""
        before = self._models.current.for_everything.served
        versions: dict[str, Version] = {}
        coming: dict[str, Served] = {}
        going: dict[str, Served] = {}
        problems: dict[str, VigieError] = {}
        for name in algorithms():
            served = before.get(name)
            try:
                version = lookup.pick(self._server, name)
                if self._knows_better(served, version):
                    coming[name] = self._opened_unless_refused(name, version)
                    versions[name] = version
            except ModelNotFoundError:
                # Archived or deleted: it must not be answered from any more.
                self._following.pop(name, None)
                if served is not None and served.version is not None:
                    going[name] = served
            except TrackingUnavailableError as error:
                self._server.log_outage(error)
                self.answers = False
                if self.confirmed is None:
                    self.recall()
                return
            except VigieError as error:
                problems[name] = error
        staying = {name: served for name, served in before.items() if name not in going}
        misfits = incompatible(staying, coming)
        fit = {name: served for name, served in coming.items() if name not in misfits}
        self._models.change(_by_key(fit), _by_key(going))
        self._following |= {name: versions[name] for name in fit}
        self._tell({**problems, **misfits})
        self.answers = True
        self.confirmed = datetime.now(UTC)
        self.remember()

    def _knows_better(self, served: Served | None, version: Version) -> bool:
        """Whether the registry's answer takes the place of what serves.

        What was trained while the server was away is newer than all it knows, until that has
        been sent; only a promotion comes before it.
        """
        if served is None or served.version is not None or version.stage == "Production":
            return True
        return served.card_sha256 is not None and not self._has_unsent()

    def _opened_unless_refused(self, name: str, version: Version) -> Served:
        """Return what would answer from a version; one that was just refused is not tried again."""
        known = self._refused.get(name)
        if known is not None and known.version == version and time.monotonic() < known.until:
            raise known.error
        try:
            return self._opened(name, version)
        except TrackingUnavailableError:
            raise
        except VigieError as error:
            self._refused[name] = Refusal(version, error, time.monotonic() + REFUSED_FOR_S)
            raise

    def _opened(self, name: str, version: Version, *, kept: bool = False) -> Served:
        before = self._models.get(ModelKey(EVERYTHING, name))
        return open_served(self._server, self._cache, name, version, before, kept=kept)

    def _tell(self, problems: Mapping[str, VigieError]) -> None:
        """Keep what is wrong with what the registry says, and log what is new of it."""
        for name, error in problems.items():
            if self.problems.get(name) != str(error):
                logger.error("%s goes on serving what it served. %s", name, error)
        self.problems = {name: str(error) for name, error in problems.items()}


def open_served(
    server: Server,
    cache: Path,
    name: str,
    version: Version,
    before: Served | None = None,
    *,
    kept: bool = False,
) -> Served:
    """Return what answers from a version of an algorithm.

    Parameters
    ----------
    server : Server
        The registry's.
    cache : Path
        Where copies of versions are kept.
    name : str
        The algorithm.
    version : Version
        What to open.
    before : Served, optional
        What answers now; it is taken if it is this very version.
    kept : bool, default False
        Only from the copy on this machine, without asking the registry.

    Raises
    ------
    ModelRefusedError
        If it cannot be opened, or is of another kind.
    """
    # Numbers begin again after a registered model has been deleted; runs do not.
    if before and (before.version, before.run_id) == (version.version, version.run_id):
        return replace(before, stage=version.stage)
    model = open_kept(version, cache) if kept else open_version(server, version, cache)
    if model.algorithm != name:
        raise ModelRefusedError(
            f"Version {version.version} of '{version.name}' is a {model.algorithm}.",
            field="version",
            remedy=f"Register it as '{model.algorithm}'.",
        )
    return Served(model, version.version, version.stage, version.run_id)


def _by_key(served: Mapping[str, Served]) -> dict[ModelKey, Served]:
    return {ModelKey(EVERYTHING, name): one for name, one in served.items()}
