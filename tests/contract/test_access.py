"""Doors: which key opens which route, in front of every route of the application."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from problems import problem_in

from vigie.api.access import DECLARED, endpoints
from vigie.config import Settings
from vigie.history.keys import KeyStore
from vigie.keys import Scope, new_key
from vigie.main import create_app

API = "/api/v1/anomalies"
OPEN = {("GET", f"{API}/health"), ("GET", f"{API}/health/ready")}
PAGES = ["/", "/docs", "/redoc", "/openapi.json", "/assets/favicon.svg"]
FORWARDED = [{"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=10.1.2.3"}, {"Via": "1.1 squid"}]

Operation = tuple[str, str]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a service whose every route needs a key; no test here asks it for a verdict."""
    return Settings(auth="on", mlflow_enabled=False, history_enabled=False, state_dir=tmp_path)


def made(settings: Settings, *scopes: Scope) -> dict[str, str]:
    """Make a key, and return the header that sends it."""
    key, text = new_key(" ".join(scopes), scopes)
    store = KeyStore(settings)
    store.add(key)
    store.close()
    return {"Authorization": f"Bearer {text}"}


def asked(
    app: FastAPI, ask: Callable[[httpx.AsyncClient], Awaitable[Any]], address: str = "127.0.0.1"
) -> Any:
    """Ask an application that has not started its models: what is refused needs none."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app, client=(address, 1), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await ask(client)

    return asyncio.run(run())


def operations(app: FastAPI) -> dict[Operation, Scope | None]:
    """Return every operation of the OpenAPI document with the scope that it names; HEAD too."""
    found: dict[Operation, Scope | None] = {}
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            needed = {scope for one in operation.get("security", ()) for [scope] in one.values()}
            [scope] = needed or {None}
            found[method.upper(), path] = scope and Scope(scope)
    return found


def with_head(every: Iterable[Operation]) -> list[Operation]:
    return [*every, *(("HEAD", path) for method, path in every if method == "GET")]


def test_every_route_demands_a_key_with_the_scope_that_the_document_names(
    settings: Settings,
) -> None:
    app = create_app(settings)
    every = operations(app)
    assert {operation for operation, scope in every.items() if scope is None} == OPEN
    closed = {operation: scope for operation, scope in every.items() if scope}
    assert set(Scope) == set(closed.values())
    closed |= {("GET", page): Scope.READ for page in PAGES}
    keys = {scope: made(settings, scope) for scope in Scope}

    async def ask(client: httpx.AsyncClient) -> None:
        for (method, path), needed in closed.items():
            # Invalid, so that nothing is detected or trained: it is refused only behind the door.
            body: dict[str, Any] = {} if method == "GET" else {"content": b"x"}
            for verb in (method, "HEAD") if method == "GET" else (method,):
                bare = await client.request(verb, path, **body)
                assert bare.status_code == 401, (verb, path)
                assert bare.headers["www-authenticate"] == 'Bearer realm="vigie"'
                for scope in Scope:
                    headers = keys[scope] | {"Content-Type": "text/x-nothing"}
                    answer = await client.request(verb, path, headers=headers, **body)
                    reads = needed is Scope.READ and scope in (Scope.OPERATE, Scope.TRAIN)
                    is_let_in = reads or scope in (needed, Scope.ADMIN)
                    assert (answer.status_code not in (401, 403)) == is_let_in, (verb, path, scope)
                    if not is_let_in and verb != "HEAD":
                        problem_in(answer, 403)
                        challenge = answer.headers["www-authenticate"]
                        assert re.search(
                            rf'^Bearer .*"insufficient_scope", scope="{needed}"$', challenge
                        )
            problem_in(await client.request(method, path, **body), 401)
        for method, path in OPEN:
            assert (await client.request(method, path)).status_code in (200, 503)

    asked(app, ask)


def test_every_route_declares_its_scope(settings: Settings) -> None:
    for route, endpoint in endpoints(create_app(settings)):
        assert hasattr(endpoint, DECLARED), f"{route.path}: see vigie.api.access.requires"


def test_a_route_that_declares_no_scope_is_for_admins(settings: Settings) -> None:
    app = create_app(settings)
    app.add_api_route("/new", lambda: "in")
    keys = {scope: made(settings, scope) for scope in Scope}

    async def ask(client: httpx.AsyncClient) -> set[Scope]:
        answers = {scope: await client.get("/new", headers=keys[scope]) for scope in Scope}
        return {scope for scope, answer in answers.items() if answer.status_code == 200}

    assert asked(app, ask) == {Scope.ADMIN}


def test_whoever_has_no_key_does_not_learn_which_paths_there_are(settings: Settings) -> None:
    key = made(settings, Scope.READ)

    async def ask(client: httpx.AsyncClient) -> None:
        for method, path, status in (
            ("GET", "/nowhere", 404),
            ("DELETE", f"{API}/status", 405),
            ("GET", "/assets/../../etc/passwd", 404),
        ):
            problem_in(await client.request(method, path), 401)
            answer = await client.request(method, path, headers=key)
            assert answer.status_code == status

    asked(create_app(settings), ask)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Authorization": "Basic dmlnaWU6dmlnaWU="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer vigie_0123456789ab_" + "0" * 48},
        {"X-API-Key": "vigie_0123456789ab"},
        {"X-API-Key": "ключ".encode()},
        {"X-API-Key": "vigie_" + "9" * 60_000},
    ],
    ids=["another scheme", "no token", "unknown", "half a key", "no ASCII", "long"],
)
def test_what_is_no_key_opens_nothing(wrong: dict[str, Any], settings: Settings) -> None:
    made(settings, Scope.ADMIN)

    async def ask(client: httpx.AsyncClient) -> None:
        told = problem_in(await client.get(f"{API}/status", headers=wrong), 401)
        assert "9" * 20 not in str(told)

    asked(create_app(settings), ask)


def test_a_key_is_taken_from_either_header_and_a_wrong_secret_is_not(settings: Settings) -> None:
    text = made(settings, Scope.READ)["Authorization"].removeprefix("Bearer ")
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")

    async def ask(client: httpx.AsyncClient) -> None:
        for name, value, status in (
            ("Authorization", f"bearer {text}", 200),
            ("X-API-Key", text, 200),
            ("Authorization", f"Bearer {wrong}", 401),
            ("X-API-Key", wrong, 401),
        ):
            answer = await client.get(f"{API}/status", headers={name: value})
            assert answer.status_code == status, (name, value)
            if status == 401:
                assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert (await client.get(f"{API}/status?api_key={text}")).status_code == 401

    asked(create_app(settings), ask)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_only_programs_of_this_machine_need_no_key(
    host: str, settings: Settings
) -> None:
    app = create_app(settings.model_copy(update={"auth": "auto", "host": host}))

    async def ask(client: httpx.AsyncClient) -> list[int]:
        headers: list[dict[str, str]] = [{}, *FORWARDED]
        return [(await client.get(f"{API}/status", headers=one)).status_code for one in headers]

    assert asked(app, ask) == [200, 401, 401, 401]
    # Another server that runs the application may listen elsewhere.
    assert asked(app, ask, "10.1.2.3") == [401] * 4


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "pump-7.works.example"])
def test_on_any_other_address_everybody_needs_a_key_unless_told_otherwise(
    host: str, settings: Settings
) -> None:
    for auth, statuses in (("auto", [401, 401]), ("off", [200, 200])):
        app = create_app(settings.model_copy(update={"auth": auth, "host": host}))

        async def ask(client: httpx.AsyncClient) -> list[int]:
            headers: list[dict[str, str]] = [{}, FORWARDED[0]]
            return [(await client.get(f"{API}/status", headers=one)).status_code for one in headers]

        assert asked(app, ask) == statuses


def test_a_key_that_is_too_fast_is_told_when_to_come_back(settings: Settings) -> None:
    fast, calm = made(settings, Scope.READ), made(settings, Scope.READ, Scope.DETECT)

    async def ask(client: httpx.AsyncClient) -> None:
        for _ in range(3):
            assert (await client.get(f"{API}/status", headers=fast)).status_code == 200
        refused = await client.get(f"{API}/status", headers=fast)
        assert "VIGIE_RATE_LIMIT" in problem_in(refused, 429)["detail"]
        assert 19 * 60 <= int(refused.headers["retry-after"]) <= 20 * 60
        assert (await client.get(f"{API}/status", headers=calm)).status_code == 200
        assert (await client.get(f"{API}/health")).status_code == 200

    asked(create_app(settings.model_copy(update={"rate_limit": "3/hour"})), ask)


def test_pages_of_other_sites_read_nothing_unless_their_site_is_named(settings: Settings) -> None:
    key, site = made(settings, Scope.READ), "https://scada.example"
    preflight = {
        "Origin": site,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }

    async def ask(client: httpx.AsyncClient) -> list[str | None]:
        answers = [
            await client.options(f"{API}/detect", headers=preflight),
            await client.get(f"{API}/status", headers=key | {"Origin": site}),
            await client.get(f"{API}/status", headers=key | {"Origin": "https://evil.example"}),
        ]
        return [answer.headers.get("access-control-allow-origin") for answer in answers]

    assert asked(create_app(settings), ask) == [None, None, None]
    opened = settings.model_copy(update={"cors_origins": (site,)})
    assert asked(create_app(opened), ask) == [site, site, None]


@pytest.mark.parametrize(
    ("headers", "is_sent"),
    [
        ({}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, True),
        # Behind a proxy with TLS, the service has another address than the page.
        ({"Origin": "https://vigie.example", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://scada.example", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://localhost:3000"}, False),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://evil.localhost", "Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_a_page_of_another_site_has_nothing_trained(
    headers: dict[str, str], is_sent: bool, settings: Settings
) -> None:
    settings = settings.model_copy(
        update={"auth": "auto", "cors_origins": ("https://scada.example",)}
    )

    async def ask(client: httpx.AsyncClient) -> None:
        # What a form or a plain request sends without asking first.
        sent = headers | {"Content-Type": "text/plain"}
        # The parameter is unknown, so that nothing is trained where it is let in.
        train = await client.post(f"{API}/train?x=1", headers=sent, content="rms\n1\n")
        assert train.status_code == (422 if is_sent else 403)
        if not is_sent:
            assert "VIGIE_CORS_ORIGINS" in train.json()["remedy"]
        assert (await client.get(f"{API}/status", headers=headers)).status_code == 200

    asked(create_app(settings), ask)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_answer_tells_a_browser_what_it_must_not_do(scheme: str, settings: Settings) -> None:
    key, app = made(settings, Scope.ADMIN), create_app(settings)

    @app.get("/fails")
    def fails() -> None:
        raise RuntimeError

    async def ask(client: httpx.AsyncClient) -> None:
        for path, status in (
            (f"{API}/status", 200),
            (f"{API}/health", 200),
            ("/docs", 200),
            ("/assets/favicon.svg", 200),
            ("/nowhere", 404),
            ("/fails", 500),
        ):
            answer = await client.get(f"{scheme}://localhost{path}", headers=key)
            assert answer.status_code == status
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            is_kept = path.startswith("/assets")
            assert answer.headers.get("cache-control") == (None if is_kept else "no-store")
            assert ("strict-transport-security" in answer.headers) == (scheme == "https")

    asked(app, ask)
