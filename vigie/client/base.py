"""What both clients share: the address, the key, and the limits."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from vigie.client.answers import raised_by, shown, unreachable
from vigie.client.calls import Call, T
from vigie.errors import InvalidDataError, ServiceError
from vigie.models.from_json import first_fault

LOCAL = "http://localhost:8084"
CONNECT_S, ANSWER_S, SILENT_S = 10.0, 60.0, 60.0
"""Limits: to connect, for an answer, and between two signs of life of a stream."""
AGAIN_S, MOST_ATTEMPTS = 3.0, 10
"""Seconds before a stream that has ended early is opened again, and how often in turn."""


def http_options(
    address: str, key: str | None, timeout: float | httpx.Timeout, verify: bool | Path | Any
) -> dict[str, Any]:
    """Return the arguments of httpx's clients.

    Raises
    ------
    InvalidDataError
        If the address is none, or the certificate cannot be read.
    """
    if not _is_address(address):
        raise InvalidDataError(
            f"{address!r} is not the address of a service.",
            field="address",
            remedy=f"Write it as {LOCAL}.",
        )
    if isinstance(verify, Path):
        from vigie.tls import trusting

        verify = trusting(verify)
    if isinstance(timeout, int | float):
        timeout = httpx.Timeout(timeout, connect=min(timeout, CONNECT_S))
    key = _set_key() if key is None else key
    return {
        "base_url": address.rstrip("/").removesuffix("/api/v1"),
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": timeout,
        "verify": verify if isinstance(verify, ssl.SSLContext) else bool(verify),
        # Else a proxy or a password from the environment would get the key, or replace it.
        "trust_env": False,
    }


def result_of(call: Call[T], response: httpx.Response) -> T:
    """Return what an answer holds.

    Raises
    ------
    VigieError
        If it is an error, or no answer of Vigie.
    """
    if not response.is_success:
        raise raised_by(response)
    try:
        return call.read(response.content)
    except ValidationError as error:
        fault = first_fault(error)
    except ValueError as error:
        fault = str(error)
    raise ServiceError(
        f"No Vigie of this version answers at {shown(response.request.url)} ({fault}).",
        remedy="Check the address, and the version of the service.",
    )


def pause_s(
    call: Call[Any],
    outcome: httpx.Response | httpx.TransportError,
    attempt: int,
    retries: int,
    url: httpx.URL,
) -> float | None:
    """Return after how many seconds a call is sent again; None if its answer is final.

    Raises
    ------
    ServiceUnavailableError
        If there is no answer, and it is not sent again.
    """
    pause = call.pause_s(outcome, attempt) if attempt < retries else None
    if pause is None and isinstance(outcome, httpx.TransportError):
        raise unreachable(url, outcome) from outcome
    return pause


def _set_key() -> str | None:
    from vigie.config import Settings

    key = Settings().api_key
    return key.get_secret_value() if key else None


def _is_address(address: object) -> bool:
    try:
        parts = urlsplit(str(address))
        # To ask for the port is to check it.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
