"""How users meet the outbox: by `vigie sync`, by a service, and on a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from faults import AT_MOST_S, eventually
from mlflow_servers import mlflow_server
from sending import NAME, runs, train, versions
from typer.testing import CliRunner

from vigie.cli import app
from vigie.config import Settings
from vigie.services.mlflow_service import MLflowService
from vigie.tracking.outbox import Entry
from vigie.tracking.sync import SENT, send

pytestmark = pytest.mark.usefixtures("asked_again_at_once")


def test_sync_tells_what_it_would_send_and_then_sends_it(behind, healthy, monkeypatch):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run = CliRunner().invoke

    doctor = run(app, ["doctor"])
    assert doctor.exit_code == 1
    assert "1 record to be sent" in doctor.output.replace("\n", " ")
    assert "vigie sync" in doctor.output

    away = run(app, ["sync"])
    assert away.exit_code != 0

    server.left = 10_000
    told = run(app, ["sync", "--dry-run"])
    assert told.exit_code == 0
    assert f"{NAME}_300_samples" in told.output
    assert runs(settings) == []

    sent = run(app, ["sync"])
    assert sent.exit_code == 0
    assert "1 sent, 0 left" in sent.output
    assert len(runs(settings)) == len(versions(settings)) == 1
    assert "empty" in run(app, ["sync"]).output


@pytest.fixture
def syncing(behind, healthy) -> Iterator[tuple[Settings, Entry, subprocess.Popen[str]]]:
    """A ``vigie sync`` that waits for somebody who is sending one of two trainings: for us."""
    settings, server = behind(0, "gone")
    train(settings, healthy)
    train(settings, healthy)
    server.left = 10_000
    entry = MLflowService(settings).outbox.waiting()[0]
    assert entry.hold()
    with subprocess.Popen(
        [sys.executable, "-m", "vigie.cli", "sync"],
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "another process that is sending" in process.stderr.readline()
        yield settings, entry, process


def test_of_two_who_sync_at_once_the_second_waits_for_the_first_and_succeeds_too(syncing):
    settings, entry, process = syncing
    service = MLflowService(settings)
    assert send(service.server, service.outbox, entry) == SENT
    entry.release()
    said, _ = process.communicate(timeout=2 * AT_MOST_S)
    assert "1 sent, 1 by another process, 0 left" in said
    assert process.returncode == 0
    assert len(runs(settings)) == len(versions(settings)) == 2


def test_what_the_other_who_syncs_has_left_is_sent_by_the_one_who_waits(syncing):
    settings, entry, process = syncing
    entry.release()
    said, _ = process.communicate(timeout=2 * AT_MOST_S)
    assert "2 sent, 0 left" in said
    assert process.returncode == 0
    assert len(runs(settings)) == len(versions(settings)) == 2


def test_sync_does_not_wait_for_ever_for_another_who_is_stuck(behind, healthy, monkeypatch):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    server.left = 10_000
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr("vigie.tracking.recorder.WAIT_S", 0.1)
    [entry] = MLflowService(settings).outbox.waiting()
    assert entry.hold()
    stuck = CliRunner().invoke(app, ["sync"])
    assert stuck.exit_code == 1
    assert "0 sent, 1 left" in stuck.output
    assert "another process is sending it" in stuck.output
    entry.release()
    assert CliRunner().invoke(app, ["sync"]).exit_code == 0


def test_a_service_sends_by_itself_what_was_trained_while_mlflow_was_away(
    untracked, new_port, running, healthy, tmp_path
):
    port = new_port()
    settings = untracked.model_copy(
        update={"mlflow_enabled": True, "mlflow_tracking_uri": f"http://127.0.0.1:{port}"}
    )
    with running(settings) as client:
        body = {"data": healthy.tolist(), "model_names": [NAME]}
        answer = client.post("/train?wait=true", json=body).json()
        assert answer["models"][NAME]["status"] == "trained"
        assert answer["models"][NAME]["version"] is None
        assert "waits in the outbox until MLflow answers" in answer["models"][NAME]["note"]
        outbox = client.get("/status").json()["journal"]
        assert outbox["waiting"] == 1
        assert outbox["bytes"] > 10_000
        with mlflow_server(port, tmp_path / "server"):
            eventually(lambda: client.get("/status").json()["journal"]["waiting"] == 0)
            eventually(lambda: client.get("/status").json()["models"][NAME]["version"] == 1)
            assert len(runs(settings)) == 1


WITHOUT_SPACE = """
import resource
import sys

import numpy as np

from vigie.services.one_class_svm_service import OneClassSVMService

service = OneClassSVMService()
rows = np.load(sys.argv[1])
service.mlflow_service.recorder.prepare("sklearn")
# No file of more than a kilobyte can be written, as on a disk with no more room than that.
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
service.train(rows)
service.mlflow_service.flush()
assert service.served.version is None
print(service.predict(rows).mean())
"""


def test_a_full_disk_costs_the_record_but_not_the_model(tracked, healthy, tmp_path):
    np.save(tmp_path / "rows.npy", healthy)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SPACE, str(tmp_path / "rows.npy")],
        capture_output=True,
        text=True,
        timeout=2 * AT_MOST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1
    assert "cannot be written" in done.stderr
    assert runs(tracked) == []
