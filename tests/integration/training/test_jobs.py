"""Trainings as jobs: followed, cancelled, waiting for each other, and told of after a restart."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import Result
from faults import eventually
from typer.testing import CliRunner

from vigie import samples
from vigie.cli import app as commands
from vigie.cli import terminal
from vigie.config import Settings
from vigie.errors import (
    ConflictError,
    InvalidDataError,
    JobNotFoundError,
    TrainingInterruptedError,
    VigieError,
)
from vigie.history import jobs as table_of_jobs
from vigie.history.jobs import JobTable, StoredJob
from vigie.history.store import History
from vigie.models.jobs import Job, JobState
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.training.preparation import prepare_body

NAMES = list(samples.FEATURE_NAMES)
FOREST = {
    "model_names": ["isolation_forest"],
    "parameters": {"isolation_forest": {"n_estimators": 5}},
}
LSTM = {"model_names": ["lstm_autoencoder"]}
TREES = "isolation_forest.n_estimators"
ENDLESS = LSTM | {"parameters": {"lstm_autoencoder": {"epochs": 1_000_000, "learning_rate": 1e-9}}}
ENDED = {state.value for state in JobState if state.has_ended}


def body(rows: np.ndarray, **how: Any) -> dict[str, Any]:
    return {"data": rows.tolist(), "feature_names": NAMES, **how}


def posted(api: httpx.Client, content: dict[str, Any]) -> dict[str, Any]:
    """Ask for a training, and return its job."""
    response = api.post("/train", json=content)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    assert response.headers["location"] == job["links"]["self"]
    return job


def got(api: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    response = api.get(api.base_url.join(job["links"]["self"]))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def events(api: httpx.Client, job: dict[str, Any], **headers: str) -> Iterator[dict[str, Any]]:
    """Yield each event of a job until the stream ends, with its name and id."""
    event: dict[str, Any] = {}
    address = api.base_url.join(job["links"]["events"])
    with api.stream("GET", address, headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            key, _, value = line.partition(": ")
            if key == "data":
                event["job"] = json.loads(value)
            elif key in ("event", "id"):
                event[key] = value
            elif not line and event:
                yield event
                event = {}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("state")
    return Settings(mlflow_enabled=False, state_dir=folder, epochs=3, batch_size=8)


@pytest.fixture(scope="module")
def api(
    running: Callable[[Settings], AbstractContextManager[httpx.Client]], settings: Settings
) -> Iterator[httpx.Client]:
    with running(settings) as client:
        yield client


def test_a_training_is_followed_to_its_end_with_its_epochs_and_what_came_out(api, healthy):
    job = posted(api, body(healthy, **LSTM, contamination=0.02))
    assert job["state"] in ("queued", "running")
    assert job["data"]["n_rows"] == len(healthy)
    assert job["contamination"] == 0.02
    followed = list(events(api, job))

    last = followed[-1]
    assert last["event"] == last["job"]["state"] == "succeeded"
    progress = [event["job"]["progress"] for event in followed]
    assert [p["percent"] for p in progress] == sorted(p["percent"] for p in progress)
    assert progress[-1]["percent"] == 100.0
    [epoch, *_] = [p for p in progress if p["epoch"]]
    assert (epoch["model"], epoch["epochs"]) == ("lstm_autoencoder", 3)
    assert epoch["loss"] > 0.0
    assert last["job"] == got(api, job)
    outcome = last["job"]["models"]["lstm_autoencoder"]
    assert outcome["status"] == "trained"
    assert outcome["metrics"]["threshold"] == pytest.approx(0.98)
    created, started, ended = (
        datetime.fromisoformat(last["job"][name]) for name in ("created", "started", "ended")
    )
    assert created <= started <= ended
    assert last["job"]["ended"].endswith("Z")
    # A browser connects again, and is told that nothing more will come.
    address = api.base_url.join(job["links"]["events"])
    again = api.get(address, headers={"Last-Event-ID": last["id"]})
    assert again.status_code == 204
    assert [e["id"] for e in events(api, job, **{"Last-Event-ID": "1"})] == [last["id"]]


def test_one_training_waits_for_another_and_both_are_cancelled_at_once(api, healthy):
    first, second = posted(api, body(healthy, **ENDLESS)), posted(api, body(healthy, **ENDLESS))
    third = posted(api, body(healthy, **FOREST))
    assert [got(api, job)["position"] for job in (second, third)] == [1, 2]
    eventually(lambda: got(api, first)["progress"]["epoch"])
    listed = api.get(api.base_url.join("/api/v1/jobs"), params={"state": "queued", "limit": "1"})
    assert [job["id"] for job in listed.json()["jobs"]] == [third["id"]]
    assert listed.json()["stored"]

    for job in (second, first):
        cancelled = api.delete(api.base_url.join(job["links"]["self"]))
        assert cancelled.status_code == 200
        assert cancelled.json()["state"] == "cancelled"
    assert [event["event"] for event in events(api, third)][-1] == "succeeded"
    again = api.delete(api.base_url.join(first["links"]["self"]))
    assert again.status_code == 409
    assert "cancelled" in again.json()["detail"]
    unknown = api.get(api.base_url.join("/api/v1/jobs/none"))
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:problem:vigie:job-not-found")


@pytest.mark.parametrize(
    ("how", "field", "said"),
    [
        ({"contamination": 0.7}, "contamination", "less than 0.5"),
        ({"parameters": {"lstm": {"epochs": 3}}}, "parameters.lstm", "lstm_autoencoder"),
        ({"parameters": {"one_class_svm": {"epochs": 3}}}, "parameters.one_class_svm.epochs", "no"),
        (
            {"parameters": {"lstm_autoencoder": {"epochs": True}}},
            "parameters.lstm_autoencoder.epochs",
            "it is true",
        ),
        (
            {"parameters": {"lstm_autoencoder": {"epochs": 0}}},
            "parameters.lstm_autoencoder.epochs",
            "greater than 0",
        ),
        (
            {"model_names": ["one_class_svm"], "parameters": {"lstm_autoencoder": {"epochs": 9}}},
            "parameters.lstm_autoencoder",
            "model_names",
        ),
        (
            {"parameters": {"isolation_forest": {"contamination": 0.1}}},
            "parameters.isolation_forest.contamination",
            "beside parameters",
        ),
    ],
)
def test_what_cannot_be_given_for_a_training_is_refused_with_its_place(
    settings, healthy, how, field, said
):
    with pytest.raises(InvalidDataError) as refused:
        prepare_body(json.dumps(body(healthy[:20], **how)).encode(), settings)
    assert refused.value.field == field
    assert said in str(refused.value)


@pytest.mark.parametrize("address", ["/train", "/train?wait=true"])
def test_a_training_that_is_refused_leaves_no_job(api, healthy, address):
    before = len(api.get(api.base_url.join("/api/v1/jobs")).json()["jobs"])
    how = {"parameters": {"lstm_autoencoder": {"epochs": 0}}}
    refused = api.post(address, json=body(healthy, **how))
    assert refused.status_code == 422, refused.text
    assert refused.json()["field"] == "parameters.lstm_autoencoder.epochs"
    assert len(api.get(api.base_url.join("/api/v1/jobs")).json()["jobs"]) == before


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?state=done", "state"),
        ("?limit=0", "limit"),
        ("?limit=", "limit"),
        ("?last=3", "query"),
        ("?limit=1&limit=2", "limit"),
        ("?limit=0000000019", "limit"),
        ("?limit=%D9%A1", "limit"),
        ("?state=queued&state=running", "state"),
    ],
)
def test_a_list_that_is_asked_for_oddly_is_refused(api, query, field):
    refused = api.get(api.base_url.join(f"/api/v1/jobs{query}"))
    assert (refused.status_code, refused.json()["field"]) == (422, field)


def csv_of(rows: np.ndarray, names: Sequence[str] = NAMES) -> bytes:
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows.tolist())]
    return "\n".join(lines).encode()


def sent_file(api: httpx.Client, content: bytes, query: str, kind: str = "text/csv") -> Any:
    header = {"Content-Type": kind}
    return api.post(f"/train?wait=true&{query}", content=content, headers=header)


def test_the_rows_may_be_a_file(api, healthy):
    how = (
        "filename=pump.csv&exclude=flow_rate&model=isolation_forest&isolation_forest.n_estimators=5"
    )
    answered = sent_file(api, csv_of(healthy), how)
    assert answered.status_code == 200, answered.text
    metrics = answered.json()["models"]["isolation_forest"]["metrics"]
    assert (metrics["n_samples"], metrics["n_features"]) == (len(healthy), len(NAMES) - 1)
    [job] = api.get(api.base_url.join("/api/v1/jobs?limit=1")).json()["jobs"]
    assert (job["data"]["source"], job["data"]["filename"]) == ("file", "pump.csv")
    assert job["parameters"] == {"isolation_forest": {"n_estimators": 5}}


@pytest.mark.parametrize(
    ("content", "query", "field", "said"),
    [
        (None, "exclud=flow_rate", "query", "exclude"),
        (None, "exclude=flow", "exclude", "flow_rate"),
        (None, "lstm_autoencoder.epochs=x", "lstm_autoencoder.epochs", "whole number"),
        (None, "contamination=1", "contamination", "0.5"),
        (None, "asset=pump-7", "asset", "by."),
        (None, "model=isolation_forrest", "model", "isolation_forest"),
        (None, "model=", "model", "at least 1 character"),
        (None, ".=1", "parameters", "at least 1 character"),
        (None, f"{'a' * 300}.epochs=1", "a" * 200, "200 characters"),
        (None, "isolation_forest.n_estimators=1&isolation_forest.n_estimators=2", TREES, "once"),
        (None, "wait=false", "wait", "once"),
        (None, "decimal=dot", "decimal", "comma"),
        (None, "timezone=Mars/Olympus", "timezone", "no time zone"),
        (None, "filename=%00", "filename", "NUL"),
        (b"", "", "body", "empty"),
        (b"a,b", "", "body", "No column holds readings"),
        (b"PAR1 and no more", "", "body", "Parquet"),
        (b"a,b\n1,2\n", "model=one_class_svm", "body", "One row"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(
    api, healthy, content, query, field, said
):
    refused = sent_file(api, csv_of(healthy) if content is None else content, query)
    assert refused.status_code == 422, refused.text
    assert refused.json()["field"] == field
    assert said in refused.text


def seen(asset_id: str, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return readings of an asset, one a minute."""
    start = datetime(2026, 1, 5, 8, tzinfo=UTC)
    return [
        {
            "asset_id": asset_id,
            "timestamp": (start + timedelta(minutes=minute)).isoformat(),
            "features": dict(zip(NAMES, row, strict=True)),
        }
        for minute, row in enumerate(rows.tolist())
    ]


def by_reference(api: httpx.Client, history: dict[str, Any]) -> httpx.Response:
    return api.post("/train", json={"history": history, **FOREST})


@pytest.fixture(scope="module")
def pump(api: httpx.Client, healthy: np.ndarray) -> str:
    """A machine that vibrates from its 200th reading on, as the service has seen it."""
    answered = api.post(
        "/train?wait=true", json=body(healthy, model_names=["vector_autoregression"])
    )
    assert answered.status_code == 200, answered.text
    worn = samples.healthy(300, seed=1).data
    worn[200:, NAMES.index("vibration_rms")] += 1.0
    answered = api.post("/detect/batch", json=seen("pump", worn))
    states = [result["asset"]["state"] for result in answered.json()]
    assert states.count("alarm") > 50
    return "pump"


def test_what_the_service_has_seen_of_a_healthy_machine_is_learnt_by_reference(api, pump):
    accepted = by_reference(api, {"asset_id": pump, "from": "2026-01-05T08:10:00Z"})
    assert accepted.status_code == 202, accepted.text
    data = accepted.json()["data"]
    assert sorted(data["feature_names"]) == sorted(NAMES)
    assert data["from"] == "2026-01-05T08:10:00Z"
    # Neither the alarm nor the readings before it in which the change had begun already.
    assert 150 < data["n_rows"] <= 210
    assert data["n_rows"] + sum(data["left_out"].values()) == 290
    job = list(events(api, accepted.json()))[-1]["job"]
    assert job["models"]["isolation_forest"]["metrics"]["n_samples"] == data["n_rows"]

    everything = by_reference(api, {"asset_id": pump, "only_healthy": False}).json()
    assert (everything["data"]["n_rows"], everything["data"]["left_out"]) == (300, {})
    assert everything["data"]["from"] == "2026-01-05T08:00:00Z"


@pytest.mark.parametrize(
    ("history", "field", "said"),
    [
        ({"asset_id": "pomp"}, "history.asset_id", "Did you mean 'pump'?"),
        ({"asset_id": "pump", "sensor_id": "inlet"}, "history.sensor_id", "without a sensor_id"),
        ({"asset_id": "pump", "from": "1h"}, "history.from", "The newest is of 2026-01-05T12:59"),
        ({"asset_id": "pump", "from": "lately"}, "history.from", "such as 30d"),
        ({"asset_id": "pump", "from": "30d", "to": "60d"}, "history.to", "begins"),
        ({"asset_id": "pump", "from": "2026-01-05T12:30:00Z"}, "history", "None of the readings"),
        ({"asset": "pump"}, "history.asset", "asset_id"),
    ],
)
def test_readings_that_cannot_be_learnt_are_refused_with_the_reason(
    api, pump, history, field, said
):
    refused = by_reference(api, history)
    assert refused.status_code == 422, refused.text
    assert refused.json()["field"] == field
    assert said in refused.json()["detail"] + refused.json()["remedy"]


def run_train(*words: str) -> Result:
    return CliRunner().invoke(commands, ["train", *words], catch_exceptions=False)


def test_a_file_is_trained_by_a_service_as_it_is_here(api, healthy, tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "LOG_EVERY_S", 0.05)
    file = tmp_path / "pump.csv"
    file.write_bytes(csv_of(healthy))
    server = str(api.base_url.join("/"))
    how = ["--model", "isolation_forest", "--param", "n_estimators=5", "--exclude", "flow_rate"]
    done = run_train(str(file), "--server", server, *how)
    assert done.exit_code == 0, done.output
    assert "isolation_forest" in done.stdout
    assert f"{len(healthy)}" in done.stdout
    assert "% isolation_forest: " in done.stderr
    [job] = api.get(api.base_url.join("/api/v1/jobs?limit=1")).json()["jobs"]
    assert job["data"]["filename"] == "pump.csv"
    assert "flow_rate" not in job["data"]["feature_names"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--param", "epochs=0"], "lstm_autoencoder.epochs: It must be greater than 0"),
        (["--param", "epoch=3"], 'Did you mean "epochs"?'),
        (["--param", "epochs"], "gives no value"),
        (["--param", "contamination=0.1"], "--contamination"),
        (["--promote"], "vigie models promote"),
    ],
)
def test_what_a_service_does_not_take_is_an_error_of_the_command(
    api, healthy, tmp_path, words, said
):
    file = tmp_path / "pump.csv"
    file.write_bytes(csv_of(healthy))
    with pytest.raises(VigieError) as refused:
        run_train(str(file), "--server", str(api.base_url.join("/")), *words)
    assert said in str(refused.value)


def test_a_service_that_does_not_answer_is_named_without_its_password(tmp_path, new_port):
    file = tmp_path / "pump.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(VigieError) as refused:
        run_train(str(file), "--server", f"http://me:secret@127.0.0.1:{new_port()}")
    assert "cannot be reached" in str(refused.value)
    assert "secret" not in str(refused.value)


# Without HTTP: what outlasts a process.


def encoded(rows: np.ndarray, **how: Any) -> bytes:
    return json.dumps(body(rows, **how)).encode()


def state_of(service: AnomalyDetectionService, job: Job) -> JobState:
    return service.jobs.get(job.id).state


def test_what_waits_is_trained_after_a_restart_and_what_ran_was_interrupted(untracked, healthy):
    service = AnomalyDetectionService(untracked)
    ran = service.jobs.submit(encoded(healthy, **ENDLESS))
    waits = service.jobs.submit(encoded(healthy, **FOREST))
    eventually(lambda: service.jobs.get(ran.id).progress.model, 100)
    [stored] = untracked.state_dir.glob(f"jobs/*/{waits.id}/body")
    assert stored.stat().st_mode & 0o077 == stored.parent.stat().st_mode & 0o077 == 0
    service.close()

    again = AnomalyDetectionService(untracked)
    again.recover_jobs()
    interrupted = again.jobs.get(ran.id)
    assert interrupted.state is JobState.INTERRUPTED
    assert interrupted.error is not None
    assert "stopped" in interrupted.error.detail
    assert interrupted.progress.model == "lstm_autoencoder"
    eventually(lambda: state_of(again, waits) is JobState.SUCCEEDED, 100)
    assert [job.id for job in again.jobs.newest()] == [waits.id, ran.id]
    again.close()
    assert not list(untracked.state_dir.glob("jobs/*"))


KILLED = """
import os, signal, sys, time
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.training.preparation import prepare_body

service, other = AnomalyDetectionService(), AnomalyDetectionService()
job = service.jobs.submit(sys.stdin.buffer.read())
# Once the database has it, as another service sees it.
while other.jobs.get(job.id).state != "running":
    time.sleep(0.01)
print(job.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_ran_when_a_service_was_killed_was_interrupted_and_another_service_is_not_touched(
    untracked, healthy
):
    beside = AnomalyDetectionService(untracked)
    lives = beside.jobs.submit(encoded(healthy, **ENDLESS))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED],
        input=encoded(healthy, **ENDLESS),
        stdout=subprocess.PIPE,
        check=False,
        timeout=100,
    )
    assert killed.returncode == -signal.SIGKILL
    job_id = killed.stdout.decode().strip()

    service = AnomalyDetectionService(untracked)
    service.recover_jobs()
    interrupted = service.jobs.get(job_id)
    assert interrupted.state is JobState.INTERRUPTED
    assert interrupted.error is not None
    assert "ended while it ran" in interrupted.error.detail
    assert state_of(beside, lives) is JobState.RUNNING
    assert state_of(service, lives) is JobState.RUNNING
    service.close()
    beside.close()


def test_replicas_know_and_cancel_each_others_jobs(postgresql, untracked, tmp_path, healthy):
    url = postgresql.new_database()
    one, other = (
        AnomalyDetectionService(
            untracked.model_copy(update={"history_url": url, "state_dir": tmp_path / name})
        )
        for name in ("one", "other")
    )
    job = one.jobs.submit(encoded(healthy, **ENDLESS))
    eventually(lambda: state_of(other, job) is JobState.RUNNING, 100)
    assert not other.jobs.is_own(job.id)
    assert other.jobs.cancel(job.id).state is JobState.CANCELLED
    assert state_of(one, job) is JobState.CANCELLED
    with pytest.raises(ConflictError, match="has ended"):
        other.jobs.cancel(job.id)

    # A replica that is never started again.
    history = History(url)
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    lost = Job(id="lost", state=JobState.RUNNING, created=long_ago)
    JobTable(history).put(StoredJob(lost, "gone", long_ago))
    for replica in (one, other):
        found = replica.jobs.get("lost")
        assert found.state is JobState.INTERRUPTED
        assert found.error is not None
        assert "Nothing is heard" in found.error.detail
    for closed in (history, one, other):
        closed.close()


def test_without_a_database_jobs_are_in_memory(untracked, healthy):
    service = AnomalyDetectionService(untracked.model_copy(update={"history_enabled": False}))
    assert not service.jobs.are_stored
    ran = service.jobs.submit(encoded(healthy, **ENDLESS))
    waits = service.jobs.submit(encoded(healthy, **FOREST))
    assert [job.id for job in service.jobs.newest()] == [waits.id, ran.id]
    service.close()
    for ended in (ran, waits):
        assert state_of(service, ended) is JobState.INTERRUPTED
    with pytest.raises(TrainingInterruptedError, match="stopped"):
        service.jobs.submit(encoded(healthy, **FOREST))
    with pytest.raises(JobNotFoundError):
        AnomalyDetectionService(untracked).jobs.get(ran.id)


def test_a_job_is_not_said_to_be_unknown_while_the_database_fails(running, untracked, tmp_path):
    # No folder, so that no database can be in it.
    (tmp_path / "full").touch()
    settings = untracked.model_copy(update={"history_url": f"sqlite:///{tmp_path}/full/history.db"})
    with running(settings) as api:
        for method, end in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            answer = api.request(method, api.base_url.join(f"/api/v1/jobs/of-a-replica{end}"))
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:problem:vigie:history")
        assert not api.get(api.base_url.join("/api/v1/jobs")).json()["stored"]


def test_the_last_jobs_are_kept_and_those_that_run(new_history, monkeypatch):
    monkeypatch.setattr(table_of_jobs, "MOST_KEPT", 2)
    history = History(new_history())
    table = JobTable(history)
    for number, state in enumerate(["running", "failed", "succeeded", "cancelled"]):
        created = datetime(2026, 1, 5, 8, number, tzinfo=UTC)
        table.put(StoredJob(Job(id=state, state=JobState(state), created=created), "me", created))
    assert [stored.job.id for stored in table.newest()] == ["cancelled", "succeeded", "running"]
    history.close()
