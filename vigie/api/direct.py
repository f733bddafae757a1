"""Routes whose bodies never pass through the event loop's hands: it only moves bytes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from vigie.api import problems
from vigie.errors import InvalidDataError, VigieError
from vigie.models.from_json import from_json

JSON = "application/json"
TINY, LARGE = 4 * 1024, 128 * 1024
"""Bytes of a body that is a reading or a few, and of one that takes the interpreter for long."""

MOST_VALUES = 500_000
"""In a body that is judged here: ten thousand readings of fifty sensors."""

# Few enough that they do not spend their time on taking the interpreter from each other. Of large
# bodies one at a time: they would not be done sooner together, and whoever else wants the
# interpreter waits for as many of them as there are.
small_bodies = ThreadPoolExecutor(4, thread_name_prefix="small-bodies")
large_bodies = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
T = TypeVar("T")


class DirectRoute(APIRoute):
    """A route ``endpoint(body, service)`` whose JSON pydantic reads and writes itself.

    FastAPI makes Python objects of the bytes, models of the objects, and on the way back checks
    the result against its own model once more. Here bytes become the model, and the result,
    which is one already, becomes bytes. All of that is done in a thread, so that the event loop
    is free.
    """

    def get_route_handler(self) -> Handler:
        hints = get_type_hints(self.endpoint, include_extras=True)
        form, result = TypeAdapter(hints["body"]), TypeAdapter(hints["return"])

        def answer(data: bytes, service: Any) -> bytes:
            _refuse_too_many_values(data)
            return result.dump_json(self.endpoint(from_json(form, data), service))

        async def content(scope: Scope, receive: Receive) -> bytes:
            data, state = await _json_of(scope, receive), scope["app"].state
            loop, service = asyncio.get_running_loop(), state.service
            if len(data) > LARGE:
                return await loop.run_in_executor(large_bodies, _uncollected, answer, data, service)
            if len(data) > TINY or state.in_one_go is None:
                return await loop.run_in_executor(small_bodies, answer, data, service)
            found: bytes = await state.in_one_go.answer(partial(answer, data, service))
            return found

        async def handle(request: Request) -> Response:
            return Response(await content(request.scope, request.receive), media_type=JSON)

        self.content = content
        return handle


class Shortcut:
    """Take what is sent to direct routes past the routers, which would look for it in all routes.

    Parameters
    ----------
    app : ASGI application
        Where everything else goes.
    routes : iterable of BaseRoute
        Of these the direct ones, below ``prefix``.
    prefix : str
        The path of their router.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], prefix: str):
        self.app = app
        self._content_of = {
            prefix + route.path: route.content for route in routes if isinstance(route, DirectRoute)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_of = self._content_of.get(scope.get("path", ""))
        if content_of is None or scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            content = await content_of(scope, receive)
        except ClientDisconnect:
            # Nobody is there to be answered.
            return
        except (VigieError, HTTPException) as error:
            await problems.answer(Request(scope), error)(scope, receive, send)
            return
        # What a Response would send, without all that it could.
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", JSON.encode())]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Unread(Generic[T]):
    """A body that has not been asked for yet; the API's document shows it as what it is to hold."""

    def __init__(self, request: Request):
        self._request = request

    async def read(self) -> bytes:
        """Return the body as it came."""
        return await _json_of(self._request.scope, self._request.receive)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(source.__args__[0])


class UnreadRoute(APIRoute):
    """A route ``endpoint(body, service)`` that decides itself when to read its body, if at all.

    What a body of many megabytes says is not found out here: whoever did that would hold the
    interpreter for seconds, and with it everybody else's readings.
    """

    def get_route_handler(self) -> Handler:
        result = TypeAdapter(get_type_hints(self.endpoint)["return"])

        async def handle(request: Request) -> Response:
            answer = await self.endpoint(Unread(request), request.app.state.service)
            return Response(result.dump_json(answer), media_type=JSON)

        return handle


def _refuse_too_many_values(data: bytes) -> None:
    """Refuse what would keep a parser, and with it the interpreter, busy for seconds.

    Two values that stand in one list or object have a comma between them.
    """
    if len(data) > LARGE and data.count(b",") > MOST_VALUES:
        raise InvalidDataError(
            f"It holds more than {MOST_VALUES} values.",
            field="body",
            remedy="Send fewer readings at once.",
        )


def _uncollected(work: Callable[..., bytes], *arguments: Any) -> bytes:
    """Work without the garbage collector.

    The hundreds of thousands of objects of a large body would have it look at all objects again and
    again, for nothing, and a tenth of a second each time in which no other thread runs.
    """
    gc.disable()
    try:
        return work(*arguments)
    finally:
        gc.enable()


async def _json_of(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a request that says it sends JSON."""
    said = packed = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            said = value
        elif name == b"content-encoding":
            packed = value
    if packed and packed.lower() != b"identity":
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body is sent as {packed[:100].decode('latin-1')}, but is not unpacked here.",
        )
    if said != JSON.encode():
        _refuse_all_but_json(said.decode("latin-1"))
    # As Request.body() does, without its two generators.
    parts, is_all = [], False
    while not is_all:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        is_all = not message.get("more_body", False)
    return b"".join(parts)


def _refuse_all_but_json(said: str) -> None:
    kind = Message()
    kind["content-type"] = said
    subtype = kind.get_content_subtype()
    if subtype != "json" and not subtype.endswith("+json"):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body is sent as {said[:100] or 'nothing in particular'}, but JSON is expected.",
        )
