"""Vigie on real stores: deployed, backed up and restored by the commands of the documentation."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import servers
from faults import eventually
from mlflow_servers import mlflow_server as forked_server
from quick_training import CHEAP

from vigie import samples
from vigie.cli.doctor import examine
from vigie.config import Settings
from vigie.local import await_health
from vigie.local import running as process_running
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService

PAGES = "\n".join(
    (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    for page in ("operations/backup.md", "how-to/login.md", "how-to/mlflow-elsewhere.md")
)
NAME = "one_class_svm"
QUICK = {**CHEAP, "mlflow_enabled": True, "tracking_patience_s": 60.0, "state_dir": ".vigie"}
BENCH = samples.healthy(300)
WORN = samples.faulty("bearing_wear", 60, onset=1)
READINGS = [
    {
        "asset_id": "pump-7",
        "features": dict(zip(WORN.feature_names, row, strict=True)),
        "timestamp": f"2026-01-05T08:00:{second:02d}Z",
    }
    for second, row in enumerate(WORN.data.tolist())
]

Running = Callable[[Settings], AbstractContextManager[httpx.Client]]


@pytest.fixture(autouse=True)
def _programs_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell find `python`, `mlflow` and `aws`, and nothing of the machine's own S3."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def code(heading: str, language: str = "bash") -> str:
    """Return the code below a heading of the documentation."""
    [section] = re.findall(rf"^#+ {heading}\n(.*?)(?=^#+ |\Z)", PAGES, re.M | re.S)
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)
    return str(block)


def shell(heading: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code(heading)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def mlflow_as_under(heading: str, port: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Run the MLflow server of a deployment."""
    # One worker starts in half the time of two.
    command = code(heading).replace("--port 5000 --workers 2", f"--port {port} --workers 1")
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = Path("mlflow.log").resolve()
    with process_running(["bash", "-c", f"exec {command}"], {**quiet, **environment}, log) as one:
        await_health("MLflow", one, f"http://127.0.0.1:{port}/health", log)
        yield


def train(settings: Settings) -> OneClassSVMService:
    service = OneClassSVMService(settings=settings)
    service.train(BENCH.data, BENCH.feature_names)
    assert service.mlflow_service.flush(60)
    return service


def train_and_promote(settings: Settings) -> None:
    assert train(settings).served.version == 1
    MLflowService(settings).transition_model_stage(NAME, 1, "Production")


def answered(service: httpx.Client, readings: list[dict[str, Any]]) -> Any:
    """Return what a service says of the last of some readings, once the model serves."""
    eventually(lambda: service.get("/status").json()["models"][NAME]["version"])
    answer = service.post("/detect/batch", json=readings)
    assert answer.is_success, answer.text
    last = answer.json()[-1]
    # A registered version stands behind it, and a past.
    model = last["models"][NAME]
    assert (model["version"], model["stage"]) == (1, "Production")
    assert last["asset"]["evidence"] is not None
    return last


def versions(settings: Settings) -> list[int]:
    return [found.version for found in MLflowService(settings).list_versions(NAME)]


def test_one_machine_that_has_lost_everything_answers_the_same_from_its_backup(
    running: Running, new_port: Callable[[], int]
) -> None:
    port = new_port()
    settings = Settings(mlflow_tracking_uri=f"http://127.0.0.1:{port}", **QUICK)
    with forked_server(port, Path(".vigie").resolve()):
        train_and_promote(settings)
        with running(settings) as service:
            answer = answered(service, READINGS)
            # One more, that MLflow knows nothing of yet.
            train(settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"}))
            shell("Back up one machine")

    shutil.rmtree(".vigie")
    shell("Restore on one machine")

    with forked_server(port, Path(".vigie").resolve()), running(settings) as service:
        assert answered(service, READINGS[-1:]) == answer
        eventually(lambda: versions(settings) == [2, 1], at_most_s=90)


def test_on_postgresql_and_s3_an_empty_cache_and_a_lost_database_change_no_answer(
    postgresql: servers.PostgreSQL,
    s3: servers.S3,
    running: Running,
    new_port: Callable[[], int],
) -> None:
    port, bucket, history = new_port(), s3.new_bucket(), postgresql.new_database()
    # Of the same server, by the driver that MLflow works with.
    database = postgresql.new_database().replace("psycopg", "psycopg2")
    stores = {**s3.environment, "MLFLOW_DB": database, "ARTIFACTS": bucket}
    settings = Settings(
        mlflow_tracking_uri=f"http://127.0.0.1:{port}",
        history_url=history,
        **QUICK,
    )
    tools = {
        **stores,
        "VIGIE_HISTORY_URL": history,
        "PATH": f"{postgresql.programs}:{os.environ['PATH']}",
    }
    with mlflow_as_under("PostgreSQL and S3", port, stores):
        train_and_promote(settings)
        assert any(name.endswith("serving/card.json") for name in s3.files(bucket))
        with running(settings) as service:
            answer = answered(service, READINGS)
        shutil.rmtree(".vigie")
        with running(settings) as service:
            assert answered(service, READINGS[-1:]) == answer
            shell("Back up PostgreSQL and S3", tools)

    shutil.rmtree(".vigie")
    for url in (database, history):
        postgresql.empty(url)
    s3.empty(bucket)
    shell("Restore PostgreSQL and S3", tools)

    again = forked_server(port, Path("again").resolve(), database, bucket, s3.environment)
    with again, running(settings) as service:
        assert answered(service, READINGS[-1:]) == answer


ADMIN, VIGIE, READER = ((name, f"secret-of-{name}") for name in ("admin", "vigie", "reader"))


def test_behind_a_login_vigie_signs_in_and_says_what_to_do_where_it_cannot(
    postgresql: servers.PostgreSQL,
    s3: servers.S3,
    running: Running,
    new_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    port, bucket, history = new_port(), s3.new_bucket(), postgresql.new_database()
    # One database for all of it: MLflow's tables, its users, and the history.
    database = history.replace("psycopg", "psycopg2")
    address = f"http://127.0.0.1:{port}"
    example = "postgresql+psycopg2://mlflow:SECRET@db.example/mlflow"
    Path("auth.ini").write_text(code("Start MLflow with a login", "ini").replace(example, database))
    login = {
        "MLFLOW_AUTH_CONFIG_PATH": str(Path("auth.ini").resolve()),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret-of-the-server",
        "MLFLOW_DB": database,
        "ARTIFACTS": bucket,
    }
    for name, value in s3.environment.items():
        # Vigie writes to the bucket itself here.
        monkeypatch.setenv(name, value)

    def sign_in(user: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    settings = Settings(mlflow_tracking_uri=address, history_url=history, **QUICK)
    with mlflow_as_under("Start MLflow with a login", port, login):
        for user, password in (VIGIE, READER):
            made = httpx.post(
                f"{address}/api/2.0/mlflow/users/create",
                json={"username": user, "password": password},
                auth=ADMIN,
                trust_env=False,
            )
            assert made.is_success, made.text

        sign_in(VIGIE[0], "not-the-password")
        assert train(settings).is_trained
        follower = AnomalyDetectionService(settings)
        for _ in range(3):
            follower.refresh()
        [error] = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
        assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in error
        assert any("MLFLOW_TRACKING_PASSWORD" in check.remedy for check in examine(settings))

        sign_in(*VIGIE)
        MLflowService(settings).sync()
        MLflowService(settings).transition_model_stage(NAME, 1, "Production")
        assert any(name.endswith("serving/card.json") for name in s3.files(bucket))

        # Who only serves need only read.
        sign_in(*READER)
        with running(settings) as service:
            answer = answered(service, READINGS)
        shutil.rmtree(".vigie")
        with running(settings) as service:
            assert answered(service, READINGS[-1:]) == answer

        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            monkeypatch.delenv(name)
        by_address = settings.model_copy(
            update={"mlflow_tracking_uri": address.replace("//", "//{}:{}@".format(*VIGIE))}
        )
        train(by_address)
        assert versions(by_address) == [2, 1]
    assert not any(secret in caplog.text for secret in ("not-the-password", VIGIE[1]))
