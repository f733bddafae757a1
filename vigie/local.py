"""MLflow and the service as processes of this machine, on embedded defaults."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from vigie.config import Settings
from vigie.errors import ConflictError, TrackingError, VigieError
from vigie.state import require_writable

START_TIMEOUT_S = 90.0
AFTER_US = """read nothing
{ kill -s TERM -- "-$0"; sleep 8; kill -s KILL -- "-$0"; } 2>/dev/null"""
"""What ends the session of process ``$0``, kindly first, when nobody holds the pipe any more."""
HERE = ("localhost", "127.0.0.1", "::1")


@contextmanager
def mlflow_server(settings: Settings) -> Iterator[str]:
    """Run an MLflow server at the tracking URI, its data below the state folder.

    Yields
    ------
    str
        Its address.

    Raises
    ------
    ConflictError
        If the port is in use.
    TrackingError
        If the tracking URI is not an address of this machine, or the server does not start.
    InvalidDataError
        If nothing can be kept in the state folder.
    """
    address = urlsplit(settings.mlflow_tracking_uri)
    if address.scheme != "http" or address.hostname not in HERE:
        raise TrackingError(
            f"{settings.mlflow_tracking_uri} is no address of this machine, so no server can be "
            "started there.",
            field="MLFLOW_TRACKING_URI",
            remedy="Use `vigie serve`, which works with the server that runs there.",
        )
    port = address.port or 80
    another = f"http://localhost:{port + 1}"
    require_free(port, f"set MLFLOW_TRACKING_URI={another} to start MLflow on another port, "
                       "or use `vigie serve` if the MLflow there is the one you want")  # fmt: skip
    state = settings.state_dir.resolve()
    require_writable(state)
    artifacts = state / "mlflow-artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-P", "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{state / 'mlflow.db'}"),
        *("--artifacts-destination", str(artifacts)),
    ]
    environment = {
        # Background jobs are no part of what we use, and cost over a gigabyte of memory.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    url = f"http://127.0.0.1:{port}"
    log = state / "mlflow.log"
    # MLflow's workers look for modules in their working directory first, -P or not. The folder that
    # `vigie up` is called in may hold modules of any name; among artifacts there are none.
    with running(command, environment, log, folder=artifacts) as process:
        await_health("MLflow", process, f"{url}/health", log)
        yield settings.mlflow_tracking_uri


@contextmanager
def service(settings: Settings) -> Iterator[str]:
    """Run the service as a process.

    Yields
    ------
    str
        Its address.

    Raises
    ------
    ConflictError
        If the port is in use.
    InvalidDataError
        If nothing can be kept in the state folder.
    """
    require_free(settings.port, f"set VIGIE_PORT={settings.port + 1}")
    url = f"http://127.0.0.1:{settings.port}"
    require_writable(settings.state_dir)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    # Without -P a folder `vigie` in the working directory would be run instead.
    command = [sys.executable, "-P", "-m", "vigie.cli", "serve"]
    log = settings.state_dir / "vigie.log"
    # On a machine that has just started both, the first answers of MLflow take their time.
    environment = {"VIGIE_TRACKING_PATIENCE_S": str(max(settings.tracking_patience_s, 10.0))}
    with running(command, environment, log) as process:
        await_health("The service", process, f"{url}/api/v1/anomalies/health", log)
        yield f"http://localhost:{settings.port}"


def require_free(port: int, remedy: str) -> None:
    """Return if a port of this machine is free.

    Raises
    ------
    ConflictError
        If it is in use.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConflictError(
                f"Port {port} is in use.", remedy=f"Stop what runs there, or {remedy}."
            ) from error


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends; its children end with it.

    They end as well when this process is killed, which closes the pipe that a shell waits at.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    environment : mapping of str to str
        Variables in addition to those of this process.
    log : Path
        Its output is appended to this file.
    folder : Path, optional
        Its working directory; by default that of this process.

    Yields
    ------
    Popen
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    with subprocess.Popen(
        ["/bin/sh", "-c", AFTER_US, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
    ) as survivor:
        try:
            yield process
        finally:
            _stop(process)
            survivor.kill()


def await_health(name: str, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when a process answers.

    Raises
    ------
    VigieError
        If it ends instead, or takes too long.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise VigieError(
                f"{name} ended at once with status {process.returncode}.",
                remedy=f"Its log is {log}.",
            )
        try:
            if httpx.get(url, timeout=1.0, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise VigieError(
        f"{name} did not answer within {START_TIMEOUT_S:.0f} s.", remedy=f"Its log is {log}."
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and all it has started, kindly first."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(timeout=8)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
