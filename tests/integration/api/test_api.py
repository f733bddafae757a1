"""The service over HTTP, as a real process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from vigie import samples
from vigie.cli.doctor import examine
from vigie.config import Settings
from vigie.services.mlflow_service import MLflowService

Running = Callable[[Settings], AbstractContextManager[httpx.Client]]

ROW_MODELS = ["isolation_forest", "one_class_svm"]
MODELS = [*ROW_MODELS, "vector_autoregression", "lstm_autoencoder"]
WINDOW = 5
CHEAP = {
    "figures": False,
    "n_estimators": 25,
    "epochs": 2,
    "encoder_layers": (8,),
    "decoder_layers": (8,),
    "sequence_length": WINDOW,
}
MAX_BODY = 300_000
START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def reading(asset_id: str, row: np.ndarray, second: int | None = None) -> dict[str, Any]:
    """Return a reading of the bench, measured some seconds after the start."""
    body = {
        "asset_id": asset_id,
        "features": dict(zip(samples.FEATURE_NAMES, row.tolist(), strict=True)),
    }
    if second is not None:
        body["timestamp"] = (START + timedelta(seconds=second)).isoformat()
    return body


def recording(asset_id: str, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return consecutive readings, one a second."""
    return [reading(asset_id, row, second) for second, row in enumerate(rows)]


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Check that an answer is a problem as RFC 9457 has it, and return its fields."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:problem:vigie:{kind}"
    assert body["status"] == status
    assert body["instance"] == response.request.url.path
    assert body["title"]
    assert body["detail"]
    return body


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def post_text(api: httpx.Client, path: str, text: str) -> httpx.Response:
    return api.post(path, content=text, headers=JSON)


# A service that nobody has trained.


@pytest.fixture(scope="module")
def untrained(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """It has no registry either."""
    settings = Settings(
        mlflow_enabled=False, state_dir=tmp_path_factory.mktemp("state"), max_body_bytes=MAX_BODY
    )
    with running(settings) as api:
        yield api


def nothing_is_trained(api: httpx.Client) -> bool:
    status = answer(api.get("/status"))
    return not status["ready"] and not any(m["trained"] for m in status["models"].values())


def test_an_untrained_service_says_what_to_call(untrained, healthy):
    one = reading("pump", healthy[0])
    for response in (
        untrained.post("/detect", json=one),
        untrained.post("/detect/batch", json=[one]),
        untrained.get("/health/ready"),
    ):
        body = problem(response, 503, "not-trained")
        assert "POST /api/v1/anomalies/train" in body["remedy"]
        assert "vigie train" in body["remedy"]


@pytest.fixture(scope="module")
def forgetful(
    running: Running, tmp_path_factory: pytest.TempPathFactory, healthy: np.ndarray
) -> Iterator[httpx.Client]:
    """A service without a history."""
    settings = Settings(
        mlflow_enabled=False,
        history_enabled=False,
        state_dir=tmp_path_factory.mktemp("state"),
        n_estimators=25,
    )
    with running(settings) as api:
        body = {"data": healthy.tolist(), "feature_names": list(samples.FEATURE_NAMES)}
        answer(api.post("/train?wait=true", json=body | {"model_names": ["isolation_forest"]}))
        yield api


def test_readings_sent_at_once_without_a_history_are_each_answered_for_themselves(
    forgetful, healthy
):
    def ask(number: int) -> httpx.Response:
        body = reading(f"pump-{number}", healthy[number])
        if number % 5 == 0:
            # One that is no good must not be the fault of those beside it.
            del body["features"]
        return forgetful.post("/detect", json=body)

    with ThreadPoolExecutor(8) as elsewhere:
        at_once = list(elsewhere.map(ask, range(40)))
    for number, response in enumerate(at_once):
        alone = ask(number)
        if number % 5 == 0:
            problem(response, 422, "invalid-data")
        else:
            assert answer(response)["asset_id"] == f"pump-{number}"
            assert answer(response)["final_score"] == answer(alone)["final_score"]


def columns_of(readings: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return readings of one asset as columns."""
    return {
        "asset_id": readings[0]["asset_id"],
        "timestamps": [one["timestamp"] for one in readings],
        "features": {n: [one["features"][n] for one in readings] for n in samples.FEATURE_NAMES},
    } | more


def test_columns_are_judged_as_the_same_readings_one_by_one(forgetful, fault):
    rows = recording("pump", fault.data[250:350])
    one_by_one = answer(forgetful.post("/detect/batch", json=rows))
    columns = answer(forgetful.post("/detect/batch", json=columns_of(rows)))

    assert columns["asset_id"] == "pump"
    assert len(columns["timestamps"]) == 100
    for column, of in {
        "timestamps": lambda one: one["timestamp"],
        "final_score": lambda one: one["final_score"],
        "is_anomaly": lambda one: one["is_anomaly"],
        "criticality": lambda one: one["criticality"],
        "state": lambda one: one["asset"]["state"],
        "evidence": lambda one: one["asset"]["evidence"],
    }.items():
        assert columns[column] == [of(one) for one in one_by_one]
    [forest] = columns["models"].values()
    assert forest["score"] == [one["models"]["isolation_forest"]["score"] for one in one_by_one]
    anomalies = {str(place): one for place, one in enumerate(one_by_one) if one["is_anomaly"]}
    assert 0 < len(anomalies) < 100
    assert columns["details"].items() >= anomalies.items()
    # Without times, the readings come now.
    untimed = columns_of(rows, features={n: [True] for n in samples.FEATURE_NAMES})
    del untimed["timestamps"]
    assert len(answer(forgetful.post("/detect/batch", json=untimed))["is_anomaly"]) == 1


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"timestamps": ["2026-01-05T08:00:00Z"]}, "features", "vibration_rms has 3 values"),
        ({"timestamps": [1, 2, 3]}, "timestamps[0]", "unit of a number"),
        ({"features": {"vibration_rms": 0.4}}, "features.vibration_rms", "array"),
        ({"features": {"vibration_rms": [0.4, "x", 0.4]}}, "features.vibration_rms[1]", "number"),
        ({"features": {"vibration_rms": [0.4, None, 0.4]}}, "features", "missing"),
        ({"features": {"a": [1.0] * 3, "b": [1.0]}}, "features", "b has 1 values"),
        ({"context": {"load": [1.0]}}, "context", "load has 1 values"),
        ({"context": {"flow_rate": ["a", "b", "c"]}}, "context", "both as a feature"),
        ({"timestamp": "2026-01-05T08:00:00Z"}, "timestamp", "timestamps"),
        ({"asset_id": None}, "asset_id", "Text"),
    ],
)
def test_columns_that_do_not_fit_are_refused_with_the_place(
    forgetful, healthy, change, field, said
):
    columns = columns_of(recording("pump", healthy[:3]), **change)
    body = problem(forgetful.post("/detect/batch", json=columns), 422, "invalid-data")
    assert body["field"].startswith(field)
    assert said in body["detail"] + body["remedy"]


def test_a_missing_value_of_a_column_is_named_by_its_place(forgetful, healthy):
    columns = columns_of(recording("pump", healthy[:3]))
    columns["features"]["flow_rate"][1] = None
    body = problem(forgetful.post("/detect/batch", json=columns), 422, "invalid-data")
    assert body["field"] == "features.flow_rate[1]"


def test_sensors_are_judged_given_a_context_of_numbers_and_words(running, tmp_path):
    rng = np.random.default_rng(3)
    load = np.repeat(rng.choice([0.2, 0.8], 30), 20)
    product = np.where(rng.random(30).repeat(20) < 0.5, "flour", "sugar")
    follows = 30.0 * load[:, None] + 10.0 * (product == "sugar")[:, None]
    body = {
        "data": np.column_stack([rng.normal(size=(600, 3)) + follows, load]).tolist(),
        "feature_names": ["power", "flow", "heat", "load"],
        "context_features": ["load"],
        "context": {"product": product.tolist()},
        "model_names": ["isolation_forest"],
    }
    settings = Settings(
        mlflow_enabled=False, history_enabled=False, state_dir=tmp_path, n_estimators=25
    )
    with running(settings) as api:
        answer(api.post("/train?wait=true", json=body))

        def said(load: float, product: str, value: float) -> Any:
            asked = {
                "asset_id": "mill",
                "features": dict.fromkeys(("power", "flow", "heat"), value),
                "context": {"load": load, "product": product},
            }
            return answer(api.post("/detect", json=asked))

        assert not said(0.2, "flour", 6.0)["is_anomaly"]
        assert not said(0.8, "sugar", 34.0)["is_anomaly"]
        assert said(0.2, "flour", 34.0)["is_anomaly"]
        assert said(0.8, "sugar", 6.0)["is_anomaly"]
        between, salt = said(0.5, "flour", 15.0), said(0.2, "salt", 6.0)
        assert the_examples_of_readings_are_usual(api) == {"power", "flow", "heat"}

        content = api.get(api.base_url.join("/openapi.json")).json()["paths"]
        file = content["/api/v1/anomalies/train"]["post"]["requestBody"]["content"]["text/csv"]
        csv = {"content": file["example"], "headers": {"Content-Type": "text/csv"}}
        answer(api.post("/train?wait=true&model=isolation_forest", **csv))
        assert the_examples_of_readings_are_usual(api) == {"temperature [°C]", "pressure [bar]"}
    for verdict in (between, salt):
        assert verdict["asset"]["state"] == "unknown_operating_point"
        assert verdict["final_score"] is None
    [unseen] = between["asset"]["unseen"]
    assert (unseen["name"], unseen["value"]) == ("load", 0.5)
    assert [round(end, 1) for ends in unseen["seen"] for end in ends] == [0.2, 0.2, 0.8, 0.8]
    [unseen] = salt["asset"]["unseen"]
    assert unseen == {"name": "product", "value": "salt", "seen": ["flour", "sugar"]}


def the_examples_of_readings_are_usual(api: httpx.Client) -> set[str]:
    """Send the examples of readings as they stand in the document, and return their sensors."""
    document = answer(api.get(api.base_url.join("/openapi.json")))

    def examples(path: str) -> dict[str, Any]:
        operation = document["paths"][f"/api/v1/anomalies{path}"]["post"]
        given = operation["requestBody"]["content"]["application/json"]["examples"]
        return {form: example["value"] for form, example in given.items()}

    one, batch = examples("/detect")["reading"], examples("/detect/batch")
    for verdict in (
        answer(api.post("/detect", json=one)),
        *answer(api.post("/detect/batch", json=batch["list"])),
    ):
        assert verdict["final_score"] is not None
        assert not verdict["is_anomaly"]
    assert answer(api.post("/detect/batch", json=batch["columns"]))["is_anomaly"] == [False, False]
    sensors = {*one["features"]}
    assert sensors == batch["columns"]["features"].keys() == batch["list"][1]["features"].keys()
    [schema] = document["components"]["schemas"]["AnomalyDetectionRequest"]["examples"]
    assert schema["features"].keys() == sensors
    return sensors


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"context_features": ["speed"]}, "context_features[0]", "no column 'speed'"),
        ({"context": {"load": [1.0]}}, "context", "1 values for 60 rows"),
        ({"context_features": ["a", "b", "c"]}, "context_features", "no sensor to judge"),
        ({"context": {"load": [1.0] * 60}}, "context_features.load", "constant"),
        ({"context": {"load": [True] * 60}}, "context_features.load", "constant"),
        ({"context": {"load": [[1.0]] * 60}}, "context.load[0]", "number is expected, true, false"),
        ({"context": {"a": [1.0] * 60}}, "context", "a column of data too"),
    ],
)
def test_a_context_that_cannot_be_used_is_named(untrained, healthy, change, field, said):
    body = {"data": healthy[:60, :3].tolist(), "feature_names": ["a", "b", "c"]}
    found = problem(untrained.post("/train?wait=true", json=body | change), 422, "invalid-data")
    assert said in found["detail"]
    assert field in str(found)
    assert nothing_is_trained(untrained)


@pytest.mark.parametrize("path", ["/status", "/health", "/health/ready"])
def test_head_says_what_get_says_without_the_body(untrained, path):
    head, get = untrained.head(path), untrained.get(path)
    assert head.status_code == get.status_code
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.content == b""


def test_an_untrained_service_is_alive_and_tells_its_status(untrained):
    assert answer(untrained.get("/health"))["status"] == "ok"
    status = answer(untrained.get("/status"))
    assert status["ready"] is False
    assert list(status["models"]) == MODELS
    assert nothing_is_trained(untrained)


def test_without_a_registry_there_are_no_metrics_of_versions(untrained):
    assert answer(untrained.get("/metrics")) == {name: [] for name in MODELS}


ROWS = [[0.4, 3.0], [0.5, 3.1], [0.4, 3.2], [0.6, 3.0], [0.5, 3.3]]


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"data": [*ROWS, [0.4, "3.0"]]}, "data[5][1]", "number"),
        ({"data": [*ROWS, [0.4, None]]}, "data[5][1]", "number"),
        ({"data": [*ROWS, [0.4, "true"]]}, "data[5][1]", "number"),
        ({"data": [*ROWS, [0.4]]}, "data[5]", "1 values"),
        ({"data": ROWS, "feature_names": ["rms"]}, "data", "2 values, but 1"),
        ({"data": ROWS, "feature_names": ["rms", "rms"]}, "feature_names", "rms"),
        ({"data": [[1.0, 2.0]] * 9}, "data", "constant"),
        ({"data": []}, "data", "at least 1"),
        ({"feature_names": ["rms"]}, "data", "required"),
        ({"data": ROWS, "model_names": ["isolation_forrest"]}, "model_names[0]", "isolation_forr"),
        ({"data": ROWS, "model_names": []}, "model_names", "No detector"),
    ],
)
def test_training_data_that_cannot_be_used_are_named_by_their_place(untrained, body, field, said):
    found = problem(untrained.post("/train?wait=true", json=body), 422, "invalid-data")
    assert found["field"] == field
    assert said in found["detail"]
    assert nothing_is_trained(untrained)


def test_a_value_that_is_no_number_in_json_is_named_by_its_feature(untrained):
    text = '{"data": [[0.4, 3.0], [0.5, NaN]], "feature_names": ["rms", "kurtosis"]}'
    found = problem(post_text(untrained, "/train", text), 422, "invalid-data")
    assert found["field"] == "data[1].kurtosis"
    assert "finite" in found["detail"]
    assert nothing_is_trained(untrained)


def test_an_unknown_detector_is_answered_by_the_known_ones(untrained):
    response = untrained.post("/train?wait=true", json={"data": ROWS, "model_names": ["forest"]})
    remedy = problem(response, 422, "invalid-data")["remedy"]
    assert all(name in remedy for name in MODELS)


@pytest.mark.parametrize("path", ["/train", "/detect", "/detect/batch"])
def test_malformed_json_is_a_fault_of_the_body(untrained, path):
    found = problem(post_text(untrained, path, '{"data": [[1,'), 422, "invalid-data")
    assert "JSON" in found["detail"]
    assert found["field"] == "body"


@pytest.mark.parametrize("path", ["/train", "/detect", "/detect/batch"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_json_in_another_encoding_than_utf_8_is_a_fault_of_the_body(untrained, path, encoding):
    text = '{"asset_id": "Kühlung", "features": {"rms": 1.0}}'
    response = untrained.post(path, content=text.encode(encoding), headers=JSON)
    found = problem(response, 422, "invalid-data")
    assert found["field"] == "body"
    assert "UTF-8" in found["remedy"]


def test_a_byte_order_mark_as_windows_writes_it_is_passed_over(untrained):
    body = json.dumps({"asset_id": "pump", "features": {"rms": 1.0}}).encode("utf-8-sig")
    problem(untrained.post("/detect", content=body, headers=JSON), 503, "not-trained")


def test_the_first_fault_of_every_field_is_named(untrained):
    body = {"data": [[1.0, "x"], [None, 2.0]], "feature_names": ["rms", "flow"], "rows": 2}
    found = problem(untrained.post("/train?wait=true", json=body), 422, "invalid-data")
    fields = [fault["field"] for fault in found["errors"]]
    assert fields == ["data[0].flow", "rows"]


@pytest.mark.parametrize(
    "metadata",
    ['{"a": "\\ud800"}', '{"a": NaN}', '{"a": ' + "[" * 100 + "]" * 100 + "}"],
    ids=["half a character", "not a number", "deeply nested"],
)
def test_metadata_that_cannot_be_handed_back_are_refused(untrained, metadata):
    body = f'{{"asset_id": "pump", "features": {{"rms": 1.0}}, "metadata": {metadata}}}'
    found = problem(post_text(untrained, "/detect", body), 422, "invalid-data")
    assert found["field"] == "metadata"


def test_an_error_may_quote_what_is_no_text(untrained):
    body = '{"data": [[1.0], [2.0]], "model_names": ["\\ud800"]}'
    found = problem(post_text(untrained, "/train", body), 422, "invalid-data")
    assert found["field"] == "model_names[0]"


def test_a_body_sent_as_a_form_is_told_the_header_that_it_lacks(untrained):
    response = untrained.post("/detect", content=b'{"asset_id": "pump"}', headers=FORM)
    found = problem(response, 415, "unsupported-media-type")
    assert "application/json" in found["remedy"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_too_large_is_refused_whether_it_says_so_or_not(untrained, announced):
    body = json.dumps({"data": [[1.0, 2.0]] * 30_000}).encode()
    assert len(body) > MAX_BODY
    pieces = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
    response = untrained.post(
        "/train",
        content=body if announced else pieces,
        headers={"Content-Type": "application/json"},
    )
    assert ("content-length" in response.request.headers) == announced
    found = problem(response, 413, "request-entity-too-large")
    assert "VIGIE_MAX_BODY_BYTES" in found["remedy"]
    assert nothing_is_trained(untrained)


def test_an_unknown_route_and_a_wrong_method_are_problems_too(untrained):
    problem(untrained.get("/nowhere"), 404, "not-found")
    response = untrained.get("/train")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST"


# A service whose three models are in Production.


@dataclass(frozen=True)
class Plant:
    """A running service and its settings.

    Attributes
    ----------
    pasted : list of (str, Response)
        What the examples of the API were answered while nothing was trained yet, by path.
    trained : dict
        What the training of all detectors was answered after that.
    """

    api: httpx.Client
    settings: Settings
    pasted: list[tuple[str, httpx.Response]]
    trained: dict[str, Any]

    @property
    def serving(self) -> dict[str, tuple[int, str]]:
        return {name: (self.trained[name]["version"], "Production") for name in MODELS}


@pytest.fixture(scope="module")
def plant(
    running: Running,
    mlflow_uri: str,
    new_state: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Plant]:
    """A service with all detectors trained over HTTP, and promoted from elsewhere."""
    settings = Settings(
        mlflow_tracking_uri=mlflow_uri,
        mlflow_experiment_name="the-plant",
        state_dir=new_state(tmp_path_factory.mktemp("plant") / "state"),
        tracking_patience_s=60,
        **CHEAP,
    )
    tracking = MLflowService(settings)
    for model in tracking.server.client.search_registered_models():
        tracking.server.client.delete_registered_model(model.name)
    rows = samples.healthy(300).data.tolist()
    with running(settings) as api:
        pasted = paste_examples(api)
        body = {"data": rows, "feature_names": list(samples.FEATURE_NAMES)}
        trained = answer(api.post("/train?wait=true", json=body))["models"]
        plant = Plant(api, settings, pasted, trained)
        for name, (version, stage) in plant.serving.items():
            tracking.transition_model_stage(name, version, stage)
        await_served(api, plant.serving)
        yield plant


def followed(api: httpx.Client, accepted: httpx.Response) -> dict[str, Any]:
    """Return the job of a training once it has ended, as its last event has it."""
    address = api.base_url.join(f"{accepted.headers['Location']}/events")
    with api.stream("GET", address) as events:
        *_, last = [line for line in events.iter_lines() if line.startswith("data: ")]
    job: dict[str, Any] = json.loads(last.removeprefix("data: "))
    return job


def paste_examples(api: httpx.Client) -> list[tuple[str, httpx.Response]]:
    """Send every example of the OpenAPI document, in its order, and return the answers."""
    document = answer(api.get(api.base_url.join("/openapi.json")))

    answers, job_id = [], ""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            sent: list[dict[str, Any]] = [{}]
            if "application/json" in content:
                examples = content["application/json"]["examples"].values()
                sent = [{"json": example["value"]} for example in examples]
            elif "text/csv" in content:
                header = {"Content-Type": "text/csv"}
                sent = [{"content": content["text/csv"]["example"], "headers": header}]
            for body in sent:
                of_one = path.replace("{job_id}", job_id).replace("{name}", "isolation_forest")
                of_one = of_one.replace("{asset}", "pump-7")
                address = api.base_url.join(of_one)
                response = api.request(method.upper(), address, **body)
                answers.append((path.rpartition("/anomalies")[2], response))
                if response.status_code == 202:
                    job_id = followed(api, response)["id"]
    return answers


def served(api: httpx.Client) -> dict[str, tuple[int | None, str | None]]:
    models = answer(api.get("/status"))["models"]
    return {name: (model["version"], model["stage"]) for name, model in models.items()}


def await_served(api: httpx.Client, expected: dict[str, tuple[int, str]]) -> None:
    """Return once the service serves these versions, which it finds out by itself."""
    until = time.monotonic() + 30
    while (now := served(api)) != expected:
        assert time.monotonic() < until, f"it still serves {now}"
        time.sleep(0.05)


@pytest.fixture
def asset(request: pytest.FixtureRequest) -> str:
    """A machine that only this test reads."""
    return str(request.node.name)


def test_every_example_of_the_api_works_when_it_is_pasted_in_order(plant):
    paths = [path for path, _ in plant.pasted]
    assert paths[:3] == ["/train", "/detect", "/detect/batch"]
    assert {"/status", "/metrics", "/health", "/health/ready", "/inspect"} <= set(paths)
    # No version was in Production before, none is in Staging, and the job has ended.
    others = {"/train": 202, "/rollback": 404, "/comparison": 404}
    for path, response in plant.pasted:
        # Nothing has happened to the machine yet.
        if re.search(r"\{(alarm|alert|event)_id\}", path):
            assert response.status_code == 404, f"{path}: {response.text}"
            continue
        ended = response.request.method == "DELETE" and "{job_id}" in path
        expected = 409 if ended else others.get(f"/{path.rpartition('/')[2]}", 200)
        assert response.status_code == expected, f"{path}: {response.text}"
    verdict = plant.pasted[1][1].json()
    assert list(verdict["models"]) == ROW_MODELS
    assert not verdict["is_anomaly"]


def test_a_training_answers_with_versions_and_metrics(plant):
    for name in MODELS:
        model = plant.trained[name]
        # The examples have made the first versions of two of them.
        assert model["version"] == (2 if name in ROW_MODELS else 1)
        assert (model["status"], model["error"]) == ("trained", None)
        assert model["metrics"]["n_samples"] == 300
        assert 0.0 <= model["metrics"]["anomaly_rate"] < 0.05


def test_the_status_names_the_version_and_stage_that_serve(plant):
    status = answer(plant.api.get("/status"))
    assert status["ready"] is True
    assert answer(plant.api.get("/health/ready"))["status"] == "ready"
    assert served(plant.api) == plant.serving
    for model in status["models"].values():
        assert model["feature_names"] == list(samples.FEATURE_NAMES)
        assert model["problem"] is None


def test_a_service_that_trains_and_judges_never_loads_what_only_training_needs(plant, healthy):
    answer(plant.api.post("/detect", json=reading("pump", healthy[0])))
    answer(plant.api.get("/metrics"))
    tasks = Path("/proc/self/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    services = [
        Path(f"/proc/{pid}/maps").read_text()
        for pid in children
        if b"vigie.cli\0serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert services
    for library in ("torch", "sklearn", "pandas", "pyarrow", "scipy/linalg"):
        assert not any(f"/{library}/" in loaded for loaded in services), library


def test_the_status_says_when_the_registry_was_heard_and_what_is_on_its_way(plant):
    status = answer(plant.api.get("/status"))
    assert datetime.fromisoformat(status["confirmed"]) <= datetime.now(UTC)
    assert isinstance(status["pending"], list)


def test_the_metrics_are_those_of_the_runs_in_mlflow(plant):
    metrics = answer(plant.api.get("/metrics"))
    client = MLflowService(plant.settings).server.client
    for name in MODELS:
        [version] = [v for v in metrics[name] if v["stage"] == "Production"]
        run = client.get_run(version["run_id"])
        assert version["version"] == plant.trained[name]["version"]
        assert version["run_name"] == run.info.run_name == f"{name}_300_samples"
        assert version["metrics"] == run.data.metrics
        assert version["metrics"]["anomaly_rate"] == plant.trained[name]["metrics"]["anomaly_rate"]
        assert datetime.fromisoformat(version["created"]).tzinfo is not None


def test_a_batch_is_judged_as_its_readings_one_by_one(plant, asset, fault):
    readings = [reading(asset, row, 3600 * n) for n, row in enumerate(fault.data[::20])]
    batch = answer(plant.api.post("/detect/batch", json=readings))
    one_by_one = [answer(plant.api.post("/detect", json=one)) for one in readings]
    assert len({result["final_score"] for result in batch}) == len(readings)
    for together, alone in zip(batch, one_by_one, strict=True):
        assert together["timestamp"] == alone["timestamp"]
        for name in ROW_MODELS:
            assert together["models"][name] == pytest.approx(alone["models"][name], abs=1e-12)


def test_the_autoencoder_abstains_until_its_window_is_full(plant, asset, healthy):
    for number, one in enumerate(recording(asset, healthy[:7]), start=1):
        result = answer(plant.api.post("/detect", json=one))
        assert set(ROW_MODELS) <= set(result["models"])
        if number < WINDOW:
            assert f"{number} of {WINDOW} rows" in result["abstained"]["lstm_autoencoder"]
            assert "lstm_autoencoder" not in result["models"]
        else:
            assert result["abstained"] == {}
            assert result["models"]["lstm_autoencoder"]["reconstruction_error"] > 0.0


def test_a_batch_fills_the_window_of_each_machine_by_itself(plant, asset, healthy):
    one, other = (recording(f"{asset}-{n}", healthy[:7]) for n in (1, 2))
    mixed = [either for both in zip(one, other, strict=True) for either in both]
    results = answer(plant.api.post("/detect/batch", json=mixed))
    assert [result["asset_id"] for result in results] == [each["asset_id"] for each in mixed]
    for machine in (results[::2], results[1::2]):
        answered = ["lstm_autoencoder" in result["models"] for result in machine]
        assert answered == [False] * (WINDOW - 1) + [True] * 3

    # The next reading alone finds its past in the history.
    result = answer(plant.api.post("/detect", json=reading(f"{asset}-1", healthy[7], 7)))
    assert result["abstained"] == {}


def test_windows_are_the_same_over_both_routes(plant, asset, fault):
    rows = fault.data[200:210]
    batch = answer(plant.api.post("/detect/batch", json=recording(f"{asset}-batch", rows)))
    single = [
        answer(plant.api.post("/detect", json=one)) for one in recording(f"{asset}-single", rows)
    ]
    for together, alone in zip(batch, single, strict=True):
        assert together["final_score"] == pytest.approx(alone["final_score"], abs=1e-12)
        assert together["abstained"] == alone["abstained"]


def test_a_batch_is_taken_in_time_order_and_answered_in_its_own(plant, asset, healthy):
    readings = recording(asset, healthy[:WINDOW])
    results = answer(plant.api.post("/detect/batch", json=readings[::-1]))
    assert [r["timestamp"] for r in results] == [
        r["timestamp"].replace("+00:00", "Z") for r in readings[::-1]
    ]
    assert [bool(result["abstained"]) for result in results] == [False, True, True, True, True]


def test_a_batch_without_times_is_taken_in_its_own_order(plant, asset, healthy):
    readings = [reading(asset, row) for row in healthy[:7]]
    results = answer(plant.api.post("/detect/batch", json=readings))
    answered = ["lstm_autoencoder" in result["models"] for result in results]
    assert answered == [False] * (WINDOW - 1) + [True] * 3


def test_a_reading_sent_twice_does_not_become_its_own_past(plant, asset, healthy):
    for _ in range(WINDOW + 1):
        result = answer(plant.api.post("/detect", json=reading(asset, healthy[0], 0)))
    assert f"1 of {WINDOW} rows" in result["abstained"]["lstm_autoencoder"]
    twice = [reading(asset, healthy[1], 1)] * (WINDOW + 1)
    results = answer(plant.api.post("/detect/batch", json=twice))
    assert f"2 of {WINDOW} rows" in results[-1]["abstained"]["lstm_autoencoder"]


def test_readings_of_one_time_all_stay_in_a_batch_and_alone_say_what_they_replace(
    plant, asset, healthy
):
    def replaced() -> int:
        return answer(plant.api.get("/status"))["replaced"]

    before = replaced()
    batch = [reading(asset, row, 0) for row in healthy[: WINDOW + 1]]
    for _ in range(2):
        results = answer(plant.api.post("/detect/batch", json=batch))
        assert results[-1]["abstained"] == {}
        assert len({result["timestamp"] for result in results}) == 1
        assert not any(result["replaced"] for result in results)
    assert replaced() == before
    assert answer(plant.api.post("/detect", json=reading(asset, healthy[9], 0)))["replaced"]
    assert not answer(plant.api.post("/detect", json=reading(asset, healthy[9], 0)))["replaced"]
    assert replaced() == before + 1
    document = answer(plant.api.get(plant.api.base_url.join("/openapi.json")))
    schemas = document["components"]["schemas"]
    assert schemas["AnomalyDetectionResult"]["properties"]["replaced"]["type"] == "boolean"
    assert schemas["StatusResponse"]["properties"]["replaced"]["type"] == "integer"


def test_a_reading_in_a_batch_sees_the_history_between_it_and_the_one_before(plant, asset, healthy):
    readings = recording(asset, healthy[:8])
    answer(plant.api.post("/detect/batch", json=readings[:7]))
    # The first reading again, as after a lost answer, together with the newest.
    results = answer(plant.api.post("/detect/batch", json=[readings[0], readings[7]]))
    assert results[1]["abstained"] == {}
    # What was kept in between is seen as it was measured, each in its place.
    at_once = answer(plant.api.post("/detect/batch", json=recording(f"{asset}-2", healthy[:8])))
    assert results[1]["models"] == at_once[7]["models"]


def test_after_a_gap_the_window_starts_afresh(plant, asset, healthy):
    answer(plant.api.post("/detect/batch", json=recording(asset, healthy[:7])))
    late = reading(asset, healthy[7], 7 + 2 * 3600)
    result = answer(plant.api.post("/detect", json=late))
    assert f"1 of {WINDOW} rows" in result["abstained"]["lstm_autoencoder"]


def test_an_anomaly_has_a_criticality_and_sensors_and_a_usual_reading_has_none(plant, asset, fault):
    results = answer(plant.api.post("/detect/batch", json=recording(asset, fault.data)))
    contamination = 0.01
    found = [result for result in results if result["is_anomaly"]]
    assert 100 < len(found) < 300
    for result in results:
        assert result["threshold"] == pytest.approx(1 - contamination)
        assert result["is_anomaly"] == (result["final_score"] > result["threshold"])
        if not result["is_anomaly"]:
            assert result["criticality"] is None
            assert result["sensors"] == []
    for result in found:
        p = 1.0 - result["final_score"]
        decades = min(int(np.log10(contamination / p) + 1e-9), 3)
        assert result["criticality"] == ("low", "medium", "high", "critical")[decades]
        shares = [sensor["share"] for sensor in result["sensors"]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1.0)
    worst = {result["sensors"][0]["name"] for result in found[-50:]}
    assert worst <= {"vibration_rms", "vibration_kurtosis", "bearing_temperature", "motor_current"}


def test_a_reading_beyond_all_measure_is_an_anomaly_to_every_model(plant, asset, healthy):
    readings = recording(asset, healthy[:WINDOW])
    for one in readings:
        one["features"]["vibration_rms"] *= 100.0
    result = answer(plant.api.post("/detect/batch", json=readings))[-1]
    assert set(result["models"]) == set(MODELS)
    assert result["is_anomaly"]
    assert result["criticality"] == "critical"
    assert result["sensors"][0]["name"] == "vibration_rms"


def test_metadata_come_back_as_they_were_sent(plant, asset, healthy):
    metadata = {"line": "A", "shift": 2, "tags": ["new", None], "where": {"hall": "Süd"}}
    one = reading(asset, healthy[0], 0) | {"metadata": metadata, "sensor_id": "drive end"}
    result = answer(plant.api.post("/detect", json=one))
    assert result["metadata"] == metadata
    assert result["sensor_id"] == "drive end"
    assert result["asset_id"] == asset


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("2026-01-05T08:00:00", "2026-01-05T08:00:00Z"),
        ("2026-01-05T09:00:00+01:00", "2026-01-05T08:00:00Z"),
        ("2026-01-05T08:00:00.25Z", "2026-01-05T08:00:00.250000Z"),
    ],
)
def test_times_are_in_utc_unless_they_say_otherwise(plant, asset, healthy, sent, meant):
    one = reading(asset, healthy[0]) | {"timestamp": sent}
    assert answer(plant.api.post("/detect", json=one))["timestamp"] == meant


def test_a_reading_without_a_time_was_measured_now(plant, asset, healthy):
    before = datetime.now(UTC)
    result = answer(plant.api.post("/detect", json=reading(asset, healthy[0])))
    assert before <= datetime.fromisoformat(result["timestamp"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"flow_rate": "100"}, "number"),
        ({"flow_rate": None}, "number"),
        ({"flow_rate": "true"}, "number"),
        ({"flow_rate": float("nan")}, "finite"),
        ({"flow_rate": float("inf")}, "finite"),
        ({"flow_rate": 10**400}, "number"),
        (None, "missing"),
    ],
)
def test_a_bad_value_is_named_and_changes_nothing(plant, asset, healthy, change, said):
    good, bad = recording(asset, healthy[:2])
    if change is None:
        del bad["features"]["flow_rate"]
    else:
        bad["features"] |= change
    found = problem(post_text(plant.api, "/detect", json.dumps(bad)), 422, "invalid-data")
    assert found["field"] == "features.flow_rate"
    assert said in found["detail"]
    assert found["remedy"]

    text = json.dumps([good, bad])
    found = problem(post_text(plant.api, "/detect/batch", text), 422, "invalid-data")
    assert found["field"] == "[1].features.flow_rate"
    # Not even the good one has been kept: the next reading has no past.
    result = answer(plant.api.post("/detect", json=reading(asset, healthy[2], 2)))
    assert f"1 of {WINDOW} rows" in result["abstained"]["lstm_autoencoder"]


@pytest.mark.parametrize("switch", [True, False])
def test_true_and_false_are_one_and_zero_for_a_sensor(plant, asset, healthy, switch):
    answers = []
    for name, value in (("boolean", switch), ("number", float(switch))):
        one = reading(f"{asset} {name}", healthy[0])
        one["features"]["flow_rate"] = value
        answers.append(answer(plant.api.post("/detect", json=one)))
    said, meant = answers
    assert said["final_score"] == meant["final_score"]
    assert said["sensors"] == meant["sensors"]


def test_a_missing_feature_is_answered_by_what_the_model_knows(plant, asset):
    body = {"asset_id": asset, "features": {"rms": 0.4}}
    found = problem(plant.api.post("/detect", json=body), 422, "invalid-data")
    assert all(name in found["remedy"] for name in samples.FEATURE_NAMES)
    assert "of another machine: the models know none of its features (rms)" in found["detail"]
    body["features"]["flow_rate"] = 99.0
    found = problem(plant.api.post("/detect", json=body), 422, "invalid-data")
    assert "another machine" not in found["detail"]


def test_features_that_no_model_knows_are_not_looked_at(plant, asset, healthy):
    one = reading(asset, healthy[0], 0)
    plain = answer(plant.api.post("/detect", json=one))
    one["features"]["humidity"] = 55.0
    assert answer(plant.api.post("/detect", json=one))["models"] == plain["models"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"features": {"rms": 0.4}}, "asset_id"),
        ({"asset_id": "", "features": {"rms": 0.4}}, "asset_id"),
        ({"asset_id": "pump", "features": {}}, "features"),
        ({"asset_id": "pump", "features": {"rms": 0.4}, "timestamp": "yesterday"}, "timestamp"),
        (
            {"asset_id": "pump", "features": {"rms": 1}, "timestamp": "0001-01-01T00:00+23:00"},
            "timestamp",
        ),
    ],
)
def test_a_reading_that_is_none_is_named_by_its_place(plant, body, field):
    found = problem(plant.api.post("/detect", json=body), 422, "invalid-data")
    assert found["field"] == field
    assert not found["detail"].endswith("..")
    assert "Value error" not in found["detail"]


def test_a_training_without_names_is_told_what_its_version_knows(plant, healthy):
    body = {"data": healthy[:40].tolist(), "model_names": ["one_class_svm"]}
    model = answer(plant.api.post("/train?wait=true", json=body))["models"]["one_class_svm"]
    assert "only as feature_1, feature_2" in model["note"]
    assert "Give feature_names" in model["note"]
    body["feature_names"] = list(samples.FEATURE_NAMES)
    model = answer(plant.api.post("/train?wait=true", json=body))["models"]["one_class_svm"]
    assert model["note"] is None


def test_one_detector_that_fails_does_not_stop_the_others(plant, healthy):
    body = {"data": healthy[:15].tolist(), "feature_names": list(samples.FEATURE_NAMES)}
    models = answer(plant.api.post("/train?wait=true", json=body))["models"]
    assert models["lstm_autoencoder"]["status"] == "failed"
    assert f"sequence_length={WINDOW}" in models["lstm_autoencoder"]["error"]
    for name in ROW_MODELS:
        assert models[name]["status"] == "trained"
        # What is in Production goes on serving until somebody promotes another version.
        assert models[name]["version"] > plant.trained[name]["version"]
        assert models[name]["serving_version"] == plant.trained[name]["version"]
    assert served(plant.api) == plant.serving

    body["data"] = body["data"][:3]
    found = problem(plant.api.post("/train?wait=true", json=body), 422, "invalid-data")
    assert found["field"] == "data"
    assert "3 rows are too few" in found["detail"]
    assert "at least 4" in found["remedy"]


def test_the_doctor_asks_the_service_what_it_serves_and_names_a_newer_version(plant, healthy):
    rows = {"data": healthy[:60].tolist(), "feature_names": list(samples.FEATURE_NAMES)}
    body = rows | {"model_names": ["isolation_forest"]}
    newest = answer(plant.api.post("/train?wait=true", json=body))["models"]["isolation_forest"][
        "version"
    ]
    settings = plant.settings.model_copy(update={"port": plant.api.base_url.port})
    checks = {check.question: check for check in examine(settings)}
    running = checks["Service running?"]
    assert running.passed
    for name, (version, _) in plant.serving.items():
        assert f"{name} {version}" in running.finding
    assert checks["Service up to date?"].passed
    promoted = f"`vigie models promote isolation_forest {newest}`"
    assert promoted in checks["Versions of isolation_forest?"].finding


def test_the_doctor_names_the_remedy_for_a_service_without_a_model(untrained):
    settings = Settings(mlflow_enabled=False, port=untrained.base_url.port)
    [running] = [check for check in examine(settings) if check.question == "Service running?"]
    assert not running.passed
    assert "no model serves" in running.finding
    assert "vigie train" in running.remedy


def test_a_restarted_service_answers_the_same_from_the_registry(
    plant, asset, fault, running, tmp_path
):
    def judged(api: httpx.Client) -> list[dict[str, Any]]:
        results = answer(api.post("/detect/batch", json=recording(asset, fault.data[290:315])))
        assert any(result["is_anomaly"] for result in results)
        return list(results)

    # Another folder: neither models nor readings are left of the first process.
    settings = plant.settings.model_copy(update={"state_dir": tmp_path / "other"})
    with running(settings) as restarted:
        assert served(restarted) == plant.serving
        again, before = judged(restarted), judged(plant.api)
    for now, then in zip(again, before, strict=True):
        assert now["final_score"] == pytest.approx(then["final_score"], abs=1e-9)
        assert now["models"].keys() == then["models"].keys()
        assert [s["name"] for s in now["sensors"]] == [s["name"] for s in then["sensors"]]


def test_a_promotion_elsewhere_is_followed_without_a_restart(plant, asset, healthy):
    from vigie.services.one_class_svm_service import OneClassSVMService

    elsewhere = OneClassSVMService(nu=0.2, settings=plant.settings)
    elsewhere.train(healthy[:200], samples.FEATURE_NAMES)
    version = elsewhere.served.version
    tracking = MLflowService(plant.settings)
    tracking.transition_model_stage("one_class_svm", version, "Production")
    await_served(plant.api, plant.serving | {"one_class_svm": (version, "Production")})
    verdict = answer(plant.api.post("/detect", json=reading(asset, healthy[0])))["models"]
    expected = elsewhere.predict_scores(healthy[:1])[0]
    assert verdict["one_class_svm"]["version"] == version
    assert verdict["one_class_svm"]["score"] == pytest.approx(expected, abs=1e-9)

    tracking.rollback("one_class_svm")
    await_served(plant.api, plant.serving)


# What watches the service.

DEPLOY = Path(__file__).parents[3] / "deploy"
METRIC = re.compile(r"\b((?:vigie|process)_\w+)(?:\{([^}]*)\})?")
LABELS = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
BY_PROMETHEUS = {"job", "instance"}
"""Labels of the target, which Prometheus adds."""


def queries() -> dict[str, list[str]]:
    """Return what the board and the alerts ask, by the file."""
    board = json.loads((DEPLOY / "grafana/vigie.json").read_text())
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    variables = [one["definition"] for one in board["templating"]["list"] if "definition" in one]
    return {
        "board": variables
        + [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())],
        "alerts": [rule["expr"] for group in rules["groups"] for rule in group["rules"]],
    }


def test_the_board_and_the_alerts_ask_for_metrics_and_labels_that_there_are(plant, asset, healthy):
    answer(plant.api.post("/detect", json=reading(asset, healthy[0])))
    text = plant.api.get(plant.api.base_url.join("/metrics")).text
    known: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    for file, expressions in queries().items():
        assert len(expressions) > 5, file
        for expression in expressions:
            names: set[str] = set()
            for name, matchers in METRIC.findall(expression):
                assert name in known, f"{file}: {expression}"
                assert set(LABELS.findall(matchers)) <= known[name] | BY_PROMETHEUS, expression
                names |= known[name]
            for labels in GROUPED.findall(expression):
                assert set(labels.split(", ")) <= names | BY_PROMETHEUS, expression
    assert f'vigie_model_info{{model="{MODELS[0]}",stage="Production"' in text
    assert 0 <= float(text.split("\nvigie_registry_confirmed_age_seconds ")[1].split()[0]) < 60


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_accepts_the_alerts_and_the_example_of_its_configuration():
    for check in ("rules alerts.yml", "config --syntax-only prometheus.yml"):
        command = ["promtool", "check", *check.split()]
        done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
