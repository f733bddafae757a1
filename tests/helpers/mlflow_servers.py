"""MLflow servers that start in a second: forked from a process that has imported MLflow.

Each runs the application of ``mlflow server`` under the same uvicorn, told what to serve as that
command tells its workers. How Vigie itself starts one is tested where users do that.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType

import httpx
from faults import eventually
from forked import forking

START_TIMEOUT_S = 90.0
BACKEND_STORE, DESTINATION = "_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
"""Variables by which ``mlflow server`` tells its workers what to serve."""


@contextmanager
def mlflow_server(
    port: int,
    folder: Path,
    database: str | None = None,
    artifacts: str | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """Run an MLflow server, as long as a block lasts.

    Parameters
    ----------
    port : int
        Where it listens.
    folder : Path
        Of its artifacts, its log, and its SQLite database.
    database : str, optional
        The URL of another one.
    artifacts : str, optional
        Where they are kept instead, such as a bucket.
    environment : mapping of str to str, optional
        More that the server needs to know, such as how to reach that.

    Yields
    ------
    str
        Its address.
    """
    url = f"http://127.0.0.1:{port}"
    (folder / "mlflow-artifacts").mkdir(parents=True, exist_ok=True)
    ours, its_own = forking().Pipe()
    variables = {
        **environment,
        BACKEND_STORE: database or f"sqlite:///{folder / 'mlflow.db'}",
        DESTINATION: artifacts or str(folder / "mlflow-artifacts"),
    }
    process = forking().Process(target=_serve, args=(port, folder, variables, its_own))
    process.start()
    its_own.close()
    try:
        with httpx.Client(timeout=1.0, trust_env=False) as client:

            def answers() -> bool:
                assert process.is_alive(), (folder / "mlflow.log").read_text()
                try:
                    return client.get(f"{url}/health").is_success
                except httpx.TransportError:
                    return False

            eventually(answers, START_TIMEOUT_S)
        yield url
    finally:
        ours.close()
        process.join(timeout=20)
        process.kill()


def _serve(port: int, folder: Path, variables: dict[str, str], running: Connection) -> None:
    """Serve until the other end of a pipe is closed, if only because its process is gone."""
    import uvicorn
    from mlflow.server import ARTIFACT_ROOT_ENV_VAR, SERVE_ARTIFACTS_ENV_VAR, handlers
    from mlflow.server.fastapi_app import app

    log = (folder / "mlflow.log").open("ab")
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log.fileno(), stream.fileno())
    os.environ |= {
        **variables,
        ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    database = variables[BACKEND_STORE]
    handlers.initialize_backend_stores(database, database, "mlflow-artifacts:/")
    server = uvicorn.Server(
        uvicorn.Config(app, "127.0.0.1", port, timeout_graceful_shutdown=2, access_log=False)
    )

    def stop() -> None:
        running.poll(None)
        server.should_exit = True

    threading.Thread(target=stop, daemon=True).start()
    server.run()
