"""GET requests to an MLflow server, for a process that only serves.

MLflow's client takes more than a second to import and holds over a hundred megabytes; what a
service asks of the registry are four kinds of GET request of its public REST API. Credentials
come from where MLflow's client takes them: the URL, MLflow's own variables, and its file.
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
"""Ways to sign in, or to say which workspace is meant, that only MLflow's client knows."""
CHUNK = 1024 * 1024
TIMEOUT_S = (2.0, 20.0)
"""To connect, and to wait for the next bytes of an answer."""


def suffices() -> bool:
    """Whether a server can be asked without MLflow's client."""
    return not any(os.environ.get(name) for name in NEED_THE_CLIENT)


def get(uri: str, endpoint: str, params: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON object that an endpoint answers.

    Parameters
    ----------
    uri : str
        The tracking URI.
    endpoint : str
        Below ``/api/2.0/mlflow``, such as ``runs/get``.
    params : mapping of str to str
        The query.

    Raises
    ------
    requests.RequestException
        If no answer comes, or one that is no JSON.
    """
    import requests

    url = f"{uri.rstrip('/')}/api/2.0/mlflow/{endpoint}"
    answer = requests.get(url, params=dict(params), timeout=TIMEOUT_S, **_credentials())
    try:
        found = answer.json() if answer.content else {}
    except requests.JSONDecodeError:
        if answer.ok:
            raise
        # Whoever lets nobody in says so in words of its own.
        found = {}
    return answer.status_code, found if isinstance(found, dict) else {}


def download(uri: str, path: str, target: Path, most_bytes: int) -> int:
    """Write an artifact that the server hands out itself into a file; return the status.

    Parameters
    ----------
    uri : str
        The tracking URI.
    path : str
        What follows ``mlflow-artifacts:/`` in the artifact's URI.
    target : Path
        Written only if the status is 200.
    most_bytes : int
        How large it may become, unpacked.

    Raises
    ------
    requests.RequestException
        If no answer comes.
    TrackingRefusedError
        If it is larger.
    """
    import requests

    url = f"{uri.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts/{path.lstrip('/')}"
    with requests.get(url, timeout=TIMEOUT_S, stream=True, **_credentials()) as answer:
        if answer.status_code == 200:
            with target.open("wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    if file.tell() > most_bytes:
                        raise TrackingRefusedError(
                            f"{target.name} has more than {most_bytes} bytes.",
                            remedy="It is no model that Vigie has made.",
                        )
        return answer.status_code


def _credentials() -> dict[str, Any]:
    """Return what MLflow's client would add to a request, as arguments of ``requests``."""
    given: dict[str, Any] = {}
    if authority := os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        given["verify"] = authority
    elif os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        given["verify"] = False
    if certificate := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        given["cert"] = certificate
    user, password = _login()
    if user and password:
        given["auth"] = (user, password)
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        given["headers"] = {"Authorization": f"Bearer {token}"}
    return given


def _login() -> tuple[str | None, str | None]:
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (os.environ.get(name) for name in names)
    if not (user and password):
        kept = configparser.ConfigParser(interpolation=None)
        kept.read(CREDENTIALS.expanduser())
        if "mlflow" in kept:
            user = user or kept["mlflow"].get(names[0].lower())
            password = password or kept["mlflow"].get(names[1].lower())
    return user, password
