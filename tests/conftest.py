"""Real parts for tests: MLflow, PostgreSQL, an S3 store, and the service under uvicorn."""

from __future__ import annotations

import gc
import os

from vigie import garbage

garbage.search_rarely()

# The tests of all workers share the cores. Threads of a library that wait for each other would spin
# while those of others work: in the processes that tests start too. Read when NumPy is imported.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import servers

# Tests say what they want; whatever the shell around them has set must not decide.
for _name in [name for name in os.environ if name.startswith(("MLFLOW_", "VIGIE_"))]:
    if _name != "VIGIE_DATA":
        del os.environ[_name]
# MLflow's client looks for them before each request, through all folders of sys.path.
for _name in ("IPython", "dbruntime", "pyspark"):
    sys.modules.setdefault(_name, None)
os.environ["MATPLOTLIBRC"] = str(Path(__file__).parent / "helpers/matplotlibrc")

from faults import Failing
from http_servers import listening
from mlflow_servers import mlflow_server

from vigie import samples
from vigie.config import Settings
from vigie.local import service
from vigie.services.mlflow_service import MLflowService


def pytest_collection_finish() -> None:
    """Let no search for garbage go through all that has been imported."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Search for garbage once at the end, not several times."""
    gc.collect()
    gc.freeze()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep `.env` and `.vigie` of the checkout out of tests, and what tests write out of it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on SQLite, one for all tests."""
    with mlflow_server(free_port(), tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture(scope="session")
def new_state(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make folders of state that share traced networks: to trace one takes seconds."""
    of_all_workers = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_all_workers = of_all_workers.parent
    networks = of_all_workers / "networks"
    networks.mkdir(exist_ok=True)

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "networks").symlink_to(networks)
        return folder

    return make


@pytest.fixture
def tracked(
    mlflow_uri: str,
    new_state: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Settings:
    """Settings of a process with an MLflow server: an experiment of its own, no models yet.

    They stand in the environment too, so that ``IsolationForestService()`` finds them.
    """
    experiment = f"{request.module.__name__}-{request.node.name}"[-100:]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    monkeypatch.setenv("MLFLOW_ENABLED", "true")
    monkeypatch.setenv("VIGIE_STATE_DIR", str(new_state(tmp_path / "state")))
    # Drawing takes longer than the rest of a training; tests of figures ask for them.
    monkeypatch.setenv("VIGIE_FIGURES", "false")
    # On a busy machine a slow answer is no outage.
    monkeypatch.setenv("VIGIE_TRACKING_PATIENCE_S", "60")
    settings = Settings()
    client = MLflowService(settings).server.client
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return settings


@pytest.fixture
def untracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a process without MLflow, in the environment too."""
    monkeypatch.setenv("MLFLOW_ENABLED", "false")
    monkeypatch.setenv("VIGIE_STATE_DIR", str(tmp_path / "state"))
    return Settings()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.PostgreSQL]:
    """A PostgreSQL server, one for all tests."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3]:
    """An S3 store, one for all tests."""
    with servers.s3(free_port(), tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def new_history(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Return URLs of new, empty databases, in each of the two kinds."""
    if request.param == "postgresql":
        server: servers.PostgreSQL = request.getfixturevalue("postgresql")
        return server.new_database
    numbers = count()
    return lambda: f"sqlite:///{tmp_path / f'new-{next(numbers)}.db'}"


@pytest.fixture(scope="session")
def new_port() -> Callable[[], int]:
    """Name a port that nothing listens on, a new one each time."""
    return free_port


@pytest.fixture
def failing() -> Iterator[Callable[[str, int, str], Failing]]:
    """Start a server that fails."""
    with ExitStack() as stack:

        def start(upstream: str, after: int, how: str) -> Failing:
            server = stack.enter_context(listening(Failing(upstream, after, how)))
            stack.callback(server.released.set)
            return server

        yield start


@pytest.fixture
def asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.fixture(scope="session")
def running() -> Callable[[Settings], AbstractContextManager[httpx.Client]]:
    """Run the service as a process, by ``vigie serve``, as long as a block lasts."""

    @contextmanager
    def run(settings: Settings) -> Iterator[httpx.Client]:
        settings = settings.model_copy(update={"port": free_port(), "registry_poll_s": 0.5})
        with ExitStack() as stack:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in settings.variables(*Settings.model_fields).items():
                    patch.setenv(name, value)
                address = stack.enter_context(service(settings))
            yield stack.enter_context(
                httpx.Client(base_url=f"{address}/api/v1/anomalies", timeout=120, trust_env=False)
            )

    return run


@pytest.fixture(scope="session")
def healthy() -> np.ndarray:
    """Healthy rows of the simulated bench, shape (300, 8)."""
    return samples.healthy(300).data


@pytest.fixture(scope="session")
def names() -> list[str]:
    """The bench's sensors."""
    return list(samples.FEATURE_NAMES)


@pytest.fixture
def fault() -> samples.Recording:
    """A bearing that wears, on the same bench."""
    return samples.faulty("bearing_wear", 400, onset=200)
