"""A training beside the service: the same model, none of its cost, and no loss with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from vigie.config import Settings
from vigie.errors import InvalidDataError, TrainingInterruptedError
from vigie.main import create_app
from vigie.services.anomaly_detection_service import AnomalyDetectionService

JSON = {"Content-Type": "application/json"}
TRAIN = "http://localhost/api/v1/anomalies/train?wait=true"
ENDLESS = {"epochs": 100_000, "calibration_folds": 2}


def asked(rows: Any, names: list[str] | None = None, models: list[str] | None = None) -> bytes:
    """Return what `POST /train` would be sent."""
    rows = np.asarray(rows).tolist()
    return json.dumps({"data": rows, "feature_names": names, "model_names": models}).encode()


def trainings() -> list[int]:
    """Return the training processes that this one has started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        # Threads and processes may end while they are looked at.
        with suppress(OSError):
            for pid in (task / "children").read_text().split():
                if b"vigie.training.job" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


def awaited(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + 100
    while not (found := look()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
    return found


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool


@pytest.fixture
def endless(
    elsewhere: ThreadPoolExecutor, untracked: Settings
) -> Iterator[AnomalyDetectionService]:
    """A service whose LSTM autoencoder learns for hours, or until the service is closed."""
    service = AnomalyDetectionService(untracked.model_copy(update=ENDLESS))
    yield service
    service.close()


def test_a_model_trained_apart_is_the_one_that_would_have_been_trained_here(
    untracked, healthy, names
):
    here, apart = AnomalyDetectionService(untracked), AnomalyDetectionService(untracked)
    expected = here.train_all_models(healthy, names, ["one_class_svm"])["one_class_svm"]
    outcome = apart.train_in_subprocess(asked(healthy, names, ["one_class_svm"]))["one_class_svm"]

    for result in (expected, outcome):
        del result["metrics"]["training_seconds"]
    assert outcome == expected
    reading = {"asset_id": "pump", "features": dict(zip(names, healthy[0], strict=True))}
    assert apart.detect_anomaly(reading).models == here.detect_anomaly(reading).models
    here.close()
    apart.close()


WITHOUT_LIBRARIES = """
import json, sys
from vigie import samples
from vigie.services.anomaly_detection_service import AnomalyDetectionService

bench = samples.healthy(100)
service = AnomalyDetectionService()
service.start()
service.open_history()
rows = {"data": bench.data.tolist(), "feature_names": bench.feature_names}
service.train_in_subprocess(json.dumps(rows | {"model_names": ["isolation_forest"]}).encode())
reading = dict(zip(bench.feature_names, bench.data[0]))
assert service.detect_anomaly({"asset_id": "pump", "features": reading}).models
service.refresh()
assert any(service.get_metrics().values())
service.close()
print(*sorted({"torch", "sklearn", "pyod", "mlflow", "pandas", "matplotlib"} & set(sys.modules)))
"""


@pytest.mark.usefixtures("tracked")
def test_a_service_that_trains_registers_and_answers_takes_none_of_the_libraries_of_training():
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARIES],
        env=os.environ | {"VIGIE_N_ESTIMATORS": "5"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == []


def test_a_training_that_is_killed_is_told_as_such_and_leaves_the_service_as_it_was(
    endless, healthy, elsewhere
):
    training = elsewhere.submit(
        endless.train_in_subprocess, asked(healthy, models=["lstm_autoencoder"])
    )
    [child] = awaited(trainings)
    os.kill(child, signal.SIGKILL)
    with pytest.raises(TrainingInterruptedError, match=r"SIGKILL.*memory"):
        training.result(timeout=60)
    assert not endless.is_ready()


def test_over_http_a_killed_training_is_no_fault_of_the_data(endless, healthy, elsewhere):
    app = create_app(endless.settings)
    app.state.service = endless
    body = {"data": healthy.tolist(), "model_names": ["lstm_autoencoder"]}

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.post(TRAIN, json=body, timeout=60)

    asked = elsewhere.submit(lambda: asyncio.run(ask()))
    [child] = awaited(trainings)
    os.kill(child, signal.SIGKILL)
    answer = asked.result(timeout=60)
    assert answer.status_code == 503
    assert "SIGKILL" in answer.json()["detail"]
    assert "again" in answer.json()["remedy"]


def test_a_service_that_is_stopped_ends_its_training(endless, healthy, elsewhere):
    training = elsewhere.submit(
        endless.train_in_subprocess, asked(healthy, models=["lstm_autoencoder"])
    )
    [child] = awaited(trainings)
    endless.close()
    with pytest.raises(TrainingInterruptedError, match="stopped"):
        training.result(timeout=60)
    awaited(lambda: not Path(f"/proc/{child}").exists())


def test_over_http_a_training_is_answered_when_the_service_is_stopped_and_the_queue_has_an_end(
    running, untracked, healthy, elsewhere
):
    with running(untracked.model_copy(update=ENDLESS | {"max_queued_jobs": 0})) as api:
        address = api.base_url.join("train?wait=true")
        training = elsewhere.submit(
            lambda: httpx.post(
                address, content=asked(healthy), headers=JSON, timeout=60, trust_env=False
            )
        )
        awaited(lambda: api.post("/train").status_code == 429)
        # Nobody sends megabytes only to be told so.
        with socket.create_connection((address.host, address.port), timeout=60) as plug:
            head = "POST {} HTTP/1.1\r\nHost: localhost\r\n{}: {}\r\nContent-Length: 999999\r\n\r\n"
            plug.sendall(head.format(address.path, *next(iter(JSON.items()))).encode())
            assert plug.recv(100).startswith(b"HTTP/1.1 429")
    answer = training.result(timeout=60)
    assert answer.status_code == 503
    assert "stopped" in answer.json()["detail"]


def test_data_that_cannot_be_used_leave_no_process(endless):
    with pytest.raises(InvalidDataError, match="constant"):
        endless.train_in_subprocess(asked([[1.0, 2.0]] * 9))
    with pytest.raises(InvalidDataError, match="forest"):
        endless.train_in_subprocess(asked([[1.0, 2.0], [2.0, 1.0]], models=["forest"]))
    with pytest.raises(InvalidDataError, match="JSON"):
        endless.train_in_subprocess(b'{"data": [[1,')
    awaited(lambda: not trainings())


def test_one_detector_that_fails_apart_does_not_stop_the_others(untracked):
    rows = np.random.default_rng(0).normal(size=(12, 3))
    outcome = AnomalyDetectionService(untracked).train_in_subprocess(
        asked(rows, models=["lstm_autoencoder", "one_class_svm"])
    )
    assert outcome["lstm_autoencoder"]["status"] == "failed"
    assert "sequence_length" in outcome["lstm_autoencoder"]["error"]
    assert outcome["one_class_svm"]["status"] == "trained"
