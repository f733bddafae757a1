"""Routes for readings: from bytes to a verdict and back to bytes, with nothing done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

WORKERS = 4
"""Readings judged at a time: enough that a large batch does not hold back single readings, and few
enough that they do not spend their time on taking the interpreter from each other."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class DirectRoute(APIRoute):
    """A route ``endpoint(body, service)`` whose JSON pydantic reads and writes itself.

    FastAPI makes Python objects of the bytes, models of the objects, and on the way back checks
    the result against its own model once more. Here bytes become the model, and the result,
    which is one already, becomes bytes. All of that is done in a thread, so that the event loop
    is free. A body that is no good goes FastAPI's own way, which says what is wrong with it.
    """

    def get_route_handler(self) -> Handler:
        from_fastapi = super().get_route_handler()
        hints = get_type_hints(self.endpoint, include_extras=True)
        body, result = TypeAdapter(hints["body"]), TypeAdapter(hints["return"])
        workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="readings")

        def answer(data: bytes, service: Any) -> bytes | None:
            try:
                asked = body.validate_json(data)
            except ValidationError:
                return None
            return result.dump_json(self.endpoint(asked, service))

        async def handle(request: Request) -> Response:
            if request.headers.get("content-type", "").startswith("application/json"):
                data, service = await request.body(), request.app.state.service
                loop = asyncio.get_running_loop()
                content = await loop.run_in_executor(workers, answer, data, service)
                if content is not None:
                    return Response(content, media_type="application/json")
            return await from_fastapi(request)

        return handle
