"""No training is lost, and none is recorded twice, whatever fails and whenever."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import AT_MOST_S, Failing, each_kind, eventually
from forked import FORKED, train_when_told
from typer.testing import CliRunner

from vigie.cli import app
from vigie.config import Settings
from vigie.errors import TrackingUnavailableError
from vigie.local import mlflow_server
from vigie.registry.server import impatiently
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService
from vigie.tracking.outbox import Entry
from vigie.tracking.sync import SENT, send, sync_in_subprocess

NAME = "one_class_svm"
EVERY_REQUEST = "EVERY_REQUEST" in os.environ


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def _changed(file: Path) -> None:
    file.write_text(file.read_text().replace('"contamination": "0.01"', '"contamination": "0.91"'))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "arrays cut": ("*.safetensors", _cut),
    "figures cut": ("figures.npz", _cut),
    "description gone": ("MLmodel", Path.unlink),
    "description emptied": ("MLmodel", lambda file: file.write_text("")),
    "facts gone": ("entry.json", Path.unlink),
    "a fact changed": ("entry.json", _changed),
}


@pytest.fixture(autouse=True)
def _asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a server that has failed is left alone for some seconds."""
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)


@pytest.fixture
def behind(tracked: Settings, failing: Callable[..., Failing]) -> Callable[..., Any]:
    """Settings by which the server is reached through one that fails, and that one."""

    def through(after: int, how: str) -> tuple[Settings, Failing]:
        server = failing(tracked.mlflow_tracking_uri, after, how)
        update = {"mlflow_tracking_uri": server.uri, "tracking_patience_s": 20.0}
        return tracked.model_copy(update=update), server

    return through


def train(settings: Settings, rows: np.ndarray) -> OneClassSVMService:
    service = OneClassSVMService(settings=settings)
    service.train(rows)
    service.mlflow_service.flush(AT_MOST_S)
    return service


def runs(settings: Settings) -> list[Any]:
    return MLflowService(settings).search_runs(order_by=["attributes.start_time ASC"])


def versions(settings: Settings) -> list[Any]:
    return MLflowService(settings).list_versions(NAME)


def waiting(settings: Settings) -> int:
    return MLflowService(settings).journal.summary().waiting


def files(client: Any, run_id: str, path: str | None = None) -> set[str]:
    found = client.list_artifacts(run_id, path)
    nested = (files(client, run_id, one.path) if one.is_dir else {one.path} for one in found)
    return set().union(*nested)


def recovered(settings: Settings, server: Failing) -> None:
    """Let the server be well, and send what it has missed."""
    server.left = 10_000
    service = MLflowService(settings)
    assert service.flush(AT_MOST_S)
    service.sync()
    assert waiting(settings) == 0


def test_what_is_sent_later_is_what_would_have_been_sent_at_once(behind, healthy):
    """The same run, with the times of the training, and the same version."""
    small = {"epochs": 3, "encoder_layers": (4,), "decoder_layers": (4,), "sequence_length": 3}

    def record(settings: Settings) -> None:
        service = LSTMAutoencoderService(settings=settings)
        service.train(healthy)
        service.mlflow_service.flush(AT_MOST_S)

    settings, server = behind(10_000, "gone")
    settings = settings.model_copy(update=small)
    record(settings)
    server.left = 0
    before = round(time.time() * 1000)
    record(settings)
    after = round(time.time() * 1000)
    assert waiting(settings) == 1
    recovered(settings, server)

    at_once, later = runs(settings)
    client = MLflowService(settings).server.client
    assert before <= later.info.start_time <= later.info.end_time <= after
    assert later.info.status == at_once.info.status == "FINISHED"
    assert later.info.run_name == at_once.info.run_name
    assert later.data.params == at_once.data.params
    for name, value in at_once.data.metrics.items():
        if name != "training_seconds":
            assert later.data.metrics[name] == value, name
        one, other = (client.get_metric_history(r.info.run_id, name) for r in (at_once, later))
        assert [m.step for m in one] == [m.step for m in other]
        assert all(before <= m.timestamp <= after for m in other)

    assert files(client, later.info.run_id) == files(client, at_once.info.run_id)
    newest, oldest = MLflowService(settings).list_versions("lstm_autoencoder")
    assert (oldest.version, newest.version) == (1, 2)
    assert newest.run_id == later.info.run_id
    assert newest.card_sha256 == oldest.card_sha256
    text = Path(
        client.download_artifacts(later.info.run_id, "lstm_autoencoder_model/MLmodel")
    ).read_text()
    assert f"run_id: {later.info.run_id}" in text


@pytest.mark.parametrize("ways", [["gone", "500"], ["unanswered"]], ids=" and ".join)
def test_a_server_that_fails_at_any_request_has_each_training_once(ways, behind, healthy):
    """The first and the last of each kind; with ``EVERY_REQUEST=1``, all of them."""
    settings, _ = behind(10_000, "gone")
    train(settings, healthy)
    settings, well = behind(10_000, "gone")
    train(settings, healthy)
    assert len(well.asked) > 20, "a training takes more requests than that"
    positions = range(len(well.asked)) if EVERY_REQUEST else each_kind(well.asked)
    assert len(positions) > 12, "there are more kinds than that"
    for number, after in enumerate(positions):
        settings, server = behind(after, ways[number % len(ways)])
        train(settings, healthy)
        assert server.left < 0
        recovered(settings, server)
        assert len(runs(settings)) == len(versions(settings)) == number + 3, f"at request {after}"
    found = runs(settings)
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len({(len(run.data.params), len(run.data.metrics)) for run in found}) == 1
    assert {run.info.run_id for run in found} == {version.run_id for version in versions(settings)}


@pytest.mark.parametrize("how", ["{}", "200", "cut", "400", "404"])
def test_what_a_proxy_says_in_place_of_the_server_is_no_fault_of_the_training(
    how, behind, healthy, tmp_path, monkeypatch
):
    settings, server = behind(10_000, how)
    client, where = MLflowService(settings).server.client, tmp_path / "where"
    where.mkdir()
    monkeypatch.chdir(where)
    train(settings, healthy)
    asked = ("runs/create", "model.pkl", "model-versions/create")
    server.left = 0
    for server.at in asked:
        train(settings, healthy)
        # It is all there already, or on its way, but given up it is not.
        assert MLflowService(settings).journal.set_aside() == []
    server.at = ""
    recovered(settings, server)
    found = runs(settings)
    assert len(found) == len(versions(settings)) == 1 + len(asked)
    assert len({tuple(sorted(files(client, run.info.run_id))) for run in found}) == 1
    assert list(where.iterdir()) == []


def test_trainings_under_faults_at_random_are_all_there_once(behind, healthy):
    """``N_TRAININGS=200 pytest -k at_random`` tries for longer."""
    rng = np.random.default_rng(0)
    n_trainings = int(os.environ.get("N_TRAININGS", "6"))
    settings, server = behind(0, "gone")
    for _ in range(n_trainings):
        server.how = rng.choice(["gone", "500", "unanswered", "readonly"])
        server.left = int(rng.integers(0, 30))
        train(settings, healthy)
    recovered(settings, server)
    assert len(versions(settings)) == n_trainings
    found = MLflowService(settings).search_runs(max_results=n_trainings + 100)
    assert {run.info.run_id for run in found} == {v.run_id for v in versions(settings)}
    assert len(found) == n_trainings


def test_sending_that_breaks_at_every_request_in_turn_ends_with_one_run(behind, healthy):
    settings, server = behind(0, "unanswered")
    train(settings, healthy)
    for after in count():
        server.left = after
        with suppress(TrackingUnavailableError):
            MLflowService(settings).sync()
        if server.left >= 0:
            break
    assert after > 5, "to send a training takes more requests than that"
    recovered(settings, server)
    assert len(runs(settings)) == len(versions(settings)) == 1


LAST_WORDS = """
import sys

import numpy as np

from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService

LSTMAutoencoderService(epochs=1).train(np.load(sys.argv[1]))
"""


def test_a_program_that_ends_at_once_leaves_nothing_in_the_journal(behind, healthy, tmp_path):
    settings, server = behind(10_000, "gone")
    server.delay_s = 0.05
    np.save(tmp_path / "rows.npy", healthy)
    done = subprocess.run(
        [sys.executable, "-c", LAST_WORDS, str(tmp_path / "rows.npy")],
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
        capture_output=True,
        text=True,
        timeout=4 * AT_MOST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert str(MLflowService(settings).journal.summary()) == "empty"
    [run] = runs(settings)
    client = MLflowService(settings).server.client
    assert client.list_artifacts(run.info.run_id, "figures")


@pytest.fixture
def victim(healthy: np.ndarray) -> Callable[[Settings], tuple[BaseProcess, Connection]]:
    """Start a process that trains when it is told to."""

    def start(settings: Settings) -> tuple[BaseProcess, Connection]:
        told, its_own = FORKED.Pipe()
        process = FORKED.Process(target=train_when_told, args=(settings, healthy, its_own))
        process.start()
        its_own.close()
        assert told.recv() == "ready"
        return process, told

    return start


@pytest.mark.parametrize("after", [0, 1, 2, 4, 6, 8, 10])
def test_a_training_whose_process_is_killed_while_it_is_sent_is_there_once(after, behind, victim):
    settings, server = behind(after, "kills")
    process, told = victim(settings)
    server.victim = process.pid
    told.send("go")
    process.join(timeout=2 * AT_MOST_S)
    assert process.exitcode == -signal.SIGKILL
    n_written = waiting(settings)
    # The first request asks whether the server is there, be it before there is a model.
    assert n_written == 1 or (n_written == 0 and after == 0)
    recovered(settings, server)
    assert len(runs(settings)) == len(versions(settings)) == n_written


def test_a_process_killed_while_it_writes_leaves_nothing_half(behind, victim):
    settings, server = behind(0, "gone")
    process, told = victim(settings)
    journal = MLflowService(settings).journal
    told.send("go")
    eventually(lambda: journal.folder.is_dir() and any(journal.folder.glob(".writing-*")))
    process.kill()
    process.join()
    n_written = waiting(settings)
    recovered(settings, server)
    assert len(runs(settings)) == len(versions(settings)) == n_written
    assert list(journal.folder.iterdir()) == []


def test_the_next_training_sends_what_earlier_ones_have_left(behind, healthy):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    train(settings, healthy)
    assert waiting(settings) == 2
    server.left = 10_000
    train(settings, healthy)
    assert waiting(settings) == 0
    assert len(runs(settings)) == len(versions(settings)) == 3


def test_many_who_send_at_once_send_each_training_once(behind, healthy):
    settings, server = behind(0, "gone")
    for _ in range(3):
        train(settings, healthy)
    server.left = 10_000
    away = MLflowService(settings)
    others = [sync_in_subprocess(away.server, away.journal) for _ in range(2)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: MLflowService(settings).sync(), range(4)))
    for child in others:
        assert child.wait(2 * AT_MOST_S)
        assert child.how_it_ended().startswith("ended with status 0")
        child.close()
    assert waiting(settings) == 0
    assert len(runs(settings)) == len(versions(settings)) == 3


def test_a_training_that_cannot_be_sent_is_set_aside_and_keeps_no_other_back(
    behind, healthy, caplog
):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    train(settings, healthy)
    journal = MLflowService(settings).journal
    damaged = journal.waiting()[0]
    (damaged.folder / "entry.json").write_text('{"format": 1, "experi')
    caplog.clear()
    recovered(settings, server)

    assert len(runs(settings)) == len(versions(settings)) == 1
    [aside] = journal.set_aside()
    assert aside.name == damaged.name
    assert "cannot be read" in (aside.folder / "reason.txt").read_text()
    [error] = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert str(aside.folder) in error


def test_what_cannot_even_be_set_aside_keeps_no_other_back(behind, healthy):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    train(settings, healthy)
    journal = MLflowService(settings).journal
    (journal.waiting()[0].folder / "entry.json").write_text("{}")
    (journal.folder / "set_aside").write_text("no folder")
    server.left = 10_000
    MLflowService(settings).sync()
    assert waiting(settings) == 1
    assert len(runs(settings)) == len(versions(settings)) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_entry_that_the_disk_has_damaged_is_not_sent_in_part(damage, behind, healthy):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    [entry] = MLflowService(settings).journal.waiting()
    pattern, spoil = DAMAGES[damage]
    spoil(next(entry.folder.rglob(pattern)))
    recovered(settings, server)
    assert runs(settings) == versions(settings) == []
    [aside] = MLflowService(settings).journal.set_aside()
    assert "Train again" in (aside.folder / "reason.txt").read_text()


def test_what_lies_in_the_journal_and_is_no_entry_is_left_alone(behind, healthy):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    folder = MLflowService(settings).journal.folder
    (folder / "notes.txt").write_text("do not delete")
    (folder / "lost+found").mkdir()
    assert waiting(settings) == 1
    recovered(settings, server)
    assert len(runs(settings)) == 1
    assert (folder / "notes.txt").exists()


def test_a_training_goes_to_the_server_whose_address_was_corrected(tracked, healthy, new_port):
    wrong = tracked.model_copy(update={"mlflow_tracking_uri": f"http://127.0.0.1:{new_port()}"})
    train(wrong, healthy)
    assert waiting(tracked) == 1
    MLflowService(tracked).sync()
    assert len(runs(tracked)) == len(versions(tracked)) == 1


def test_what_the_server_may_still_be_at_is_not_asked_for_again(tracked, behind, healthy):
    """A request that was given up on is carried out later all the same."""
    settings, server = behind(0, "slow")
    server.at = "/runs/create"
    with impatiently():
        train(settings.model_copy(update={"tracking_patience_s": 0.5}), healthy)
    assert waiting(tracked) == 1
    outcomes: list[str] = []
    # The server is well again, but has not come to what hangs there.
    MLflowService(tracked).sync(lambda entry, outcome: outcomes.append(outcome))
    assert len(outcomes) == 1
    assert "not answered" in outcomes[0]
    assert len(runs(tracked)) == 0
    server.released.set()
    eventually(lambda: len(runs(tracked)) == 1)
    recovered(tracked, server)
    assert len(runs(tracked)) == len(versions(tracked)) == 1


def test_an_experiment_that_was_deleted_keeps_its_trainings_until_it_is_restored(
    tracked, behind, healthy
):
    settings, server = behind(10_000, "gone")
    train(settings, healthy)
    server.left = 0
    train(settings, healthy)
    client = MLflowService(tracked).server.client
    where = client.get_experiment_by_name(settings.mlflow_experiment_name).experiment_id
    client.delete_experiment(where)
    server.left = 10_000
    MLflowService(settings).sync()
    assert waiting(settings) == 1
    client.restore_experiment(where)
    recovered(settings, server)
    assert len(runs(settings)) == len(versions(settings)) == 2


def test_a_run_that_somebody_deleted_does_not_come_back(tracked, behind, healthy):
    for after in count(1):
        settings, server = behind(after, "gone")
        train(settings, healthy)
        server.left = 10_000
        if found := runs(settings):
            break
    [run] = found
    MLflowService(tracked).server.client.delete_run(run.info.run_id)
    recovered(settings, server)
    assert run.info.run_id not in {one.info.run_id for one in runs(settings)}
    assert run.info.run_id not in {version.run_id for version in versions(settings)}
    assert len(MLflowService(settings).journal.set_aside()) == 1


def test_a_training_inside_an_open_run_goes_into_that_run_later_too(behind, healthy):
    settings, server = behind(10_000, "gone")
    service = MLflowService(settings)
    opened = service.start_run("night shift")
    server.left = 0
    train(settings, healthy)
    train(settings, healthy)
    server.left = 10_000
    service.end_run()
    recovered(settings, server)
    found = {run.info.run_name: run for run in runs(settings)}
    assert set(found) == {"night shift", f"{NAME}_300_samples"}
    assert found["night shift"].data.params["nu"] == str(settings.nu)
    nested = found[f"{NAME}_300_samples"]
    assert nested.data.tags["mlflow.parentRunId"] == opened.info.run_id
    assert {v.run_id for v in versions(settings)} == {r.info.run_id for r in found.values()}


def test_where_no_journal_can_be_written_the_server_takes_the_training(tracked, healthy, caplog):
    tracked.state_dir.mkdir(parents=True, exist_ok=True)
    (tracked.state_dir / "journal").write_text("no folder")
    service = train(tracked, healthy)
    assert service.served.version == 1
    assert len(runs(tracked)) == 1
    [error] = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert "journal" in error


def test_a_slow_server_is_not_waited_for_and_has_it_in_the_end(behind, healthy, caplog):
    settings, server = behind(10_000, "gone")
    server.delay_s = 0.3
    impatient = settings.model_copy(update={"tracking_patience_s": 0.5})
    service = OneClassSVMService(settings=impatient)
    service.train(healthy)
    assert service.mlflow_service.pending() == [f"{NAME}_300_samples"]
    assert service.served.version is None
    assert len(service.predict(healthy)) == len(healthy)
    [warning] = [r.getMessage() for r in caplog.records if "in the background" in r.getMessage()]
    assert server.uri in warning
    server.delay_s = 0.0
    assert service.mlflow_service.flush(AT_MOST_S)
    assert service.served.version == 1
    assert waiting(settings) == 0


def test_a_journal_that_grows_is_warned_of(behind, healthy, caplog, monkeypatch):
    settings, _ = behind(0, "gone")
    monkeypatch.setattr("vigie.tracking.outbox.LARGE_BYTES", 100_000)
    train(settings, healthy)
    caplog.clear()
    for _ in range(3):
        train(settings, healthy)
    warnings = [r.getMessage() for r in caplog.records if "is not sent" in r.getMessage()]
    assert "4 records to be sent" in warnings[-1]
    assert "vigie doctor" in warnings[-1]


def test_sync_reaches_a_server_that_takes_long_to_say_that_it_is_there(behind, healthy):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    server.left, server.delay_s, server.at = 10_000, 1.2, "/health"
    service = MLflowService(settings)
    with pytest.raises(TrackingUnavailableError):
        service.load_model(NAME)
    service.sync()
    assert waiting(settings) == 0
    assert len(versions(settings)) == 1


def test_an_artifact_store_that_is_away_keeps_the_training_in_the_journal(
    untracked, new_port, healthy
):
    update = {
        "mlflow_enabled": True,
        "mlflow_tracking_uri": f"http://127.0.0.1:{new_port()}",
        "tracking_patience_s": 20.0,
    }
    settings = untracked.model_copy(update=update)
    where = untracked.state_dir / "server"
    with mlflow_server(settings.model_copy(update={"state_dir": where})):
        train(settings, healthy)
        store, elsewhere = where / "mlflow-artifacts", where / "unmounted"
        store.rename(elsewhere)
        store.write_text("no folder any more")
        assert train(settings, healthy).served.version is None
        assert waiting(settings) == 1
        store.unlink()
        elsewhere.rename(store)
        MLflowService(settings).sync()
        assert waiting(settings) == 0
        assert len(runs(settings)) == len(versions(settings)) == 2
        assert MLflowService(settings).load_model(NAME, version=2).n_features == healthy.shape[1]


# How users meet it


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
    entry = MLflowService(settings).journal.waiting()[0]
    assert entry.hold()
    with subprocess.Popen(
        [sys.executable, "-m", "vigie.cli", "sync"],
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "Another process is sending" in process.stderr.readline()
        yield settings, entry, process


def test_of_two_who_sync_at_once_the_second_waits_for_the_first_and_succeeds_too(syncing):
    settings, entry, process = syncing
    service = MLflowService(settings)
    assert send(service.server, service.journal, entry) == SENT
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
    [entry] = MLflowService(settings).journal.waiting()
    assert entry.hold()
    stuck = CliRunner().invoke(app, ["sync"])
    assert stuck.exit_code == 1
    assert "0 sent, 1 left" in stuck.output
    assert "another process is sending it" in stuck.output
    entry.release()
    assert CliRunner().invoke(app, ["sync"]).exit_code == 0


def test_a_service_sends_by_itself_what_was_trained_while_mlflow_was_away(
    untracked, new_port, running, healthy
):
    settings = untracked.model_copy(
        update={
            "mlflow_enabled": True,
            "mlflow_tracking_uri": f"http://127.0.0.1:{new_port()}",
            "state_dir": untracked.state_dir / "service",
        }
    )
    server = settings.model_copy(update={"state_dir": untracked.state_dir / "server"})
    with running(settings) as client:
        body = {"data": healthy.tolist(), "model_names": [NAME]}
        answer = client.post("/train", json=body).json()
        assert answer["models"][NAME]["status"] == "trained"
        assert answer["models"][NAME]["version"] is None
        journal = client.get("/status").json()["journal"]
        assert journal["waiting"] == 1
        assert journal["bytes"] > 10_000
        with mlflow_server(server):
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
service.mlflow_service.recorder.prepare(windows=False)
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
