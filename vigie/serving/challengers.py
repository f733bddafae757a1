"""The versions in Staging beside those that serve, opened to be compared with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vigie.errors import ModelNotFoundError, TrackingError, VigieError
from vigie.registry.server import Server
from vigie.registry.version import Version
from vigie.serving.compatibility import incompatible
from vigie.serving.follower import REFUSED_FOR_S, Refusal, open_served
from vigie.serving.served import Served, ServedModels

logger = logging.getLogger(__name__)

REGISTRY_FAILS = "The registry fails, so that the version cannot be opened; see the log."
"""In place of an error that names the registry's address."""


@dataclass(frozen=True)
class Pair:
    """A version that serves, and the one in Staging that could take its place.

    Attributes
    ----------
    champion : Served
        It serves.
    challenger : Version
        The version in Staging.
    opened : Served or None
        The same, opened; None if it could not serve.
    problem : str or None
        Why not.
    """

    champion: Served
    challenger: Version
    opened: Served | None = None
    problem: str | None = None


class Challengers:
    """The versions in Staging, opened when somebody asks for them.

    They are checked like a version that is to serve, and never affect what serves.

    Parameters
    ----------
    server : Server
        The registry's server.
    cache : Path
        Folder of the cached versions.
    models : ServedModels
        The models that serve.
    staged : callable
        Returns, by algorithm, the version that the registry has in Staging.
    """

    def __init__(
        self,
        server: Server,
        cache: Path,
        models: ServedModels,
        staged: Callable[[], Mapping[str, Version]],
    ):
        self._server, self._cache, self._models, self._staged = server, cache, models, staged
        self._opening = threading.Lock()
        self._opened: dict[str, Served] = {}
        self._refused: dict[str, Refusal] = {}

    def any(self) -> bool:
        """Return whether some version in Staging may have to be compared; costs nothing."""
        return bool(self._staged())

    def of(self, name: str) -> Pair | None:
        """Return the pair of an algorithm; its challenger is not opened for it."""
        challenger = self._staged().get(name)
        champion = self._models.current.for_everything.served.get(name)
        if challenger is None or champion is None or champion.version is None:
            return None
        if (champion.version, champion.run_id) == (challenger.version, challenger.run_id):
            return None
        return Pair(champion, challenger)

    def pairs(self) -> dict[str, Pair]:
        """Return every pair by algorithm; challengers that are not open yet are opened.

        One that is refused is logged once, and tried again after a while.
        """
        with self._opening:
            pairs = {
                name: self._open(name, pair) for name in self._staged() if (pair := self.of(name))
            }
            self._opened = {n: pair.opened for n, pair in pairs.items() if pair.opened is not None}
            return pairs

    def _open(self, name: str, pair: Pair) -> Pair:
        version, before = pair.challenger, self._opened.get(name)
        refusal = self._refused.get(name)
        if refusal is None or refusal.version != version or time.monotonic() >= refusal.until:
            try:
                opened = open_served(self._server, self._cache, name, version, before)
                serving = self._models.current.for_everything.served
                if misfit := incompatible(serving, {name: opened}).get(name):
                    raise misfit
                self._refused.pop(name, None)
                return replace(pair, opened=opened)
            except VigieError as error:
                known = refusal and (refusal.version, str(refusal.error))
                if known != (version, str(error)):
                    logger.warning("%s is not compared with the one in Staging. %s", name, error)
                refusal = Refusal(version, error, time.monotonic() + REFUSED_FOR_S)
                self._refused[name] = refusal
        fails = isinstance(refusal.error, TrackingError)
        return replace(pair, problem=REGISTRY_FAILS if fails else str(refusal.error))


def nothing_to_compare(
    name: str, champion: int | None, staged: int | None, *, answers: bool = True
) -> ModelNotFoundError:
    """Return the error for a model without a version to compare: why, and what to do.

    Parameters
    ----------
    name : str
        The model.
    champion, staged : int or None
        The version that serves, and the one in Staging.
    answers : bool
        Whether the registry answers.
    """
    promote = f"`vigie models promote {name} VERSION"
    if champion is not None and staged == champion:
        return ModelNotFoundError(
            f"Version {staged} of '{name}' is in Staging, but serves itself: no version is in "
            "Production.",
            remedy=f"{promote}` puts another one in Production.",
        )
    if staged is not None:
        return ModelNotFoundError(
            f"No registered version of '{name}' serves that version {staged} could be compared "
            "with.",
            remedy=f"{promote}` puts one in Production.",
        )
    doubt = "" if answers else " The registry does not answer, so one may have come since."
    return ModelNotFoundError(
        f"No version of '{name}' is in Staging, so there is nothing to compare.{doubt}",
        remedy=f"{promote} --stage Staging` puts one there; `vigie models list` shows them.",
    )
