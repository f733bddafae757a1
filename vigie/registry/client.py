"""The registry by MLflow's own client, which knows every store and every way to sign in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vigie.child import Child, Parent
from vigie.errors import TrackingError
from vigie.registry.server import Server
from vigie.registry.version import Version

ENDS_WITHIN_S = 300.0


@dataclass(frozen=True)
class Download:
    """What to fetch, and where to; the address may hold a password."""

    server_uri: str = field(repr=False)
    uri: str
    target: Path


class ClientRegistry:
    """See ``vigie.registry.lookup.Registry``."""

    def __init__(self, server: Server):
        self._server = server

    def listed(self, name: str) -> tuple[list[Version], dict[str, int]]:
        client = self._server.client
        found = self._server.call(client.search_model_versions, f"name='{name}'")
        model = self._server.call(client.get_registered_model, name)
        listed = [
            Version.recorded(
                name,
                item.version,
                item.current_stage,
                item.run_id,
                item.creation_timestamp,
                item.tags,
                item.last_updated_timestamp,
            )
            for item in found
        ]
        return listed, {alias: int(number) for alias, number in (model.aliases or {}).items()}

    def measured(self, run_id: str) -> tuple[str | None, dict[str, float]]:
        run = self._server.call(self._server.client.get_run, run_id)
        return run.info.run_name, dict(run.data.metrics)

    def artifacts_of(self, version: Version) -> str:
        find = self._server.client.get_model_version_download_uri
        return str(self._server.call(find, version.name, str(version.version)))

    def fetch(self, uri: str, files: Sequence[str], target: Path) -> Path:
        return download(self._server, uri, target)


def download(server: Server, uri: str, target: Path) -> Path:
    """Fetch artifacts into a folder, and return where they lie there."""
    from mlflow.artifacts import download_artifacts

    return Path(
        server.call(
            download_artifacts, artifact_uri=uri, dst_path=str(target), tracking_uri=server.uri
        )
    )


def download_in_subprocess(server: Server, uri: str, target: Path) -> Path:
    """Fetch artifacts by a process of its own, so that this one need not hold MLflow's client."""
    child = Child(run_download)
    try:
        child.send(Download(server.uri, uri, target))
        path: Path | None = child.receive(ENDS_WITHIN_S)
        if path is None:
            raise TrackingError(f"The process that was to fetch it {child.how_it_ended()}")
    except TimeoutError as error:
        raise TrackingError(f"no end after {ENDS_WITHIN_S:.0f} s") from error
    finally:
        child.kill()
    return path


def run_download(parent: Parent, request: Download) -> None:
    """Download what a request names, and send where it lies."""
    parent.on_gone(lambda: os._exit(1))
    # Standard error is the log of a service.
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    parent.send(download(Server(request.server_uri), request.uri, request.target))
