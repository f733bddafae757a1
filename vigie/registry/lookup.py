"""Look up the versions of a model in the registry, and the one that serves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from vigie.errors import ModelNotFoundError, TrackingError, TrackingUnavailableError, VigieError
from vigie.registry.client import ClientRegistry
from vigie.registry.rest import RestRegistry
from vigie.registry.server import Server
from vigie.registry.version import Run, Version, apply_aliases, choose

RUNS_AT_ONCE = 100
"""Runs that are searched by one request, whose filter names each."""
RUN_ID = re.compile(r"[\w-]{1,256}", re.ASCII)


class Registry(Protocol):
    """A registry of models, by REST or through MLflow's client.

    Every method raises ``TrackingUnavailableError`` if the server does not answer,
    ``ModelNotFoundError`` if the object does not exist, and ``TrackingError`` if it refuses.
    """

    def versions_and_aliases(self, name: str) -> tuple[list[Version], dict[str, int]]:
        """Return the versions of a model, each in its own stage, and the number of each alias.

        Queried in this order, so that during a move a stage may have two holders, but never none.
        """

    def summary(self, names: Sequence[str]) -> object:
        """Return what one request tells of some models: their newest versions, and their aliases.

        It is another whenever a version is registered, moved or deleted, or an alias is set.
        """

    def run_metrics(self, run_id: str) -> tuple[str | None, dict[str, float]]:
        """Return the name and the metrics of a run."""

    def run_params(self, run_id: str) -> dict[str, str]:
        """Return the parameters of a run."""

    def runs(self, run_ids: Sequence[str]) -> list[Run]:
        """Return those of some runs that there are, deleted ones too."""

    def tags(self, name: str) -> dict[str, str]:
        """Return the tags of a model."""

    def set_tag(self, name: str, version: int | None, key: str, value: str) -> None:
        """Set a tag of a version, or of the model."""

    def delete_tag(self, name: str, version: int | None, key: str) -> None:
        """Delete a tag of a version, or of the model; none is no error."""

    def set_stage(self, name: str, version: int, stage: str) -> None:
        """Move one version, and no other, to a stage."""

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Set an alias of a model to a version."""

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias of a model; none is no error."""

    def artifact_uri(self, version: Version) -> str:
        """Return the URI of a version's artifacts."""

    def fetch(self, uri: str, files: Sequence[str], target: Path) -> Path:
        """Download a folder of artifacts with these files to an empty one; return its path."""


def registry_of(server: Server) -> Registry:
    """Return the registry of a server: by REST if possible, else through MLflow's client."""
    return RestRegistry(server) if server.speaks_rest else ClientRegistry(server)


@contextmanager
def like_mlflow(server: Server) -> Iterator[None]:
    """Turn what goes wrong with an answer of another form into a ``TrackingError``."""
    try:
        yield
    except VigieError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise TrackingError(
            f"The server at {server.masked_uri} does not answer like MLflow: {error!r}.",
            remedy="`vigie doctor` checks the server step by step.",
        ) from error


def versions(server: Server, name: str) -> list[Version]:
    """Return all versions of a model, newest first; empty if there is no such model."""
    return apply_aliases(*versions_and_aliases(server, name))


def versions_and_aliases(server: Server, name: str) -> tuple[list[Version], dict[str, int]]:
    """Return all versions of a model, newest first, and the number of each alias.

    Aliases do not change the stages here.
    """
    # Probed first, so that an absent server does not cost the import of MLflow.
    server.require()
    try:
        with like_mlflow(server):
            versions, aliases = registry_of(server).versions_and_aliases(name)
            aliases = {alias.lower(): number for alias, number in aliases.items()}
    except ModelNotFoundError:
        return [], {}
    versions.sort(key=lambda version: -version.version)
    return versions, aliases


class KnownVersions:
    """The versions of some models, read again only after the registry has changed.

    Reading them takes two requests for each model; to see that nothing has changed, one for all.

    Parameters
    ----------
    server : Server
        The registry's server.
    """

    def __init__(self, server: Server):
        self._server = server
        self._summary: object = None
        self._known: dict[str, list[Version]] = {}

    def check(self, names: Sequence[str]) -> None:
        """Forget the versions of these models if the registry has changed since they were read.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer.
        """
        self._server.require()
        try:
            with like_mlflow(self._server):
                summary = registry_of(self._server).summary(names)
        except TrackingUnavailableError:
            raise
        except VigieError:
            # Old servers have no search by several names.
            summary = None
        if summary is None or summary != self._summary:
            self._known.clear()
        self._summary = summary

    def of(self, name: str) -> list[Version]:
        """Return all versions of a model, as ``versions`` does."""
        if name not in self._known:
            self._known[name] = versions(self._server, name)
        return self._known[name]


def pick(
    server: Server, name: str, *, stage: str | None = None, version: int | str | None = None
) -> Version:
    """Return one version: by number, the newest in a stage, or else the one that serves.

    The one that serves is the newest in Production, or the newest of all where none is.

    Raises
    ------
    ModelNotFoundError
        If there is no such version; the message lists those that exist.
    """
    return choose(versions(server, name), name, stage=stage, version=version)


def runs(server: Server, run_ids: Sequence[str]) -> dict[str, Run]:
    """Return those of some runs that there are, by id, with one search for a hundred."""
    found: dict[str, Run] = {}
    # Other tools may have written anything, which a filter cannot quote.
    usable = [run_id for run_id in run_ids if RUN_ID.fullmatch(run_id)]
    for start in range(0, len(usable), RUNS_AT_ONCE):
        with like_mlflow(server):
            part = registry_of(server).runs(usable[start : start + RUNS_AT_ONCE])
        found |= {run.run_id: run for run in part}
    return found


def run_metrics(server: Server, version: Version) -> tuple[str | None, dict[str, float]]:
    """Return the name and the metrics of a version's run; none if the run no longer exists."""
    if version.run_id is None:
        return None, {}
    try:
        with like_mlflow(server):
            return registry_of(server).run_metrics(version.run_id)
    except ModelNotFoundError:
        return None, {}


def run_params(server: Server, version: Version) -> dict[str, str]:
    """Return the parameters of a version's run; none if the run no longer exists."""
    if version.run_id is None:
        return {}
    try:
        with like_mlflow(server):
            return registry_of(server).run_params(version.run_id)
    except ModelNotFoundError:
        return {}
