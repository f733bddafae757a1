"""No training is lost, and none is recorded twice, whatever fails and whenever."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from faults import AT_MOST_S, eventually
from mlflow_servers import mlflow_server
from sending import NAME, files, recovered, runs, train, versions, waiting

from vigie.config import Settings
from vigie.errors import TrackingUnavailableError
from vigie.registry.server import short_timeout
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService
from vigie.tracking.sync import sync_in_subprocess

pytestmark = pytest.mark.usefixtures("asked_again_at_once")


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


def test_what_is_sent_later_is_what_would_have_been_sent_at_once(behind, healthy):
    """The same run, with the times of the training, and the same version."""
    small = {
        "epochs": 3,
        "encoder_layers": (4,),
        "decoder_layers": (4,),
        "sequence_length": 3,
        "figures": True,
    }

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
    assert later.inputs.dataset_inputs[0].dataset == at_once.inputs.dataset_inputs[0].dataset
    described = [
        client.get_model_version("lstm_autoencoder", number).description for number in "12"
    ]
    assert described[0].rpartition(" Trained on ")[0] == described[1].rpartition(" Trained on ")[0]
    newest, oldest = MLflowService(settings).list_versions("lstm_autoencoder")
    assert (oldest.version, newest.version) == (1, 2)
    assert newest.run_id == later.info.run_id
    assert newest.card_sha256 == oldest.card_sha256
    assert before <= newest.trained_ms <= after < newest.created_ms
    text = Path(
        client.download_artifacts(later.info.run_id, "lstm_autoencoder_model/MLmodel")
    ).read_text()
    assert f"run_id: {later.info.run_id}" in text


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
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri, "VIGIE_FIGURES": "true"},
        capture_output=True,
        text=True,
        timeout=4 * AT_MOST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert str(MLflowService(settings).outbox.summary()) == "empty"
    [run] = runs(settings)
    client = MLflowService(settings).server.client
    assert client.list_artifacts(run.info.run_id, "figures")


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
    others = [sync_in_subprocess(away.server, away.outbox) for _ in range(2)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: MLflowService(settings).sync(), range(4)))
    for child in others:
        assert child.wait(2 * AT_MOST_S)
        assert child.describe_exit().startswith("ended with status 0")
        child.close()
    assert waiting(settings) == 0
    assert len(runs(settings)) == len(versions(settings)) == 3


def test_a_training_that_cannot_be_sent_is_set_aside_and_keeps_no_other_back(
    behind, healthy, caplog
):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    train(settings, healthy)
    outbox = MLflowService(settings).outbox
    damaged = outbox.waiting()[0]
    (damaged.folder / "entry.json").write_text('{"format": 1, "experi')
    caplog.clear()
    recovered(settings, server)

    assert len(runs(settings)) == len(versions(settings)) == 1
    [aside] = outbox.dead_letters()
    assert aside.name == damaged.name
    assert "cannot be read" in (aside.folder / "reason.txt").read_text()
    [error] = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert str(aside.folder) in error


def test_what_cannot_even_be_set_aside_keeps_no_other_back(behind, healthy):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    train(settings, healthy)
    outbox = MLflowService(settings).outbox
    (outbox.waiting()[0].folder / "entry.json").write_text("{}")
    (outbox.folder / "set_aside").write_text("no folder")
    server.left = 10_000
    MLflowService(settings).sync()
    assert waiting(settings) == 1
    assert len(runs(settings)) == len(versions(settings)) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_entry_that_the_disk_has_damaged_is_not_sent_in_part(damage, behind, healthy):
    settings, server = behind(0, "gone")
    train(settings.model_copy(update={"figures": True}), healthy)
    [entry] = MLflowService(settings).outbox.waiting()
    pattern, spoil = DAMAGES[damage]
    spoil(next(entry.folder.rglob(pattern)))
    recovered(settings, server)
    assert runs(settings) == versions(settings) == []
    [aside] = MLflowService(settings).outbox.dead_letters()
    assert "Train again" in (aside.folder / "reason.txt").read_text()


def test_what_lies_in_the_journal_and_is_no_entry_is_left_alone(behind, healthy):
    settings, server = behind(0, "gone")
    train(settings, healthy)
    folder = MLflowService(settings).outbox.folder
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
    with short_timeout():
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
    assert len(MLflowService(settings).outbox.dead_letters()) == 1


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
    assert "outbox" in error


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
    warnings = [r.getMessage() for r in caplog.records if "has not been sent" in r.getMessage()]
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
    where = untracked.state_dir / "server"
    with mlflow_server(new_port(), where) as uri:
        update = {"mlflow_enabled": True, "mlflow_tracking_uri": uri, "tracking_patience_s": 20.0}
        settings = untracked.model_copy(update=update)
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
        assert MLflowService(settings).load_model(NAME, version=2).n_samples == len(healthy)
