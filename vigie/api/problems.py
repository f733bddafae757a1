"""Errors as RFC 9457 problem details, and the table from error to HTTP status."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from vigie import errors
from vigie.logs import request_id

logger = logging.getLogger(__name__)

STATUS: dict[type[errors.VigieError], HTTPStatus] = {
    errors.InvalidDataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotTrainedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    errors.ModelRefusedError: HTTPStatus.CONFLICT,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.JobNotFoundError: HTTPStatus.NOT_FOUND,
    errors.EventNotFoundError: HTTPStatus.NOT_FOUND,
    errors.AlarmNotFoundError: HTTPStatus.NOT_FOUND,
    errors.AssetNotFoundError: HTTPStatus.NOT_FOUND,
    errors.AlertNotFoundError: HTTPStatus.NOT_FOUND,
    errors.AlertError: HTTPStatus.BAD_GATEWAY,
    errors.TooManyJobsError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TrainingInterruptedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.KeyRefusedError: HTTPStatus.UNAUTHORIZED,
    errors.HistoryError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TrackingUnavailableError: HTTPStatus.BAD_GATEWAY,
    errors.TrackingError: HTTPStatus.BAD_GATEWAY,
}

PROBLEM = "application/problem+json"

REMEDY: dict[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "Send a request as RFC 9112 defines it.",
    HTTPStatus.NOT_FOUND: "See /docs for the existing paths.",
    HTTPStatus.METHOD_NOT_ALLOWED: "See /docs for the methods of each path.",
    HTTPStatus.REQUEST_TIMEOUT: "Send the request faster, or raise VIGIE_CLIENT_PATIENCE_S.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Send fewer rows at once, or raise VIGIE_MAX_BODY_BYTES.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send uncompressed JSON with Content-Type: "
    "application/json.",
    HTTPStatus.MISDIRECTED_REQUEST: "Use the service's own address, such as localhost, or add the "
    "name to VIGIE_ALLOWED_HOSTS if a proxy sends it.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Send data in the body, and fewer headers.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Try again in a few seconds.",
}
"""Remedies for errors that have no ``VigieError``."""


class UnsupportedBody(HTTPException):
    """A 415 with a remedy of its own, for a route that does not expect JSON alone."""

    def __init__(self, detail: str, remedy: str | None = None):
        super().__init__(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
        self.remedy = remedy


OUTWARD: dict[type[errors.VigieError], str] = {
    errors.TrackingError: "The MLflow server refuses, fails or cannot be reached.",
    errors.HistoryError: "The database of readings cannot be used.",
}
"""Public messages for errors whose own message may reveal other servers and their addresses."""


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
        "type": f"{errors.URN}{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": path,
        **facts,
    }
    members = {name: value for name, value in body.items() if value is not None}
    # ASCII, since an error may quote lone surrogates from the request, which UTF-8 cannot encode.
    return Response(json.dumps(members), status, dict(headers or {}), PROBLEM)


def http_problem(
    status: HTTPStatus,
    detail: str,
    path: str | None,
    headers: Mapping[str, str] | None = None,
    remedy: str | None = None,
) -> Response:
    """Return the problem document for an HTTP error."""
    kind = status.phrase.lower().replace(" ", "-")
    remedy = remedy or REMEDY.get(status)
    return problem(status, kind, status.phrase, detail, path, headers, remedy=remedy)


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem document."""
    app.add_exception_handler(errors.VigieError, _vigie_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _internal_error)


def path_of(scope: Scope) -> str:
    """Return the path of a request as it was sent: a URI reference, as RFC 9457 requires."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return path.decode("ascii")


async def _vigie_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.VigieError)
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    kind_of_error = type(error).kind()
    message, remedy = error.message, error.remedy
    for kind, public_message in OUTWARD.items():
        if isinstance(error, kind):
            logger.warning("%s could not be answered. %s", path_of(request.scope), error)
            message, remedy = public_message, "Run `vigie doctor` on the service's machine."
    return problem(
        status,
        kind_of_error,
        kind_of_error.replace("-", " ").capitalize(),
        f"{error.field}: {message}" if error.field else message,
        path_of(request.scope),
        field=error.field,
        remedy=remedy,
        errors=(error.faults or None) if isinstance(error, errors.InvalidDataError) else None,
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    remedy = error.remedy if isinstance(error, UnsupportedBody) else None
    headers = error.headers
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {**(headers or {}), "Allow": _methods_of(request)}
    return http_problem(status, error.detail, path_of(request.scope), headers, remedy)


def _methods_of(request: Request) -> str:
    """Return the methods of a path; the router names those of its first route only."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


async def _disconnected(request: Request, error: Exception) -> Response:
    """Return a response for a client that has disconnected, which nobody will read."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer an unexpected error with the request's id; the log has the traceback under it."""
    incident = request_id() or uuid.uuid4().hex
    logger.error("Incident %s at %s", incident, path_of(request.scope), exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Internal error",
        f"The service failed; the request is not at fault. See its log, incident {incident}.",
        path_of(request.scope),
        incident=incident,
    )
