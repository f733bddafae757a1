"""Files of a version, from whatever store holds them, into a folder of this machine.

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

from app.errors import TrackingError
from app.tracking.server import Server

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
            [sys.executable, "-m", "app.tracking.artifacts", uri, str(target)],
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
