"""An application in this process, asked as over HTTP, without a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import httpx
from fastapi import FastAPI


class Api:
    """Ask an application from any thread.

    Parameters
    ----------
    app : FastAPI
        The application.
    """

    def __init__(self, app: FastAPI):
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open = AsyncExitStack()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def start(self) -> None:
        self._await(self._open.enter_async_context(self.app.router.lifespan_context(self.app)))

    def close(self) -> None:
        self._await(self._open.aclose())
        self._await(self._client.aclose())
        self._await(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer: httpx.Response = self._await(self._client.request(method, path, **more))
        return answer

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def _await(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(120)


@contextmanager
def asked(app: FastAPI, *, is_started: bool = True) -> Iterator[Api]:
    """Yield an application that can be asked; start it first, unless it need not know models."""
    api = Api(app)
    try:
        if is_started:
            api.start()
        yield api
    finally:
        api.close()
