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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
MOST_AT_ONCE = 8
"""Bodies of the largest size, or as much in smaller ones, that are held at a time."""

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
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    # FastAPI describes every answer as what those are that go well.
                    content = response.get("content", {})
                    if status >= "400" and "application/json" in content:
                        content[PROBLEM] = content.pop("application/json")
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def answer(request: Request, error: errors.VigieError | HTTPException) -> Response:
    """Return the problem document for an error."""
    return (_vigie_error if isinstance(error, errors.VigieError) else _http_error)(request, error)


class BodyLimit:
    """Refuse request bodies over a size, announced or not, and more of them than can be held.

    Parameters
    ----------
    app : ASGI application
        What to guard.
    max_bytes : int
        The largest body allowed; of such, ``MOST_AT_ONCE`` are held at a time.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        self.app = app
        self.max_bytes = max_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = -1

        async def limited() -> Message:
            nonlocal received
            if received < 0:
                received = 0
                # Who asks before sending a large body is told before it is sent.
                if _announced(scope) > self.max_bytes:
                    raise self._too_large()
            message = await receive()
            came = len(message.get("body", b""))
            received += came
            self._held += came
            if received > self.max_bytes:
                raise self._too_large()
            if self._held > MOST_AT_ONCE * self.max_bytes:
                raise HTTPException(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "More comes in at once than can be held.",
                    {"Retry-After": "5"},
                )
            return message

        try:
            await self.app(scope, limited, send)
        finally:
            self._held -= max(received, 0)

    def _too_large(self) -> HTTPException:
        return HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body is larger than {self.max_bytes} bytes.",
        )


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


def path_of(request: Request) -> str:
    """Return the path of a request as it was sent: a URI reference, as RFC 9457 wants it."""
    path: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    return path.decode("ascii")


def _vigie_error(request: Request, error: Exception) -> Response:
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


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return http_problem(status, error.detail, path_of(request), error.headers)


def _nobody_there(request: Request, error: Exception) -> Response:
    """Return what nobody will read: the client has hung up in the middle of its body."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def _bug(request: Request, error: Exception) -> Response:
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
