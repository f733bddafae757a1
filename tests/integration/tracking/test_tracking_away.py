"""A training never fails, and never waits for long, because of its tracking server."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from faults import AT_MOST_S, Failing, eventually
from sklearn.ensemble import IsolationForest

from vigie.config import Settings
from vigie.errors import NotTrainedError, TrackingUnavailableError
from vigie.registry.server import server_at
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService


@pytest.fixture
def away(
    request: pytest.FixtureRequest,
    untracked: Settings,
    failing: Callable[[str, int, str], Failing],
    new_port: Callable[[], int],
) -> Settings:
    """Settings with a tracking server that has never answered, in one of three ways."""
    how = request.param
    uri = f"http://127.0.0.1:{new_port()}" if how == "refused" else failing("", 0, how).uri
    # On a busy machine a slow answer is no silence.
    return untracked.model_copy(
        update={"mlflow_enabled": True, "mlflow_tracking_uri": uri, "tracking_patience_s": 20.0}
    )


every_outage = pytest.mark.parametrize("away", ["refused", "silent", "500"], indirect=True)
no_answer = pytest.mark.parametrize("away", ["refused", "silent"], indirect=True)


def in_time(work: Callable[[], Any]) -> Any:
    """Return what work returns, or fail if it blocks."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result(timeout=AT_MOST_S)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def scores_without_tracking(untracked: Settings, healthy: np.ndarray) -> np.ndarray:
    service = OneClassSVMService(settings=untracked)
    service.train(healthy)
    return service.predict_scores(healthy)


@every_outage
def test_a_training_ends_with_the_same_scores_and_one_error(away, untracked, healthy, caplog):
    service = OneClassSVMService(settings=away)
    metrics = in_time(lambda: service.train(healthy))

    assert metrics["n_samples"] == 300
    assert service.served.version is None
    scores = scores_without_tracking(untracked, healthy)
    np.testing.assert_array_equal(service.predict_scores(healthy), scores)

    [error] = errors(caplog)
    assert away.mlflow_tracking_uri in error
    assert "vigie up" in error
    assert "MLFLOW_ENABLED=false" in error


@no_answer
def test_everything_that_records_is_harmless_and_one_outage_is_one_error(away, healthy, caplog):
    def record() -> None:
        service = MLflowService(away)
        assert service.start_run("an experiment") is None
        OneClassSVMService(settings=away).train(healthy)
        service.log_params({"operator": "night shift"})
        service.log_metrics({"custom_metric_1": 0.95})
        assert service.log_model(IsolationForest(n_estimators=5).fit(healthy), "model") is None
        service.end_run()

    in_time(record)
    assert len(errors(caplog)) == 1


@every_outage
def test_an_outage_that_lasts_is_one_error_however_often_it_is_met(
    away, healthy, caplog, monkeypatch
):
    # Else the second training would not even ask.
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)
    for _ in range(3):
        service = OneClassSVMService(settings=away)
        in_time(lambda service=service: service.train(healthy))
    assert len(errors(caplog)) == 1


@every_outage
def test_what_asks_says_that_there_is_no_answer(away, healthy):
    service = MLflowService(away)
    for ask in (
        lambda: service.load_model("isolation_forest", stage="Production"),
        lambda: service.transition_model_stage("isolation_forest", 1, "Production"),
        lambda: service.rollback("isolation_forest"),
        lambda: service.get_latest_versions("isolation_forest"),
        lambda: service.list_versions("isolation_forest"),
        lambda: service.search_runs(),
        lambda: OneClassSVMService(settings=away).load(),
        lambda: AnomalyDetectionService(away).get_metrics(),
    ):
        with pytest.raises(TrackingUnavailableError, match="MLFLOW_TRACKING_URI"):
            in_time(ask)


@no_answer
def test_the_detectors_together_are_trained_and_answer(away, healthy, caplog):
    service = AnomalyDetectionService(away.model_copy(update={"n_estimators": 10}))
    reading = {
        "asset_id": "pump-7",
        "features": {f"feature_{i + 1}": value for i, value in enumerate(healthy[0])},
    }
    with pytest.raises(NotTrainedError):
        in_time(lambda: service.detect_anomaly(reading))
    names = ["isolation_forest", "one_class_svm"]
    outcome = in_time(lambda: service.train_all_models(healthy, model_names=names))
    assert [outcome[name]["status"] for name in names] == ["trained", "trained"]
    assert [outcome[name]["version"] for name in names] == [None, None]
    assert set(service.detect_anomaly(reading).models) == set(names)
    service.close()
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize(("how", "after"), [("gone", 1), ("500", 4), ("gone", 7), ("500", 10)])
def test_a_server_that_dies_in_the_middle_costs_the_record_alone(
    how, after, failing, tracked, healthy, caplog
):
    server = failing(tracked.mlflow_tracking_uri, after, how)
    settings = tracked.model_copy(update={"mlflow_tracking_uri": server.uri})
    service = OneClassSVMService(settings=settings)
    in_time(lambda: service.train(healthy))

    assert server.left < 0, "the training was recorded before the server died"
    assert service.served.version is None
    scores = scores_without_tracking(settings.model_copy(update={"mlflow_enabled": False}), healthy)
    np.testing.assert_array_equal(service.predict_scores(healthy), scores)
    [error] = errors(caplog)
    assert "vigie" in error
    # It is the first failure that tells what happened, not what was tried after it.
    assert "did not answer a moment ago" not in error


@pytest.mark.parametrize("after", [2, 7])
def test_a_server_that_falls_silent_in_the_middle_is_not_waited_for(
    after, failing, tracked, healthy, caplog
):
    server = failing(tracked.mlflow_tracking_uri, after, "silent")
    settings = tracked.model_copy(
        update={"mlflow_tracking_uri": server.uri, "tracking_patience_s": 1.0}
    )
    service = OneClassSVMService(settings=settings)
    in_time(lambda: service.train(healthy))

    # Nothing has answered yet, and still the training is back and says so once.
    assert not server.released.is_set()
    assert service.is_trained
    [said] = [r.getMessage() for r in caplog.records if r.name.startswith("vigie.")]
    assert server.uri in said

    server.released.set()
    eventually(lambda: errors(caplog), 4 * AT_MOST_S)
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("train", ["train_all_models", "train_in_subprocess"])
def test_what_is_still_on_its_way_is_visible_and_arrives(train, failing, tracked, healthy):
    server = failing(tracked.mlflow_tracking_uri, 6, "slow")
    settings = tracked.model_copy(
        update={"mlflow_tracking_uri": server.uri, "tracking_patience_s": 1.0, "figures": True}
    )
    service = AnomalyDetectionService(settings)
    names = ["one_class_svm"]
    if train == "train_in_subprocess":
        body = json.dumps({"data": healthy.tolist(), "model_names": names})
        outcome = service.train_in_subprocess(body.encode())
    else:
        outcome = service.train_all_models(healthy, model_names=names)
    assert outcome["one_class_svm"]["status"] == "trained"
    assert outcome["one_class_svm"]["version"] is None
    assert len(service.pending()) == 1

    server.released.set()
    eventually(lambda: not service.pending(), 4 * AT_MOST_S)
    assert service.get_model_status()["one_class_svm"]["version"] == 1
    [run] = MLflowService(tracked).search_runs()
    assert run.info.status == "FINISHED"
    client = MLflowService(tracked).server.client
    assert client.list_artifacts(run.info.run_id, "figures")
    service.close()


def test_a_server_that_comes_back_is_used_and_its_next_outage_is_another_error(
    failing, tracked, healthy, caplog, monkeypatch
):
    # Else a failed server is left alone for some seconds, and this test would have to wait.
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)
    monkeypatch.setattr("vigie.registry.server.TRUST_AFTER_ANSWER_S", 0.0)
    server = failing(tracked.mlflow_tracking_uri, 0, "gone")
    settings = tracked.model_copy(update={"mlflow_tracking_uri": server.uri})

    def train() -> int | None:
        service = OneClassSVMService(settings=settings)
        in_time(lambda: service.train(healthy))
        return service.served.version

    assert train() is None
    assert len(errors(caplog)) == 1
    server.left = 1000
    assert train() == 1
    assert len(errors(caplog)) == 1
    server.left = 0
    assert train() is None
    assert len(errors(caplog)) == 2


WITHOUT_TRACKING = """
import sys

from vigie import samples
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.mlflow_service import MLflowService

bench = samples.healthy(100)
detector = IsolationForestService(n_estimators=5)
detector.train(bench.data, bench.feature_names)
assert detector.load(stage="Production") is None
assert detector.is_trained

service = AnomalyDetectionService()
service.refresh()
service.train_all_models(bench.data, bench.feature_names, ["isolation_forest", "one_class_svm"])
reading = dict(zip(bench.feature_names, bench.data[0]))
assert service.detect_anomaly({"asset_id": "pump-7", "features": reading}).models
assert not any(service.get_metrics().values())
service.close()

tracking = MLflowService()
assert tracking.start_run(run_name="nowhere") is None
assert tracking.log_params({"operator": "night shift"}) is None
assert tracking.log_metrics({"custom_metric_1": 0.95}) is None
assert tracking.log_model(object(), "model", "mine") is None
assert tracking.end_run() is None
assert tracking.load_model("isolation_forest", stage="Production") is None
assert tracking.transition_model_stage("isolation_forest", 1, "Production") is None
assert tracking.rollback("isolation_forest") is None
assert tracking.get_latest_versions("isolation_forest") == []
assert tracking.list_versions("isolation_forest") == []
assert tracking.search_runs() == []
print(*sorted({"mlflow", "matplotlib", "requests"} & set(sys.modules)))
"""


def test_disabled_tracking_returns_silently_asks_nobody_and_imports_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.run(
            [sys.executable, "-c", WITHOUT_TRACKING],
            env={
                **os.environ,
                "MLFLOW_ENABLED": "false",
                "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{listener.getsockname()[1]}",
                "VIGIE_STATE_DIR": str(tmp_path),
                "VIGIE_N_ESTIMATORS": "5",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout.strip() == ""
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_server_whose_answers_trickle_in_is_not_waited_for(untracked, failing, caplog):
    uri = failing("", 0, "trickling").uri
    settings = untracked.model_copy(update={"mlflow_enabled": True, "mlflow_tracking_uri": uri})
    service = OneClassSVMService(settings=settings)
    with ThreadPoolExecutor() as pool:
        training = pool.submit(service.train, np.random.default_rng(0).normal(size=(60, 3)))
        assert training.result(timeout=AT_MOST_S)["n_samples"] == 60
    assert "in the background" in caplog.text


# A service that starts.


@pytest.fixture
def registry_and_versions(
    failing: Callable[[str, int, str], Failing], tracked: Settings, healthy: np.ndarray
) -> tuple[Failing, Settings]:
    """A registry that can go away, and settings of a service that has served version 1 from it."""
    server = failing(tracked.mlflow_tracking_uri, 10_000, "gone")
    settings = tracked.model_copy(update={"mlflow_tracking_uri": server.uri})
    OneClassSVMService(settings=settings).train(healthy)
    service = AnomalyDetectionService(settings)
    assert service.mlflow_service.flush(timeout=AT_MOST_S)
    service.refresh()
    service.close()
    return server, settings


def started(settings: Settings) -> AnomalyDetectionService:
    service = AnomalyDetectionService(settings)
    service.start()
    return service


def versions_of(service: AnomalyDetectionService) -> dict[str, int]:
    status = service.get_model_status()
    return {name: model["version"] for name, model in status.items() if model["trained"]}


def test_a_service_starts_from_what_served_last_while_the_registry_is_away(
    registry_and_versions, healthy, caplog, monkeypatch
):
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)
    monkeypatch.setattr("vigie.registry.server.TRUST_AFTER_ANSWER_S", 0.0)
    server, settings = registry_and_versions
    before = started(settings).confirmed
    server.left = 0
    service = started(settings)
    for _ in range(3):
        in_time(service.refresh)
    features = {f"feature_{i + 1}": value for i, value in enumerate(healthy[0])}
    verdict = service.detect_anomaly({"asset_id": "pump", "features": features})
    assert verdict.models["one_class_svm"].version == 1
    assert service.confirmed == before
    assert len(errors(caplog)) == 1

    server.left = 10_000
    service.refresh()
    assert service.confirmed > before
    service.close()


def test_what_served_last_serves_no_more_once_the_registry_says_so(registry_and_versions):
    _, settings = registry_and_versions
    MLflowService(settings).transition_model_stage("one_class_svm", 1, "Archived")
    service = started(settings)
    assert versions_of(service) == {"one_class_svm": 1}
    service.refresh()
    assert versions_of(service) == {}
    service.close()
    # Nor is it there at the next start.
    assert versions_of(started(settings)) == {}


def test_a_python_caller_asks_the_registry_first_and_remembers_only_if_it_is_away(
    registry_and_versions,
):
    server, settings = registry_and_versions
    server.left = 0
    server_at(settings.mlflow_tracking_uri)._down("it is away")
    assert versions_of(AnomalyDetectionService(settings)) == {"one_class_svm": 1}


@pytest.mark.parametrize(
    "change",
    [{"mlflow_enabled": False}, {"mlflow_tracking_uri": "http://127.0.0.1:9"}],
    ids=["disabled", "another registry"],
)
def test_nothing_is_remembered_of_another_registry_or_of_none(registry_and_versions, change):
    _, settings = registry_and_versions
    service = started(settings.model_copy(update=change))
    assert not service.is_ready()
    assert service.confirmed is None
    service.close()


def test_a_damaged_copy_is_not_served(registry_and_versions, caplog):
    server, settings = registry_and_versions
    [arrays] = (settings.state_dir / "models").rglob("*.safetensors")
    arrays.write_bytes(arrays.read_bytes() + b"?")
    server.left = 0
    server_at(settings.mlflow_tracking_uri)._down("it is away")
    service = started(settings)
    assert versions_of(service) == {}
    assert "version 1" in service.get_model_status()["one_class_svm"]["problem"]
    assert "one_class_svm waits for the registry" in caplog.text
    service.close()


WRONGLY_TYPED = {
    "a hash that is a number": ("card_sha256", 5),
    "a version that is a text": ("version", "1"),
    "a name that is a list": ("name", ["one_class_svm"]),
    "a time that is a text": ("updated_ms", "today"),
    "a time that is a list": ("promoted_ms", []),
    "a stage that is none": ("stage", None),
}


def test_a_service_starts_beside_a_memory_with_a_wrong_type_and_says_so_once(
    registry_and_versions, caplog, monkeypatch
):
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)
    server, settings = registry_and_versions
    file = settings.state_dir / "last_served.json"
    right = file.read_text()
    for wrong, (field, value) in WRONGLY_TYPED.items():
        kept = json.loads(right)
        kept["versions"]["one_class_svm"][field] = value
        file.write_text(json.dumps(kept))
        caplog.clear()
        server.left = 0
        server_at(settings.mlflow_tracking_uri)._down("it is away")
        service = started(settings)
        for _ in range(3):
            service.refresh()
        assert not service.is_ready(), wrong
        [said] = [r.getMessage() for r in caplog.records if str(file) in r.getMessage()]
        assert f"one_class_svm.{field}" in said
        assert "Delete the file" in said

        server.left = 10_000
        service.refresh()
        assert versions_of(service) == {"one_class_svm": 1}, wrong
        service.close()
        # Nobody has deleted it: what serves now stands there.
        server.left = 0
        assert versions_of(started(settings)) == {"one_class_svm": 1}, wrong


def test_a_memory_that_cannot_be_read_is_none(registry_and_versions, caplog):
    _, settings = registry_and_versions
    for kept in (
        *(b"", b"[]", b"{}", b"\xff", b'{"registry": 1, "versions": []}', b"[" * 100_000),
        b'{"registry": "", "confirmed": "2026-01-05T08:00:00", "versions": {}}',
        b'{"registry": "", "confirmed": 1700000000, "versions": {}}',
    ):
        (settings.state_dir / "last_served.json").write_bytes(kept)
        caplog.clear()
        service = started(settings)
        assert service.confirmed is None, kept
        assert versions_of(service) == {"one_class_svm": 1}, kept
        assert "last_served.json" in caplog.text, kept
        service.close()


@pytest.mark.parametrize(
    ("given", "header"),
    [
        (
            {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "key"},
            "Basic YWRhOmtleQ==",
        ),
        ({"MLFLOW_TRACKING_TOKEN": "secret"}, "Bearer secret"),
    ],
)
def test_the_registry_is_asked_with_the_credentials_of_mlflow(
    given, header, failing, tracked, monkeypatch
):
    server = failing(tracked.mlflow_tracking_uri, 10_000, "gone")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = tracked.model_copy(update={"mlflow_tracking_uri": server.uri})
    assert MLflowService(settings).list_versions("one_class_svm") == []
    assert header in server.credentials
