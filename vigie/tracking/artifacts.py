"""Files of a run: into whatever store holds them, and from there into a folder of this machine.

What the server hands out itself is two GET requests. Every other store (S3, a share, a database's
folder) is known to MLflow's client alone; a process that serves lets it run beside itself, so that
it need not hold the client for as long as it lives.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vigie.child import Child, Parent
from vigie.errors import TrackingError
from vigie.tracking.server import Server

PROXIED = "mlflow-artifacts:"
OF_A_RUN = "runs:/"
ENDS_WITHIN_S = 300.0


@dataclass(frozen=True)
class Download:
    """What to fetch, and where to; the address may hold a password."""

    server_uri: str = field(repr=False)
    uri: str
    target: Path


def fetch(server: Server, uri: str, files: Sequence[str], target: Path) -> Path:
    """Fetch a folder of artifacts, and return where it lies.

    Parameters
    ----------
    server : Server
        The tracking server that the artifacts belong to.
    uri : str
        The folder's, as the registry says it.
    files : sequence of str
        What it is known to hold.
    target : Path
        An empty folder.

    Raises
    ------
    TrackingError
        If they cannot be fetched.
    """
    if not server.speaks_rest:
        return Path(download(server, uri, target))
    where = _resolved(server, uri)
    path = where.removeprefix(PROXIED)
    if path == where or path.startswith("//"):
        return _download_in_subprocess(server, uri, target)
    for file in files:
        server.download(f"{path}/{file}", target / file)
    return target


def upload(server: Server, run_id: str, folder: Path) -> None:
    """Put all that is in a folder among the artifacts of a run.

    Raises
    ------
    TrackingError
        If the store does not take it, or does not have it although it has said so.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

    # Not by the client, to which a run without an address is one in the working directory.
    where = server.call(server.client.get_run, run_id).info.artifact_uri
    store = server.call(
        get_artifact_repository,
        add_databricks_profile_info_to_artifact_uri(where, server.uri),
        tracking_uri=server.uri,
    )
    server.call(store.log_artifacts, str(folder))
    if not where.startswith(PROXIED):
        return
    # MLflow's client believes any 200, with which some firewalls too refuse a file.
    for parent, _, names in os.walk(folder):
        path = os.path.relpath(parent, folder)
        there = server.call(store.list_artifacts, None if path == "." else path) if names else ()
        listed = {Path(one.path).name: one.file_size for one in there}
        for name in names:
            if listed.get(name) != os.path.getsize(os.path.join(parent, name)):
                raise TrackingError(
                    f"The artifact store has not taken {os.path.join(path, name)}, although it has "
                    "said so.",
                    remedy="Look at the proxies and firewalls before it.",
                )


def download(server: Server, uri: str, target: Path) -> str:
    """Fetch artifacts by MLflow's client into a folder, and return where they lie there."""
    from mlflow.artifacts import download_artifacts

    return str(
        server.call(
            download_artifacts, artifact_uri=uri, dst_path=str(target), tracking_uri=server.uri
        )
    )


def _resolved(server: Server, uri: str) -> str:
    """Return where an artifact of a run lies."""
    if not uri.startswith(OF_A_RUN):
        return uri
    run_id, _, path = uri.removeprefix(OF_A_RUN).partition("/")
    run = server.ask("runs/get", run_id=run_id)["run"]
    return f"{run['info']['artifact_uri']}/{path}"


def _download_in_subprocess(server: Server, uri: str, target: Path) -> Path:
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
    parent.send(Path(download(Server(request.server_uri), request.uri, request.target)))
