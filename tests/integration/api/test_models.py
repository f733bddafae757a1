"""The versions of models over HTTP: which there are, how they are moved, and who has done that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from faults import AT_MOST_S
from problems import problem_in

from vigie import samples
from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.history.keys import KeyStore
from vigie.keys import Scope, new_key
from vigie.main import create_app
from vigie.registry import stages
from vigie.services.detector_service import new_service
from vigie.services.mlflow_service import MLflowService

FOREST = "isolation_forest"
MODELS, STATUS = "/api/v1/models", "/api/v1/anomalies/status"
SENSORS = samples.FEATURE_NAMES
Client = httpx.AsyncClient


@pytest.fixture
def settings(tracked: Settings) -> Settings:
    update = {"n_estimators": 10, "calibration_folds": 2, "history_enabled": False, "auth": "on"}
    return tracked.model_copy(update=update)


def asked(settings: Settings, ask: Callable[[Client], Awaitable[None]]) -> None:
    """Ask a service that has started, with a key for everything that is named 'line 2'."""
    key, text = new_key("line 2", [Scope.ADMIN])
    store = KeyStore(settings)
    store.add(key)
    store.close()
    app = create_app(settings)

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=transport, base_url="http://localhost", headers={"X-API-Key": text}
            ) as client,
        ):
            await ask(client)

    asyncio.run(run())


def train(settings: Settings, rows: np.ndarray, *, stage: str | None = None) -> None:
    names = [*SENSORS, "oil_level"][: rows.shape[1]]
    service = new_service(FOREST, settings)
    service.train(rows, names, stage=stage)
    assert service.mlflow_service.flush(AT_MOST_S)


async def got(client: Client, path: str) -> Any:
    answer = await client.get(f"{MODELS}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def moved(client: Client, act: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"{MODELS}/{FOREST}/{act}", json=body or None)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_versions_are_listed_promoted_and_rolled_back_and_the_history_says_by_whom(
    settings: Settings, healthy: np.ndarray
) -> None:
    train(settings, healthy[:100], stage="Production")
    train(settings, healthy[:150])
    began, tracking = datetime.now(UTC), MLflowService(settings)

    async def ask(client: Client) -> None:
        models = {model["name"]: model for model in (await got(client, ""))["models"]}
        assert list(models) == list(algorithms())
        assert models[FOREST] == {
            "name": FOREST,
            "algorithm": FOREST,
            "serving": {"version": 1, "stage": "Production"},
            "production": 1,
            "staging": None,
            "newest": 2,
            "n_versions": 2,
            "problem": None,
        }
        assert models["one_class_svm"]["serving"] is models["one_class_svm"]["newest"] is None

        listed = (await got(client, f"/{FOREST}/versions"))["versions"]
        new, old = listed
        assert [new["version"], new["stage"], new["is_serving"]] == [2, "None", False]
        assert [old["version"], old["stage"], old["is_serving"]] == [1, "Production", True]
        assert new["parameters"]["n_samples"] == "150"
        assert 0 <= new["metrics"]["anomaly_rate"] <= 1
        assert new["run_name"] == "isolation_forest_150_samples"
        assert new["run_page"].startswith(f"{settings.mlflow_tracking_uri}/#/experiments/")
        assert f"/runs/{new['run_id']}?" in new["run_page"]
        assert new["promoted"] is None
        assert old["trained"] == old["promoted"] < old["created"] < new["created"]
        assert new["created"].endswith("Z")
        assert (await got(client, f"/{FOREST}/versions?limit=1"))["versions"] == [new]
        assert (await got(client, "/one_class_svm/versions"))["versions"] == []

        reason = 'Nach der "Revision" 🔧\nof line 2'
        answer = await moved(client, "promote", version=2, reason=reason)
        facts = {"stage": "Production", "is_serving": True, "previous": 1, "problem": None}
        assert answer == new | facts | {"promoted": answer["promoted"], "compared": None}
        status = (await client.get(STATUS)).json()["models"][FOREST]
        assert (status["version"], status["stage"]) == (2, "Production")

        tracking.transition_model_stage(FOREST, 1, "Staging", reason="again?", by="the night shift")
        answer = await moved(client, "rollback")
        assert (answer["version"], answer["previous"], answer["is_serving"]) == (1, 2, True)
        assert (await got(client, ""))["models"][0]["production"] == 1

        history = (await got(client, f"/{FOREST}/history"))["moves"]
        told = [
            (m["version"], m["from_stage"], m["to_stage"], m["action"], m["by"], m["reason"])
            for m in history
        ]
        by_key = "line 2", None
        assert told[:-1] == [
            (1, "Staging", "Production", "rollback", *by_key),
            (2, "Production", "Archived", "replaced", *by_key),
            (1, "Archived", "Staging", "promote", "the night shift", "again?"),
            (2, "None", "Production", "promote", "line 2", reason),
            (1, "Production", "Archived", "replaced", "line 2", reason),
        ]
        assert told[-1][:4] == (1, "None", "Production", "training")
        assert {m["run_id"] for m in history} == {old["run_id"], new["run_id"]}
        times = [datetime.fromisoformat(m["at"]) for m in history]
        assert times == sorted(times, reverse=True)
        assert began < times[4] < times[0] < datetime.now(UTC) + timedelta(seconds=1)
        assert (await got(client, f"/{FOREST}/history?limit=2"))["moves"] == history[:2]

        # MLflow's own page moves aliases.
        tracking.server.client.set_registered_model_alias(FOREST, "production", "2")
        by_alias = (await got(client, f"/{FOREST}/history"))["moves"][:2]
        assert [(m["action"], m["by"], m["reason"]) for m in by_alias] == [
            ("unrecorded", None, None)
        ] * 2
        assert {(m["version"], m["to_stage"]) for m in by_alias} == {
            (2, "Production"),
            (1, "None"),
        }

    asked(settings, ask)


def test_what_cannot_be_moved_is_refused_and_what_cannot_serve_says_why(
    settings: Settings, healthy: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings, healthy[:100], stage="Production")
    # Of other sensors than a second model knows.
    train(settings, np.column_stack([healthy, healthy[:, 0]])[:100])
    svm = new_service("one_class_svm", settings)
    svm.train(healthy[:100], SENSORS)
    assert svm.mlflow_service.flush(AT_MOST_S)

    async def ask(client: Client) -> None:
        path = f"{MODELS}/{FOREST}"
        for method, where, body, status, field, said in (
            ("GET", f"{MODELS}/isolation_forrest/versions", None, 404, "name", FOREST),
            ("GET", f"{MODELS}/isolationforest--p/history", None, 404, "name", f"{FOREST}--p"),
            ("GET", f"{MODELS}/{FOREST}--pump-3/versions", None, 404, None, "Train"),
            ("GET", f"{MODELS}/a' OR name LIKE '%25/versions", None, 404, "name", "Detectors"),
            ("POST", f"{MODELS}/churn/promote", {"version": 1}, 404, "name", "Detectors"),
            ("GET", f"{path}/versions?limit=0", None, 422, "limit", "Leave it out"),
            ("GET", f"{path}/history?limit=1001", None, 422, "limit", ""),
            ("GET", f"{path}/history?most=7", None, 422, "query", "limit"),
            ("GET", f"{MODELS}?stage=Staging", None, 422, "query", "Leave it out"),
            ("POST", f"{path}/promote", {"version": 9}, 404, "version", "1 (Production)"),
            ("POST", f"{path}/promote", {"version": "2"}, 422, "version", ""),
            ("POST", f"{path}/promote", {"version": 10**30}, 422, "version", ""),
            ("POST", f"{path}/promote", {"version": 2, "stage": "Live"}, 422, "stage", ""),
            ("POST", f"{path}/promote", {"version": 2, "why": "x"}, 422, "why", ""),
            ("POST", f"{path}/promote", {"version": 2, "reason": "x" * 1001}, 422, "reason", ""),
            ("POST", f"{path}/promote", {"version": 2, "reason": "\x07"}, 422, "reason", ""),
            ("POST", f"{path}/promote", {}, 422, "version", "Add it"),
            ("POST", f"{path}/rollback", {"version": 1}, 422, "version", ""),
            ("POST", f"{path}/rollback?reason=x", None, 422, "query", "Leave it out"),
            ("POST", f"{path}/rollback", None, 404, None, "vigie models promote"),
            ("POST", f"{MODELS}/one_class_svm/rollback", None, 404, "stage", "promote"),
        ):
            told = problem_in(await client.request(method, where, json=body), status)
            assert told.get("field") == field, (where, body)
            assert said in told["remedy"], (where, told["remedy"])
        [newest, first] = (await got(client, f"/{FOREST}/versions"))["versions"]
        assert [newest["stage"], first["stage"]] == ["None", "Production"]

        answer = await moved(client, "promote", version=2)
        assert (answer["stage"], answer["is_serving"]) == ("Production", False)
        assert "oil_level" in answer["problem"]
        model = (await got(client, ""))["models"][0]
        assert (model["serving"]["version"], model["production"]) == (1, 2)
        assert model["problem"] == answer["problem"]

        lock_tags = stages._lock_tags

        def another_is_faster(*where: Any) -> set[str]:
            monkeypatch.setattr(stages, "_lock_tags", lock_tags)
            stages.move(MLflowService(settings).server, FOREST, 1, "Production")
            return lock_tags(*where)

        monkeypatch.setattr(stages, "_lock_tags", another_is_faster)
        refused = problem_in(await client.post(f"{path}/promote", json={"version": 2}), 409)
        assert "Version 1 of 'isolation_forest' was moved to Production" in refused["detail"]

    asked(settings, ask)


def test_a_list_asks_the_registry_few_things_however_many_versions_there_are(
    behind: Callable[..., Any], healthy: np.ndarray
) -> None:
    settings, server = behind(10_000, "gone")
    settings = settings.model_copy(update={"n_estimators": 10, "history_enabled": False})
    train(settings, healthy[:100])
    client = MLflowService(settings).server.client
    made = client.get_model_version(FOREST, "1")
    for _ in range(11):
        client.create_model_version(FOREST, made.source, made.run_id, made.tags)
    # One that other tools have made, of no run.
    client.create_model_version(FOREST, "s3://models/forest")
    settings = settings.model_copy(update={"auth": "on", "registry_poll_s": 3600.0})
    server.counts_probes = False

    async def ask(client: Client) -> None:
        await got(client, "")
        await asyncio.to_thread(MLflowService(settings).list_versions, FOREST)
        server.asked.clear()
        versions = (await got(client, f"/{FOREST}/versions"))["versions"]
        assert len(versions) == 13
        assert versions[0]["run_page"] is None
        assert all(version["parameters"] for version in versions[1:])
        assert len(server.asked) == 4, server.asked
        server.asked.clear()
        await got(client, "")
        assert len(server.asked) == 1, "nothing has changed since"

        server.left = 0
        for method, path, body in (
            ("GET", "", None),
            ("GET", f"/{FOREST}/versions", None),
            ("GET", f"/{FOREST}/history", None),
            ("POST", f"/{FOREST}/promote", {"version": 3}),
            ("POST", f"/{FOREST}/rollback", None),
        ):
            answer = await client.request(method, f"{MODELS}{path}", json=body)
            told = problem_in(answer, 502)
            assert str(server.server_port) not in answer.text
            assert "doctor" in told["remedy"]

    asked(settings, ask)


def test_without_a_registry_every_request_says_so(untracked: Settings) -> None:
    async def ask(client: Client) -> None:
        for method, path, body in (
            ("GET", "", None),
            ("GET", f"/{FOREST}/versions", None),
            ("GET", f"/{FOREST}/history", None),
            ("POST", f"/{FOREST}/promote", {"version": 3}),
            ("POST", f"/{FOREST}/rollback", None),
        ):
            told = problem_in(await client.request(method, f"{MODELS}{path}", json=body), 409)
            assert told["field"] == "MLFLOW_ENABLED"

    asked(untracked.model_copy(update={"auth": "on", "history_enabled": False}), ask)
    tracking = MLflowService(untracked)
    assert tracking.history(FOREST) == []
    assert tracking.transition_model_stage(FOREST, 1, "Production", reason="x", by="y") is None
    assert tracking.rollback(FOREST, reason="x") is None
