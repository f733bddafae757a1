"""Requests to an MLflow server, for a process that serves and moves versions.

MLflow's client takes more than a second to import and over a hundred megabytes of memory; a service
needs only a dozen kinds of request of the public REST API. Credentials come from the same sources
as in MLflow's client: the URL, MLflow's environment variables and its credentials file.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vigie.errors import TrackingRefusedError

CREDENTIALS = Path("~/.mlflow/credentials")
NEED_THE_CLIENT = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_WORKSPACE")
"""Kinds of authentication, and workspaces, that only MLflow's client supports."""
CHUNK = 1024 * 1024
TIMEOUT_S = (2.0, 20.0)
"""To connect, and to wait for the next bytes of a response."""
ANSWER_S, DOWNLOAD_S = 20.0, 600.0
"""For a whole answer, and for a whole artifact."""


def is_supported() -> bool:
    """Whether the environment needs no feature that only MLflow's client has."""
    return not any(os.environ.get(name) for name in NEED_THE_CLIENT)


def ask(
    uri: str,
    endpoint: str,
    method: str = "GET",
    params: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON object of an endpoint's response.

    Parameters
    ----------
    uri : str
        The tracking URI.
    endpoint : str
        Below ``/api/2.0/mlflow``, such as ``runs/get``.
    method : {'GET', 'POST', 'DELETE'}
        Of the request.
    params : mapping of str to str, optional
        The query.
    body : mapping, optional
        What is sent as JSON.

    Raises
    ------
    requests.RequestException
        If no response arrives in time, or a successful one that is not JSON or beyond the bounds.
    """
    from vigie.registry import bounds

    url = f"{uri.rstrip('/')}/api/2.0/mlflow/{endpoint}"
    with bounds.session_for(ANSWER_S) as session:
        sent = {"params": params, "json": body, "timeout": TIMEOUT_S, **_credentials()}
        response = session.request(method, url, **sent)
        try:
            answer = bounds.parsed(response.content) if response.content else {}
        except bounds.BadAnswer:
            if response.ok:
                raise
            # Proxies and authentication plugins answer errors as HTML or text.
            answer = {}
    return response.status_code, answer if isinstance(answer, dict) else {}


def probe(uri: str, timeout: tuple[float, float]) -> int:
    """Return the status of the server's ``/health``.

    Parameters
    ----------
    uri : str
        The tracking URI.
    timeout : tuple of float
        Seconds to connect, and then to receive the headers of the response.

    Raises
    ------
    requests.RequestException
        If no response arrives in time.
    """
    from vigie.registry import bounds

    # stream: the headers suffice, and the timeout does not limit a slow body.
    with (
        bounds.session_for(sum(timeout)) as session,
        session.get(f"{uri.rstrip('/')}/health", timeout=timeout, stream=True) as response,
    ):
        return response.status_code


def download(uri: str, path: str, target: Path, most_bytes: int) -> int:
    """Download an artifact that the server proxies to a file; return the status.

    Parameters
    ----------
    uri : str
        The tracking URI.
    path : str
        The part of the artifact's URI after ``mlflow-artifacts:/``.
    target : Path
        Written only if the status is 200.
    most_bytes : int
        Limit of its size.

    Raises
    ------
    requests.RequestException
        If no response arrives in time.
    TrackingRefusedError
        If it is larger.
    """
    from vigie.registry import bounds

    url = f"{uri.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts/{path.lstrip('/')}"
    with (
        bounds.session_for(DOWNLOAD_S) as session,
        session.get(url, timeout=TIMEOUT_S, stream=True, **_credentials()) as response,
    ):
        if response.status_code == 200:
            with target.open("wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    if file.tell() > most_bytes:
                        raise TrackingRefusedError(
                            f"{target.name} has more than {most_bytes} bytes.",
                            remedy="It is not a model that Vigie has made.",
                        )
        return response.status_code


def _credentials() -> dict[str, Any]:
    """Return the TLS and authentication settings of MLflow's client, as ``requests`` arguments."""
    arguments: dict[str, Any] = {}
    if authority := os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        arguments["verify"] = authority
    elif os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        arguments["verify"] = False
    if certificate := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        arguments["cert"] = certificate
    user, password = _login()
    if user and password:
        arguments["auth"] = (user, password)
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        arguments["headers"] = {"Authorization": f"Bearer {token}"}
    return arguments


def _login() -> tuple[str | None, str | None]:
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (os.environ.get(name) for name in names)
    if not (user and password):
        file = configparser.ConfigParser(interpolation=None)
        file.read(CREDENTIALS.expanduser())
        if "mlflow" in file:
            user = user or file["mlflow"].get(names[0].lower())
            password = password or file["mlflow"].get(names[1].lower())
    return user, password
