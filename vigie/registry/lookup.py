"""The registry, asked: which versions a model has, and which of them serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vigie.errors import ModelNotFoundError, TrackingError
from vigie.registry.client import ClientRegistry
from vigie.registry.rest import RestRegistry
from vigie.registry.server import Server
from vigie.registry.version import Version, choose, merged


class Registry(Protocol):
    """What is asked of a registry of models, whatever it is asked by.

    Every method raises ``TrackingUnavailableError`` where the server does not answer,
    ``ModelNotFoundError`` where it has no such thing, and ``TrackingError`` where it refuses.
    """

    def listed(self, name: str) -> tuple[list[Version], dict[str, int]]:
        """Return the versions of a model, each in its own stage, and the number of each alias.

        In this order: during a move the answer holds more than there is, never less.
        """

    def measured(self, run_id: str) -> tuple[str | None, dict[str, float]]:
        """Return the name and the metrics of a run."""

    def artifacts_of(self, version: Version) -> str:
        """Return the URI of a version's artifacts."""

    def fetch(self, uri: str, files: Sequence[str], target: Path) -> Path:
        """Fetch a folder of artifacts with these files into an empty one; return where it lies."""


def registry_of(server: Server) -> Registry:
    """Return the registry of a server: by REST where that will do, else by MLflow's client."""
    return RestRegistry(server) if server.speaks_rest else ClientRegistry(server)


def versions(server: Server, name: str) -> list[Version]:
    """Return all versions of a model, newest first; empty if there is no such model."""
    listed, aliases = recorded(server, name)
    return merged(listed, aliases)


def recorded(server: Server, name: str) -> tuple[list[Version], dict[str, int]]:
    """Return all versions of a model, newest first, and the number that each alias names.

    Each version is in the stage that the registry says, whatever the aliases say.
    """
    # Asked first, since an absent server should not even cost the import of MLflow.
    server.require()
    try:
        listed, aliases = registry_of(server).listed(name)
    except ModelNotFoundError:
        return [], {}
    except (KeyError, TypeError, ValueError) as error:
        raise TrackingError(
            f"What answers at {server.masked_uri} does not answer as MLflow does: {error!r}.",
            remedy="`vigie doctor` checks the server step by step.",
        ) from error
    listed.sort(key=lambda version: -version.version)
    return listed, {alias.lower(): number for alias, number in aliases.items()}


def pick(
    server: Server, name: str, *, stage: str | None = None, version: int | str | None = None
) -> Version:
    """Return one version: by number, the newest in a stage, or else the one that serves.

    The one that serves is the newest in Production, or the newest of all where none is.

    Raises
    ------
    ModelNotFoundError
        If there is no such version; the message says which there are.
    """
    return choose(versions(server, name), name, stage=stage, version=version)


def measured(server: Server, version: Version) -> tuple[str | None, dict[str, float]]:
    """Return the name and the metrics of the run that made a version; none if it is gone."""
    if version.run_id is None:
        return None, {}
    try:
        return registry_of(server).measured(version.run_id)
    except ModelNotFoundError:
        return None, {}
