"""JSON bodies that pydantic reads and writes itself, in a thread: the event loop only moves bytes.

FastAPI makes Python objects of the bytes in the event loop, models of the objects, and on the way
back checks the result against its own model once more. Here bytes become the model, and the
result, which is one already, becomes bytes. Everything else is FastAPI's: such a route takes the
``Request``, and what is demanded of it, by dependency or middleware, is demanded as of any other.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, TypeAdapter
from starlette.exceptions import HTTPException

from vigie.api.executor import BatchExecutor
from vigie.errors import InvalidDataError
from vigie.models.from_json import Counted, from_json

JSON = "application/json"
SCHEMAS = "#/components/schemas/{model}"
LARGE = 128 * 1024
"""Bytes of a body that takes the interpreter for long."""
MOST_VALUES = 500_000
"""In a body that is parsed here: ten thousand readings of fifty sensors."""

# One at a time: they would not be done sooner together, and whoever else wants the interpreter
# waits for as many of them as there are.
_large_bodies = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")

Asked = TypeVar("Asked", bound=Counted | list[Any])
Answered = TypeVar("Answered")


class Exchange(Generic[Asked, Answered]):
    """What a route is asked and what it answers, both as JSON.

    Parameters
    ----------
    asked, answered : type
        As pydantic knows them.
    """

    def __init__(self, asked: type[Asked], answered: type[Answered]):
        self._asked: TypeAdapter[Asked] = TypeAdapter(asked)
        self._answered: TypeAdapter[Answered] = TypeAdapter(answered)
        self.described: dict[str, Any] = {
            "response_model": answered,
            "openapi_extra": request_body(asked),
        }
        """What the decorator of the route is given, so that the API's document shows both."""

    async def __call__(self, request: Request, work: Callable[[Asked], Answered]) -> Response:
        """Read the body, do the work in a thread, and return the answer."""
        data = await json_of(request)
        if len(data) > LARGE:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(_large_bodies, self._uncollected, data, work)
        else:
            executor: BatchExecutor = request.app.state.executor
            content = await executor.run(partial(self._answer, data, work))
        return Response(content, media_type=JSON)

    def _answer(self, data: bytes, work: Callable[[Asked], Answered]) -> bytes:
        return self._answered.dump_json(work(from_json(self._asked, data)))

    def _uncollected(self, data: bytes, work: Callable[[Asked], Answered]) -> bytes:
        """Answer without the garbage collector.

        The hundreds of thousands of objects of a large body would have it look at all objects
        again and again, for nothing, and a tenth of a second each time in which no other thread
        runs.
        """
        # Two values that stand in one list or object have a comma between them. A parser that
        # reads millions of them keeps the interpreter for seconds.
        if data.count(b",") > MOST_VALUES:
            raise InvalidDataError(
                f"It holds more than {MOST_VALUES} values.",
                field="body",
                remedy="Send fewer readings at once.",
            )
        gc.disable()
        try:
            return self._answer(data, work)
        finally:
            gc.enable()


async def json_of(request: Request) -> bytes:
    """Return the body of a request that says it sends JSON.

    Raises
    ------
    HTTPException
        With 415, if it says anything else.
    """
    said, packed = b"", b"identity"
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            said = value
        elif name == b"content-encoding":
            packed = value
    if packed.lower() not in (b"identity", b""):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body is sent as {packed[:100].decode('latin-1')}, but is not unpacked here.",
        )
    if said != JSON.encode():
        _refuse_all_but_json(said.decode("latin-1"))
    return await request.body()


def request_body(asked: Any) -> dict[str, Any]:
    """Return what the API's document says of a route whose body FastAPI does not read.

    Definitions stand in the schema itself, under ``$defs``; ``vigie.api.document`` moves them to
    where all others are.
    """
    schema = TypeAdapter(asked).json_schema(ref_template=SCHEMAS)
    if isinstance(asked, type) and issubclass(asked, BaseModel):
        definitions = schema.pop("$defs", {}) | {asked.__name__: schema}
        schema = {"$ref": SCHEMAS.format(model=asked.__name__), "$defs": definitions}
    content = {JSON: {"schema": schema}}
    return {"requestBody": {"content": content, "required": True}}


def _refuse_all_but_json(said: str) -> None:
    kind = Message()
    kind["content-type"] = said
    subtype = kind.get_content_subtype()
    if subtype != "json" and not subtype.endswith("+json"):
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body is sent as {said[:100] or 'nothing in particular'}, but JSON is expected.",
        )
