"""Errors as RFC 9457 problem details: the one table from error to status."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from vigie import errors

logger = logging.getLogger(__name__)

STATUS: dict[type[errors.VigieError], HTTPStatus] = {
    errors.InvalidDataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotTrainedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    errors.ModelRefusedError: HTTPStatus.CONFLICT,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.TrainingInterruptedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.HistoryError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TrackingUnavailableError: HTTPStatus.BAD_GATEWAY,
    errors.TrackingError: HTTPStatus.BAD_GATEWAY,
}

PROBLEM = "application/problem+json"

REMEDY: dict[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "Send HTTP/1.1, as RFC 9112 has it.",
    HTTPStatus.NOT_FOUND: "/docs lists the addresses that there are.",
    HTTPStatus.METHOD_NOT_ALLOWED: "/docs lists the methods of each address.",
    HTTPStatus.REQUEST_TIMEOUT: "Send the whole of it faster, or raise VIGIE_CLIENT_PATIENCE_S.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Send fewer rows at once, or raise VIGIE_MAX_BODY_BYTES.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send JSON as it is, and Content-Type: application/json.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Send data in the body, and fewer headers.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Send it again in a few seconds.",
}
"""What to do about errors that do not come from here."""

OUTWARD: dict[type[errors.VigieError], str] = {
    errors.TrackingError: "The MLflow server refuses, fails or cannot be reached.",
    errors.HistoryError: "The database of readings cannot be used.",
}
"""What is said of errors that tell of other servers, in their words and with their addresses."""


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    path: str | None,
    headers: Mapping[str, str] | None = None,
    **facts: Any,
) -> Response:
    """Return a problem document; ``path`` and ``facts`` that are None are left out."""
    body = {
        "type": f"urn:problem:vigie:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        **facts,
    }
    told = {name: value for name, value in body.items() if value is not None}
    # In ASCII, since an error quotes what was sent, and that may be no text that can be encoded.
    return Response(json.dumps(told), status, dict(headers or {}), PROBLEM)


def http_problem(
    status: HTTPStatus, detail: str, path: str | None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the problem document for what is wrong with a request, whatever it asks."""
    kind = status.phrase.lower().replace(" ", "-")
    remedy = REMEDY.get(status)
    return problem(status, kind, status.phrase, detail, path, headers, remedy=remedy)


def install(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(errors.VigieError, _vigie_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _nobody_there)
    app.add_exception_handler(Exception, _bug)


def path_of(request: Request) -> str:
    """Return the path of a request as it was sent: a URI reference, as RFC 9457 wants it."""
    path: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    return path.decode("ascii")


async def _vigie_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.VigieError)
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    name = type(error).__name__.removesuffix("Error")
    words = re.findall(r"[A-Z][a-z]+", name)
    message, remedy = error.message, error.remedy
    for kind, said in OUTWARD.items():
        if isinstance(error, kind):
            logger.warning("%s could not be answered. %s", path_of(request), error)
            message, remedy = said, "`vigie doctor`, run beside the service, finds out why."
    return problem(
        status,
        "-".join(words).lower(),
        " ".join(words).capitalize(),
        f"{error.field}: {message}" if error.field else message,
        path_of(request),
        field=error.field,
        remedy=remedy,
        errors=(error.faults or None) if isinstance(error, errors.InvalidDataError) else None,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return http_problem(status, error.detail, path_of(request), error.headers)


async def _nobody_there(request: Request, error: Exception) -> Response:
    """Return what nobody will read: the client has hung up in the middle of its body."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _bug(request: Request, error: Exception) -> Response:
    """Answer an unexpected error by an id alone; what happened stands in the log under it."""
    incident = uuid.uuid4().hex
    logger.error("Incident %s at %s", incident, path_of(request), exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Internal error",
        f"This is a fault of the service, not of the request. Its log has it as {incident}.",
        path_of(request),
        incident=incident,
    )
