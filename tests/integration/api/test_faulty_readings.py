"""Sensors that fail in live data, over HTTP: a problem by name, or gone on without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest
from faulty_machine import (
    AFTER,
    HEALTHY,
    SENSORS,
    TRAINED_ON,
    Request,
    broken,
    each_fault,
    reading,
    recording,
    stuck,
)

from vigie.config import Settings

Running = Callable[[Settings], AbstractContextManager[httpx.Client]]


@pytest.fixture
def asset(request: pytest.FixtureRequest) -> str:
    """A machine that only this test reads."""
    return str(request.node.name)


@pytest.fixture(scope="module", params=["refuse", "impute"])
def api(
    running: Running, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, httpx.Client]]:
    """A running service, trained over HTTP, and what VIGIE_FAULTY_VALUES says."""
    settings = Settings(
        mlflow_enabled=False,
        state_dir=tmp_path_factory.mktemp("service"),
        faulty_values=request.param,
    )
    body = {
        "data": TRAINED_ON.tolist(),
        "feature_names": list(SENSORS),
        "model_names": ["one_class_svm"],
    }
    with running(settings) as client:
        response = client.post("/train?wait=true", json=body)
        assert response.json()["models"]["one_class_svm"]["status"] == "trained", response.text
        yield request.param, client


def sent(request: Request) -> Request:
    return request | {"timestamp": request["timestamp"].isoformat()}


@each_fault
def test_a_faulty_value_is_a_problem_or_is_gone_on_without(api, asset, sensor, value, reason):
    if reason == "out_of_range":
        # Physical ranges have not been set here.
        sensor, value, reason = "temperature", 60_000.0, "wrong_unit"
    faulty_values, client = api
    bad = sent(broken(reading(asset, HEALTHY[1], 1), sensor, value))
    single = client.post("/detect", json=bad)
    batch = client.post("/detect/batch", json=[sent(reading(asset, HEALTHY[0])), bad])
    if faulty_values == "impute":
        assert single.status_code == batch.status_code == 200, single.text + batch.text
        for result in (single.json(), batch.json()[1]):
            assert result["imputed"] == {sensor: reason}
            assert not result["is_anomaly"]
        assert batch.json()[0]["imputed"] == {}
        return
    for response, place in ((single, ""), (batch, "[1].")):
        assert response.status_code == 422, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["type"] == "urn:problem:vigie:invalid-data"
        assert problem["field"] == f"{place}features.{sensor}"
        assert problem["detail"].startswith(f"{place}features.{sensor}: ")
        assert problem["remedy"]


def test_a_frozen_sensor_is_reported(api, asset):
    _, client = api
    requests = [sent(one) for one in recording(asset, stuck(AFTER + 5, 0, AFTER + 5))]
    results = client.post("/detect/batch", json=requests).json()
    assert results[AFTER - 1]["frozen"] == {}
    assert results[AFTER]["frozen"] == {"flow": AFTER + 1}
