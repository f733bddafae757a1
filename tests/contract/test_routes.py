"""What the framework promises holds on every route: dependencies, middleware, a path in front."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from vigie.config import Settings
from vigie.main import create_app

KEY = {"X-Key": "right"}


async def key(x_key: Annotated[str, Header()] = "") -> None:
    if x_key != KEY["X-Key"]:
        raise HTTPException(401, "No key.")


class Guard:
    """A middleware that lets nobody in without a key."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (b"x-key", b"right") not in scope["headers"]:
            await Response(status_code=401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def by_dependency(settings: Settings) -> FastAPI:
    return create_app(settings, dependencies=[Depends(key)])


def by_middleware(settings: Settings) -> FastAPI:
    app = create_app(settings)
    app.add_middleware(Guard)
    return app


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield method and path of every operation in the document, HEAD beside GET."""
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path
            if method == "get":
                yield "HEAD", path


def asked(app: FastAPI, ask: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            return await ask(client)

    return asyncio.run(run())


@pytest.mark.parametrize("guarded", [by_dependency, by_middleware])
def test_every_route_refuses_without_what_is_demanded(
    guarded: Callable[[Settings], FastAPI], untracked: Settings
) -> None:
    app = guarded(untracked)
    every = list(operations(app))
    assert ("POST", "/api/v1/anomalies/detect") in every

    async def ask(client: httpx.AsyncClient) -> dict[tuple[str, str], tuple[int, int]]:
        return {
            (method, path): (
                (await client.request(method, path, json={})).status_code,
                (await client.request(method, path, json={}, headers=KEY)).status_code,
            )
            for method, path in every
        }

    for operation, (without, with_key) in asked(app, ask).items():
        assert without == 401, operation
        assert with_key != 401, operation


@pytest.mark.parametrize("prefix", ["", "/plant/vigie"], ids=["taken out", "left in"])
def test_behind_a_proxy_every_route_and_page_is_found(prefix: str, untracked: Settings) -> None:
    app = create_app(untracked.model_copy(update={"root_path": "/plant/vigie"}))

    async def ask(client: httpx.AsyncClient) -> None:
        for method, path in operations(app):
            answer = await client.request(method, prefix + path, json={})
            is_no_such = b"-not-found" in answer.content or (method == "HEAD" and "{" in path)
            assert answer.status_code != 404 or is_no_such, (method, path)
            assert answer.status_code != 405, (method, path)
        assert (await client.get(f"{prefix}/")).headers["location"] == "/plant/vigie/docs"
        assert "/plant/vigie/openapi.json" in (await client.get(f"{prefix}/docs")).text
        document = (await client.get(f"{prefix}/openapi.json")).json()
        assert document["servers"] == [{"url": "/plant/vigie"}]

    asked(app, ask)


@pytest.mark.parametrize("root_path", ["", "/plant/vigie"])
@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_loads_everything_from_the_service_itself(
    page: str, root_path: str, untracked: Settings
) -> None:
    app = create_app(untracked.model_copy(update={"root_path": root_path}))

    async def ask(client: httpx.AsyncClient) -> None:
        shown = await client.get(root_path + page)
        assert shown.headers["content-security-policy"].startswith("default-src 'self';")
        assert "://" not in shown.text
        loaded = re.findall(r"""(?:src|href|spec-url)="([^"]*)"|url: '([^']*)'""", shown.text)
        addresses = ["".join(groups) for groups in loaded]
        assert f"{root_path}/openapi.json" in addresses
        assert any(address.endswith(".js") for address in addresses)
        for address in addresses:
            assert address.startswith(f"{root_path}/")
            file = await client.get(address)
            assert file.status_code == 200, address
            assert file.content, address

    asked(app, ask)
