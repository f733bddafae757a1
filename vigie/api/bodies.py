"""JSON bodies that pydantic parses and serializes in a thread, outside the event loop.

FastAPI parses JSON in the event loop, validates the objects as a second step, and validates the
result again before it serializes it. Here pydantic parses bytes to models and serializes models to
bytes directly. The route takes the ``Request``; dependencies and middleware work as for any other.
"""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from email.message import Message
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, TypeAdapter
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from vigie.api.executor import BatchExecutor
from vigie.api.problems import UnsupportedBody
from vigie.errors import InvalidDataError
from vigie.faults import nearest
from vigie.models.from_json import Counted, from_json

JSON = "application/json"
SCHEMAS = "#/components/schemas/{model}"
LARGE = 128 * 1024
"""Size of a body, in bytes, above which it would block the interpreter for long."""
MOST_VALUES = 500_000
"""Most values in a body: ten thousand readings of fifty sensors."""

TRUTH = {"true": True, "1": True, "false": False, "0": False}
LONGEST_WORD = 200
"""Characters of a parameter."""

# One at a time: in parallel they would not finish sooner, and each would compete with other threads
# for the interpreter.
_large_bodies = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")

RequestT = TypeVar("RequestT", bound=Counted | list[Any])
ResponseT = TypeVar("ResponseT")


class Exchange(Generic[RequestT, ResponseT]):
    """The JSON request and response of a route.

    Parameters
    ----------
    request_type, response_type : type
        Types that pydantic supports.
    """

    def __init__(self, request_type: type[RequestT], response_type: type[ResponseT]):
        self._request: TypeAdapter[RequestT] = TypeAdapter(request_type)
        self._response: TypeAdapter[ResponseT] = TypeAdapter(response_type)
        self.described: dict[str, Any] = {
            "response_model": response_type,
            "openapi_extra": request_body(request_type),
        }
        """Arguments for the decorator of the route, which document both types."""

    async def __call__(self, request: Request, handle: Callable[[RequestT], ResponseT]) -> Response:
        """Parse the body, handle the request in a thread, and return the response."""
        return await self.answer(request, await json_of(request), handle)

    async def answer(
        self, request: Request, data: bytes, handle: Callable[[RequestT], ResponseT]
    ) -> Response:
        """Do the same with a body that has been read."""
        # What the thread logs names the request.
        within = copy_context().run
        if len(data) > LARGE:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(
                _large_bodies, within, self._answer_large, data, handle
            )
        else:
            executor: BatchExecutor = request.app.state.executor
            content = await executor.run(partial(within, self._answer, data, handle))
        return Response(content, media_type=JSON)

    def _answer(self, data: bytes, handle: Callable[[RequestT], ResponseT]) -> bytes:
        return self._response.dump_json(handle(from_json(self._request, data)))

    def _answer_large(self, data: bytes, handle: Callable[[RequestT], ResponseT]) -> bytes:
        """Answer with the garbage collector off.

        A large body allocates hundreds of thousands of objects. Each full collection that this
        triggers blocks all threads for a tenth of a second, and frees nothing.
        """
        # Commas separate values, so their number bounds the time that the parser blocks the
        # interpreter: seconds for millions of values.
        if data.count(b",") > MOST_VALUES:
            raise InvalidDataError(
                f"It holds more than {MOST_VALUES} values.",
                field="body",
                remedy="Send fewer readings at once.",
            )
        gc.disable()
        try:
            return self._answer(data, handle)
        finally:
            gc.enable()


async def json_of(
    request: Request, parameters: Collection[str] = (), how_to_send: str | None = None
) -> bytes:
    """Return the body of a request whose headers declare JSON.

    Parameters
    ----------
    request : Request
        The request.
    parameters : collection of str, optional
        Those that its address may have.
    how_to_send : str, optional
        The remedy for a body that is none, if it may be something else too.

    Raises
    ------
    InvalidDataError
        If its address has another parameter, which would have no effect.
    HTTPException
        With 415, if they declare anything else.
    """
    if request.scope["query_string"]:
        for name in [name for name in request.query_params if name not in parameters]:
            raise InvalidDataError(
                f"There is no parameter {name[:100]!r}.",
                field="query",
                remedy="All values belong into the body; /docs shows the schema with an example.",
            )
    content_type, encoding = b"", b"identity"
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            encoding = value
    if encoding.lower() not in (b"identity", b""):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body is encoded as {encoding[:100].decode('latin-1')}, which is not supported.",
        )
    if content_type != JSON.encode():
        _require_json(content_type.decode("latin-1"), how_to_send)
    return await request.body()


def only(query: Iterable[str], names: Collection[str] = ()) -> None:
    """Refuse parameters of an address that would have no effect.

    Raises
    ------
    InvalidDataError
        If there is one with another name.
    """
    for name in query:
        if name not in names:
            raise InvalidDataError(
                f"There is no parameter {name[:100]!r}.",
                field="query",
                remedy=nearest(name, names) if names else "Leave it out.",
            )


def word_of(query: QueryParams, name: str) -> str | None:
    """Return the value of a parameter of an address; None if it is not there.

    Raises
    ------
    InvalidDataError
        If it comes more than once, since one value would count and the others be lost.
    """
    values = query.getlist(name)
    if len(values) > 1:
        raise InvalidDataError(
            f"It comes {len(values)} times.", field=name[:LONGEST_WORD], remedy="Give it once."
        )
    return values[0] if values else None


def limit_of(query: QueryParams, default: int, most: int) -> int:
    """Return how many items of a list are asked for.

    Raises
    ------
    InvalidDataError
        If it is no number, or too large.
    """
    if (limit := word_of(query, "limit")) is None:
        return default
    if not re.fullmatch("[0-9]{1,9}", limit) or not 1 <= int(limit) <= most:
        raise InvalidDataError(
            f"A whole number from 1 to {most} is expected.",
            field="limit",
            remedy=f"Leave it out for the last {default}.",
        )
    return int(limit)


def truth_of(query: QueryParams, name: str) -> bool:
    """Return whether a parameter of an address is true; false without it.

    Raises
    ------
    InvalidDataError
        If it is neither true nor false.
    """
    word = word_of(query, name)
    if word is None:
        return False
    if word.lower() not in TRUTH:
        raise InvalidDataError(
            f"{word[:LONGEST_WORD]!r} is neither true nor false.",
            field=name,
            remedy="Use true or false.",
        )
    return TRUTH[word.lower()]


def request_body(request_type: Any) -> dict[str, Any]:
    """Return the OpenAPI description of a body that FastAPI does not parse.

    Definitions are in the schema itself, under ``$defs``; ``vigie.api.document`` moves them to the
    document's schemas.
    """
    schema = TypeAdapter(request_type).json_schema(ref_template=SCHEMAS)
    if isinstance(request_type, type) and issubclass(request_type, BaseModel):
        definitions = schema.pop("$defs", {}) | {request_type.__name__: schema}
        schema = {"$ref": SCHEMAS.format(model=request_type.__name__), "$defs": definitions}
    content = {JSON: {"schema": schema}}
    return {"requestBody": {"content": content, "required": True}}


def _require_json(content_type: str, how_to_send: str | None) -> None:
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    if subtype != "json" and not subtype.endswith("+json"):
        detail = f"The body is {content_type[:100] or 'of no declared type'}, but JSON is expected."
        raise UnsupportedBody(detail, how_to_send)
