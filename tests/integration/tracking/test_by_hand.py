"""What a program records by hand is not lost either, whatever the server does meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
import pytest
from faults import AT_MOST_S, Failing
from sklearn.ensemble import IsolationForest
from typer.testing import CliRunner

from vigie.cli import app
from vigie.config import Settings
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService

NAME = "one_class_svm"


@pytest.fixture(autouse=True)
def _asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a server that has failed is left alone for some seconds."""
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)


@pytest.fixture
def behind(tracked: Settings, failing: Callable[..., Failing]) -> Callable[..., Any]:
    """A service whose server is reached through one that fails, and that one."""

    def through(after: int, how: str) -> tuple[MLflowService, Failing]:
        server = failing(tracked.mlflow_tracking_uri, after, how)
        update = {"mlflow_tracking_uri": server.uri, "tracking_patience_s": 20.0}
        return MLflowService(tracked.model_copy(update=update)), server

    return through


def recovered(service: MLflowService, server: Failing) -> list[Any]:
    """Let the server be well, send what it has missed, and return the runs, oldest first."""
    assert service.flush(AT_MOST_S)
    server.left = 10_000
    # What has been opened is sent before what goes into it; two rounds, where one fails.
    service.sync()
    service.sync()
    assert service.outbox.summary().waiting == 0
    return service.search_runs(order_by=["attributes.start_time ASC"])


def history(service: MLflowService, run: Any, metric: str) -> list[tuple[int, float]]:
    found = service.server.client.get_metric_history(run.info.run_id, metric)
    return [(one.step, one.value) for one in found]


def test_a_run_opened_while_the_server_is_away_is_there_later_with_all_in_it(behind, healthy):
    service, server = behind(0, "gone")
    assert service.start_run("night shift") is None
    service.log_params({"operator": "Ada"})
    OneClassSVMService(settings=service.settings).train(healthy)
    for step in range(3):
        service.log_metrics({"vibration": 0.5 + step}, step=step)
    service.end_run("FAILED")
    service.flush(AT_MOST_S)

    [run] = recovered(service, server)
    assert run.info.run_name == "night shift"
    assert run.info.status == "FAILED"
    assert run.info.start_time <= run.info.end_time
    assert run.data.params["operator"] == "Ada"
    assert run.data.params["nu"] == str(service.settings.nu)
    assert history(service, run, "vibration") == [(0, 0.5), (1, 1.5), (2, 2.5)]
    [version] = service.list_versions(NAME)
    assert version.run_id == run.info.run_id


def test_a_server_that_comes_back_meanwhile_takes_the_rest_in_order(behind, healthy):
    service, server = behind(0, "gone")
    service.start_run("night shift")
    server.left = 10_000
    service.log_params({"operator": "Ada"})
    OneClassSVMService(settings=service.settings).train(healthy)
    service.end_run()
    service.flush(AT_MOST_S)
    [run] = recovered(service, server)
    assert run.data.params["operator"] == "Ada"
    assert run.info.status == "FINISHED"
    assert service.list_versions(NAME)[0].run_id == run.info.run_id


def test_a_run_whose_server_dies_before_its_end_does_not_run_for_ever(behind):
    service, server = behind(10_000, "gone")
    opened = service.start_run("night shift")
    server.left = 0
    service.log_metrics({"vibration": 0.5}, step=7)
    service.end_run()
    [run] = recovered(service, server)
    assert run.info.run_id == opened.info.run_id
    assert run.info.status == "FINISHED"
    assert history(service, run, "vibration") == [(7, 0.5)]


def test_runs_opened_in_one_another_stay_so(behind):
    service, server = behind(0, "gone")
    service.start_run("outer")
    service.start_run("inner")
    service.log_metrics({"vibration": 1.0})
    service.end_run()
    service.log_metrics({"vibration": 2.0})
    service.end_run()
    found = {run.info.run_name: run for run in recovered(service, server)}
    outer, inner = found["outer"], found["inner"]
    assert inner.data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert (outer.data.metrics["vibration"], inner.data.metrics["vibration"]) == (2.0, 1.0)
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_values_without_a_run_make_one_later(behind):
    service, server = behind(0, "gone")

    def record() -> None:
        service.log_metrics({"vibration": 1.0}, step=1)
        service.log_metrics({"vibration": 2.0}, step=2)

    # A thread that has made no run yet.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(record).result()
    [run] = recovered(service, server)
    assert run.info.run_name == "custom_metrics"
    assert run.info.status == "FINISHED"
    assert history(service, run, "vibration") == [(1, 1.0), (2, 2.0)]


def test_a_model_of_ones_own_becomes_a_version_later(behind, healthy):
    service, server = behind(0, "gone")
    service.start_run("made elsewhere")
    forest = IsolationForest(n_estimators=5).fit(healthy)
    assert service.log_model(forest, "model", registered_model_name="made_elsewhere") is None
    service.end_run()
    [run] = recovered(service, server)
    [version] = service.list_versions("made_elsewhere")
    assert version.run_id == run.info.run_id
    opened = service.load_model("made_elsewhere", allow_pickle=True)
    np.testing.assert_array_equal(opened.predict(healthy), forest.predict(healthy))


@pytest.mark.parametrize("how", ["gone", "500", "unanswered", "readonly"])
def test_a_server_that_fails_at_any_request_has_all_of_it_once(how, behind):
    for after in count():
        service, server = behind(after, how)
        service.start_run(f"run {after}")
        service.log_params({"operator": "Ada"})
        service.log_metrics({"vibration": 0.5}, step=1)
        service.end_run()
        failed = server.left < 0
        run = recovered(service, server)[-1]
        assert len(recovered(service, server)) == after + 1, f"at request {after}"
        assert run.info.run_name == f"run {after}"
        assert run.info.status == "FINISHED"
        assert run.data.params == {"operator": "Ada"}
        assert history(service, run, "vibration") == [(1, 0.5)]
        if not failed:
            break
    assert after > 4, "this takes more requests"


def test_what_the_server_finds_fault_with_is_said_and_not_kept(behind, caplog):
    service, server = behind(10_000, "gone")
    service.start_run("night shift")
    service.log_params({"operator": "Ada"})
    service.log_params({"operator": "Grace"})
    service.end_run()
    [error] = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert "parameters" in error
    [run] = recovered(service, server)
    assert run.data.params == {"operator": "Ada"}


def test_a_stage_asked_for_while_the_server_is_away_is_given_later(
    behind, healthy, tmp_path, monkeypatch
):
    service, server = behind(0, "gone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("VIGIE_STATE_DIR", str(service.settings.state_dir))
    file = tmp_path / "healthy.csv"
    columns = ",".join(f"sensor_{n}" for n in range(healthy.shape[1]))
    np.savetxt(file, healthy, delimiter=",", header=columns, comments="")
    done = CliRunner().invoke(app, ["train", str(file), "--model", NAME, "--promote"])
    assert done.exit_code == 1, done.output
    assert "sends and promotes them once MLflow answers" in done.output.replace("\n", " ")
    recovered(service, server)
    [version] = service.list_versions(NAME)
    assert version.stage == "Production"


def test_a_stage_given_later_does_not_undo_what_was_decided_since(behind, healthy):
    service, server = behind(0, "gone")
    trained = OneClassSVMService(settings=service.settings)
    trained.train(healthy, stage="Production")
    service.flush(AT_MOST_S)
    server.left = 10_000
    # Another machine, which does not know of this outbox, trains and promotes.
    elsewhere = service.settings.model_copy(
        update={"state_dir": service.settings.state_dir / "elsewhere"}
    )
    other = OneClassSVMService(settings=elsewhere)
    other.train(healthy[:250], stage="Production")
    other.mlflow_service.flush(AT_MOST_S)
    recovered(service, server)
    late, decided = service.list_versions(NAME)
    assert (late.stage, decided.stage) == ("None", "Production")


def test_of_trainings_to_be_promoted_later_the_last_one_serves(behind, healthy):
    service, server = behind(0, "gone")
    for rows in (healthy[:200], healthy):
        OneClassSVMService(settings=service.settings).train(rows, stage="Production")
    recovered(service, server)
    newer, older = service.list_versions(NAME)
    assert (newer.stage, older.stage) == ("Production", "Archived")
    assert service.load_model(NAME, stage="Production").n_samples == len(healthy)


@pytest.mark.parametrize("stage", ["Production", "Staging"])
def test_what_another_tool_has_decided_since_is_not_undone_later(stage, behind, healthy):
    service, server = behind(10_000, "gone")
    OneClassSVMService(settings=service.settings).train(healthy[:200])
    assert service.flush(AT_MOST_S)
    server.left = 0
    OneClassSVMService(settings=service.settings).train(healthy, stage=stage)
    assert service.flush(AT_MOST_S)
    server.left = 10_000
    service.server.client.transition_model_version_stage(NAME, "1", stage)
    recovered(service, server)
    late, decided = service.list_versions(NAME)
    assert (late.stage, decided.stage) == ("None", stage)


def test_a_server_that_hangs_holds_up_what_is_recorded_by_hand_once(behind):
    service, server = behind(10_000, "silent")
    service.start_run("night shift")
    server.left = 1
    for step in range(5):
        service.log_metrics({"vibration": 0.5}, step=step)
    # Asked once in vain, and then no more for a while.
    assert server.left == -1
    service.end_run()
    server.released.set()
    assert service.outbox.summary().waiting == 5
