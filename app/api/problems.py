"""Errors as RFC 9457 problem details: the one table from error to status."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import errors

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


REMEDY: dict[HTTPStatus, str] = {
    HTTPStatus.NOT_FOUND: "/docs lists the addresses that there are.",
    HTTPStatus.METHOD_NOT_ALLOWED: "/docs lists the methods of each address.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Send fewer rows at once, or raise VIGIE_MAX_BODY_BYTES.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send the header Content-Type: application/json.",
}
"""What to do about errors that do not come from here."""


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    request: Request,
    headers: Mapping[str, str] | None = None,
    **facts: Any,
) -> Response:
    """Return a problem document; ``facts`` that are None are left out."""
    body = {
        "type": f"urn:problem:vigie:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **{name: value for name, value in facts.items() if value is not None},
    }
    # In ASCII, since an error quotes what was sent, and that may be no text that can be encoded.
    return Response(json.dumps(body), status, dict(headers or {}), "application/problem+json")


def install(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(errors.VigieError, _vigie_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _nobody_there)
    app.add_exception_handler(Exception, _bug)


def answer(request: Request, error: errors.VigieError | HTTPException) -> Response:
    """Return the problem document for an error."""
    return (_vigie_error if isinstance(error, errors.VigieError) else _http_error)(request, error)


class BodyLimit:
    """Refuse request bodies over a size, whether they announce it or not.

    Parameters
    ----------
    app : ASGI application
        What to guard.
    max_bytes : int
        The largest body allowed.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise HTTPException(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"The body is larger than {self.max_bytes} bytes.",
                )
            return message

        await self.app(scope, limited, send)


def _vigie_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.VigieError)
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    name = type(error).__name__.removesuffix("Error")
    words = re.findall(r"[A-Z][a-z]+", name)
    return problem(
        status,
        "-".join(words).lower(),
        " ".join(words).capitalize(),
        f"{error.field}: {error.message}" if error.field else error.message,
        request,
        field=error.field,
        remedy=error.remedy,
        errors=(error.faults or None) if isinstance(error, errors.InvalidDataError) else None,
    )


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    kind = title.lower().replace(" ", "-")
    remedy = REMEDY.get(HTTPStatus(error.status_code))
    return problem(
        error.status_code, kind, title, error.detail, request, error.headers, remedy=remedy
    )


def _nobody_there(request: Request, error: Exception) -> Response:
    """Return what nobody will read: the client has hung up in the middle of its body."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def _bug(request: Request, error: Exception) -> Response:
    """Answer an unexpected error by an id alone; what happened stands in the log under it."""
    incident = uuid.uuid4().hex
    logger.error("Incident %s at %s", incident, request.url.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Internal error",
        f"This is a fault of the service, not of the request. Its log has it as {incident}.",
        request,
        incident=incident,
    )
