"""Files of a run: into whatever store holds them, and from there into a folder of this machine.

What the server hands out itself is two GET requests. Every other store (S3, a share, a database's
folder) is known to MLflow's client alone; a process that serves lets it run beside itself, so that
it need not hold the client for as long as it lives.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vigie.errors import TrackingError
from vigie.tracking.server import Server

PROXIED = "mlflow-artifacts:"
OF_A_RUN = "runs:/"
ENDS_WITHIN_S = 300.0


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
        return _downloaded_apart(server, uri, target)
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


def _downloaded_apart(server: Server, uri: str, target: Path) -> Path:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vigie.tracking.artifacts", uri, str(target)],
            # In the environment, since everybody can read a command line, and it may hold a
            # password.
            env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
            capture_output=True,
            text=True,
            check=False,
            timeout=ENDS_WITHIN_S,
        )
    except subprocess.TimeoutExpired as error:
        raise TrackingError(f"no end after {ENDS_WITHIN_S:.0f} s") from error
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
    if done.returncode == 0 and last:
        return Path(last[0])
    raise TrackingError(last[0] if last else f"status {done.returncode}")


def _main() -> None:
    uri, target = sys.argv[1:]
    try:
        where = download(Server(os.environ["MLFLOW_TRACKING_URI"]), uri, Path(target))
    except TrackingError as error:
        sys.exit(error.message)
    sys.stdout.write(f"{where}\n")


if __name__ == "__main__":
    _main()
