"""Many at once, against real MLflow servers on SQLite and PostgreSQL: trainings, and promotions.

``SIDE_BY_SIDE=50`` makes each of eight workers train 50 times and each pair promote 500 times, as
threads and as processes on both databases; by default it is as often as it takes to meet, and what
is at work meets each database once.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow_servers import mlflow_server
from servers import PostgreSQL
from side_by_side import (
    AT_MOST_S,
    KINDS,
    Move,
    Moved,
    Workers,
    move,
    register_at_once,
    train,
    workers,
)

from vigie.config import Settings
from vigie.registry.stages import MOVING
from vigie.services.mlflow_service import MLflowService
from vigie.tracking.outbox import Outbox
from vigie.tracking.records import ManualValues, RunRef

AT_LENGTH = "SIDE_BY_SIDE" in os.environ
WORKERS = 8 if AT_LENGTH else 3
# The third of a worker goes into a run that it has opened.
TRAININGS = int(os.environ.get("SIDE_BY_SIDE", "3"))
ROUNDS = 10 * int(os.environ["SIDE_BY_SIDE"]) if AT_LENGTH else 6
NAME = "isolation_forest"
DATABASES = ("sqlite", "postgresql")
MEETINGS = (
    list(product(KINDS, DATABASES))
    if AT_LENGTH
    else list(zip(KINDS, reversed(DATABASES), strict=True))
)


@pytest.fixture(scope="module")
def mlflow_on_postgresql(
    postgresql: PostgreSQL,
    new_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A real MLflow server on PostgreSQL."""
    folder = tmp_path_factory.mktemp("mlflow-on-postgresql")
    with mlflow_server(new_port(), folder, postgresql.new_database()) as url:
        yield url


@pytest.fixture(scope="module", params=MEETINGS, ids="-".join)
def meeting(request: pytest.FixtureRequest) -> tuple[str, str]:
    """What is at work, and the database of the server that it meets on."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def settings(meeting: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of trainers on a server that knows neither their experiment nor their models."""
    fixture = "mlflow_uri" if meeting[1] == "sqlite" else "mlflow_on_postgresql"
    settings = Settings(
        mlflow_tracking_uri=request.getfixturevalue(fixture),
        mlflow_experiment_name=request.node.name,
        state_dir=tmp_path / "state",
        # On a busy machine a slow answer is no outage.
        tracking_patience_s=120,
        n_estimators=3,
        calibration_folds=2,
    )
    client = MLflowService(settings).server.client
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return settings


@pytest.fixture(scope="module")
def at_once(meeting: tuple[str, str]) -> Iterator[Workers]:
    """Some threads or processes."""
    with workers(meeting[0], WORKERS) as found:
        yield found


@pytest.fixture
def client(settings: Settings) -> MlflowClient:
    return MLflowService(settings).server.client


@pytest.fixture
def _own_fluent_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give MLflow's own global state back as it was."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.mark.usefixtures("_own_fluent_state")
def test_trainings_at_once_leave_each_its_own_run_and_version(at_once, settings, client, caplog):
    together = at_once.barrier(WORKERS)
    training_now = [
        at_once.pool.submit(train, worker, settings, TRAININGS, together)
        for worker in range(WORKERS)
    ]
    told = [worker.result() for worker in training_now]
    made = [training for worker in told for training in worker]
    assert len(made) == WORKERS * TRAININGS
    assert [training for training in made if training.version is None] == []
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert MLflowService(settings).outbox.waiting() == []
    assert MLflowService(settings).outbox.dead_letters() == []

    # No version is shared, and none is there that nobody made.
    versions = {(training.name, training.version) for training in made}
    assert len(versions) == len(made)
    count = Counter(training.name for training in made)
    for name, n in count.items():
        there = {int(version.version) for version in client.search_model_versions(f"name='{name}'")}
        assert there == set(range(1, n + 1))
    assert len({training.run_id for training in made}) == len(made)
    experiment = client.get_experiment_by_name(settings.mlflow_experiment_name)
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {training.run_id for training in made}

    for training in made:
        run = runs[training.run_id]
        assert run.info.status == "FINISHED"
        assert run.data.params["n_samples"] == str(training.n_samples)
        assert run.data.params["contamination"] == str(training.contamination)
        assert run.data.metrics["which"] == training.n_samples - 60
        assert run.data.tags["vigie.data_fingerprint"] == training.fingerprint
        version = client.get_model_version(training.name, str(training.version))
        assert version.run_id == training.run_id
        assert version.tags["vigie.data_fingerprint"] == training.fingerprint
        history = client.get_metric_history(training.run_id, "anomaly_rate")
        assert len(history) == 1
        fluent = client.get_run(training.fluent_run_id)
        assert (fluent.data.params, fluent.data.metrics) == ({}, {})
        assert client.list_artifacts(training.fluent_run_id) == []
        model = MLflowService(settings).load_model(training.name, version=training.version)
        assert model.data_fingerprint == training.fingerprint


def test_versions_registered_in_the_same_moment_have_numbers_of_their_own(
    at_once, settings, client
):
    run = client.create_run(client.create_experiment(settings.mlflow_experiment_name))
    source, together = f"{run.info.artifact_uri}/model", at_once.barrier(WORKERS)
    registering = [
        at_once.pool.submit(
            register_at_once, settings, NAME, source, run.info.run_id, ROUNDS // 2, together
        )
        for _ in range(WORKERS)
    ]
    made = [version for worker in registering for version in worker.result()]
    assert sorted(made) == list(range(1, WORKERS * (ROUNDS // 2) + 1))


@pytest.fixture
def four_versions(settings: Settings, client: MlflowClient) -> None:
    """Versions 1 to 4 of a model, none in any stage."""
    experiment = client.create_experiment(f"{settings.mlflow_experiment_name} versions")
    run = client.create_run(experiment)
    client.create_registered_model(NAME)
    for _ in range(4):
        client.create_model_version(NAME, f"{run.info.artifact_uri}/model", run.info.run_id)


def stages(client: MlflowClient) -> dict[str, list[int]]:
    """Return which versions the registry has in which stage."""
    found: dict[str, list[int]] = {"Production": [], "Staging": []}
    for version in client.search_model_versions(f"name='{NAME}'"):
        found.setdefault(version.current_stage, []).append(int(version.version))
    return found


def check(client: MlflowClient) -> int | None:
    """Return what is in Production, if all that the registry says is one story."""
    found, model = stages(client), client.get_registered_model(NAME)
    assert len(found["Production"]) <= 1
    assert len(found["Staging"]) <= 1
    assert {alias: int(number) for alias, number in model.aliases.items()} == {
        stage.lower(): found[stage][0] for stage in ("Production", "Staging") if found[stage]
    }
    assert not [tag for tag in model.tags if tag.startswith(MOVING)]
    return found["Production"][0] if found["Production"] else None


def all_move(
    at_once: Workers, plans: list[list[Move]], settings: Settings, client: MlflowClient
) -> Iterator[tuple[int | None, list[Moved]]]:
    """Let all make the moves of their plan together, and yield after each what came of it."""
    production, together = [], at_once.barrier(len(plans) + 1)
    movers = [at_once.pool.submit(move, plan, settings, together) for plan in plans]
    try:
        for _ in plans[0]:
            together.wait(AT_MOST_S)
            together.wait(AT_MOST_S)
            production.append(check(client))
    except threading.BrokenBarrierError:
        # One of them tells why.
        pass
    finally:
        together.abort()
    outcomes = [mover.result() for mover in movers]
    for number, holder in enumerate(production):
        yield holder, [outcome[number] for outcome in outcomes]


@pytest.mark.usefixtures("four_versions")
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told_so(at_once, settings, client):
    plans: list[list[Move]] = [
        [(NAME, "Production", 1 + (2 * number + mover) % 4) for number in range(ROUNDS)]
        for mover in range(2)
    ]
    for holder, moved in all_move(at_once, plans, settings, client):
        won = sorted((one for one in moved if one.version is not None), key=lambda one: one.ended)
        # Both have won only if one of them came so late that it knew of the other.
        assert won
        assert won[-1].version == holder
        for one in moved:
            if one.version is None:
                assert f"Version {holder} of '{NAME}' was moved to Production" in one.reason
                assert "vigie models promote" in one.reason


@pytest.mark.usefixtures("four_versions")
def test_whatever_is_moved_at_once_the_registry_tells_one_story(at_once, settings, client):
    chance = random.Random(0)
    kinds = ("Production", "Production", "Staging", "Archived", "None", "rollback")
    plans: list[list[Move]] = [
        [(NAME, chance.choice(kinds), chance.randint(1, 4)) for _ in range(ROUNDS // 2)]
        for _ in range(min(WORKERS, 4))
    ]
    outcomes = [moved for _, moved in all_move(at_once, plans, settings, client)]
    assert len(outcomes) == ROUNDS // 2
    assert any(one.version is not None for moved in outcomes for one in moved)


def test_an_entry_that_is_being_written_is_not_swept_away(tmp_path):
    outbox, written = Outbox(tmp_path / "outbox"), threading.Event()
    record = ManualValues("metrics", "experiment", RunRef("1", "2"))

    def sweep() -> None:
        while not written.is_set():
            outbox.sweep()

    with ThreadPoolExecutor(3) as pool:
        sweeping = [pool.submit(sweep) for _ in range(3)]
        try:
            for _ in range(60):
                outbox.write(lambda folder, name: record).release()
        finally:
            written.set()
        for one in sweeping:
            one.result()
    assert len(outbox.waiting()) == 60
