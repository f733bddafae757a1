"""``vigie.client`` with a real service: each case by ``Client`` and by ``AsyncClient``."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx
import numpy as np
import pandas as pd
import pytest
from http_servers import listening

from vigie import samples
from vigie.client import AsyncClient, Client
from vigie.config import Settings
from vigie.errors import (
    ConflictError,
    InvalidDataError,
    JobNotFoundError,
    KeyRefusedError,
    NotTrainedError,
    ServiceError,
    ServiceUnavailableError,
    VigieError,
)
from vigie.history.keys import KeyStore
from vigie.keys import Scope, new_key
from vigie.models.anomaly_data import AnomalyDetectionRequest
from vigie.models.jobs import JobState
from vigie.models.training import HistoryRange

NAMES = list(samples.FEATURE_NAMES)
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
FOREST = {
    "model_names": ["isolation_forest"],
    "parameters": {"isolation_forest": {"n_estimators": 20}},
}
ENDLESS = {
    "model_names": ["lstm_autoencoder"],
    "parameters": {"lstm_autoencoder": {"epochs": 1_000_000, "learning_rate": 1e-9}},
}
Connect = Callable[..., Any]


class Awaiting:
    """An ``AsyncClient`` whose methods are called as those of ``Client``."""

    def __init__(self, portal: Any, client: AsyncClient):
        self._portal, self._client = portal, client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def called(*positional: Any, **named: Any) -> Any:
            if inspect.isasyncgenfunction(method):
                return [item async for item in method(*positional, **named)]
            return await method(*positional, **named)

        return lambda *positional, **named: self._portal.call(lambda: called(*positional, **named))


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make a client of one of the two kinds."""
    made: list[Any] = []
    with anyio.from_thread.start_blocking_portal() as portal:

        def make(address: str, **how: Any) -> Any:
            if request.param == "sync":
                made.append(Client(address, **how))
            else:
                made.append(Awaiting(portal, AsyncClient(address, **how)))
            return made[-1]

        yield make
        for client in made:
            client.close() if request.param == "sync" else client.aclose()


@dataclass(frozen=True)
class Service:
    """A running service that demands keys: its address, and a key of each scope."""

    address: str
    keys: dict[str, str]


@pytest.fixture(scope="module")
def service(
    running: Callable[[Settings], AbstractContextManager[httpx.Client]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """It has no models yet."""
    folder = tmp_path_factory.mktemp("state")
    settings = Settings(mlflow_enabled=False, state_dir=folder, auth="on", n_estimators=20)
    keys, store = {}, KeyStore(settings)
    for scope in Scope:
        key, keys[scope.value] = new_key(scope.value, [scope])
        store.add(key)
    store.close()
    with running(settings) as http:
        yield Service(str(http.base_url.join("/")), keys)


@pytest.fixture
def client(service: Service, connect: Connect) -> Any:
    return connect(service.address, key=service.keys["admin"])


@pytest.fixture(scope="module")
def trained(service: Service) -> Service:
    """The service with a model."""
    with Client(service.address, key=service.keys["train"]) as client:
        client.train(samples.healthy(300).data, feature_names=NAMES, **FOREST)
    return service


def table(n_rows: int) -> pd.DataFrame:
    index = pd.date_range(START, periods=n_rows, freq="s")
    return pd.DataFrame(samples.healthy(n_rows).data, columns=NAMES, index=index)


def reading(asset_id: str, row: Any, second: int) -> dict[str, Any]:
    time = START + timedelta(seconds=second)
    return {"asset_id": asset_id, "features": dict(zip(NAMES, row, strict=True)), "timestamp": time}


def test_a_service_without_a_model_says_what_to_do(client: Any, healthy: np.ndarray) -> None:
    assert not client.ready()
    assert not client.status().ready
    with pytest.raises(NotTrainedError) as refused:
        client.detect(reading("pump", healthy[0], 0))
    assert "vigie train" in str(refused.value.remedy)


@pytest.mark.usefixtures("trained")
def test_readings_are_judged_alike_in_whatever_form_they_come(
    client: Any, healthy: np.ndarray
) -> None:
    rows = table(12)
    asset = str(id(client))
    alone = [
        client.detect(reading(f"{asset}-1", row, second))
        for second, row in enumerate(rows.to_numpy())
    ]
    requests = [
        AnomalyDetectionRequest(**reading(f"{asset}-2", row, second))
        for second, row in enumerate(rows.to_numpy().tolist())
    ]
    with_column = rows.reset_index(names="when").assign(flow_rate=rows["flow_rate"].to_numpy())
    batches = [
        client.detect_batch(requests),
        client.detect_batch(rows, asset_id=f"{asset}-3", sensor_id="bench"),
        client.detect_batch(with_column, asset_id=f"{asset}-4", time="when"),
    ]
    for results in batches:
        assert [one.timestamp for one in results] == [one.timestamp for one in alone]
        assert [one.final_score for one in results] == [one.final_score for one in alone]
        assert results[-1].asset.evidence == alone[-1].asset.evidence
    assert batches[1][0].sensor_id == "bench"
    columns = client.detect_columns(rows, asset_id=f"{asset}-5")
    assert columns.timestamps == [one.timestamp for one in alone]
    assert columns.final_score == [one.final_score for one in alone]
    assert columns.evidence == [one.asset.evidence for one in alone]
    with pytest.raises(InvalidDataError, match=f"{NAMES[1]} has 1 values"):
        client.detect_columns(
            {"asset_id": "pump", "features": {NAMES[0]: [1.0, 2.0], NAMES[1]: [1.0]}}
        )
    # Single precision, and a missing value.
    [odd] = client.detect_batch([reading(asset, np.float32(healthy[0]), 0)])
    assert odd.final_score == pytest.approx(alone[0].final_score, abs=0.1)
    rows.iloc[3, 0] = np.nan
    with pytest.raises(InvalidDataError, match=NAMES[0]):
        client.detect_batch(rows, asset_id="pump")


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("sent", "how", "field", "told"),
    [
        ([{"asset_id": "pump"}], {}, "features", "missing"),
        ([{"asset_id": "pump", "features": {"rms": 1.0}}], {}, "features", "of another machine"),
        (table(3), {}, "asset_id", "which machine"),
        (table(3), {"asset_id": "pump", "time": "when"}, "time", "vibration_rms"),
        (table(3).assign(product="flour"), {"asset_id": "pump"}, "product", "not numbers"),
    ],
)
def test_a_reading_that_cannot_be_used_is_refused_with_its_field(
    client: Any, sent: Any, how: Any, field: str, told: str
) -> None:
    with pytest.raises(InvalidDataError, match=f"(?s){told}") as refused:
        client.detect_batch(sent, **how)
    assert str(refused.value.field).startswith(field)
    assert refused.value.remedy


def test_a_training_takes_tables_and_files_and_refuses_what_cannot_be_learnt(
    client: Any, tmp_path: Path
) -> None:
    rows = table(300)
    product = ["flour", "sugar"] * 150
    # The newest first: it is the times that count.
    of_table = client.train(
        rows.assign(product=product).iloc[::-1], context_features=["product"], **FOREST
    )
    assert of_table.state is JobState.SUCCEEDED
    assert of_table.data.feature_names == [*NAMES, "product"]
    assert client.status().models["isolation_forest"].context_features == ["product"]

    file = tmp_path / "pump.csv"
    rows.to_csv(file, sep=";", decimal=",", index_label="time")
    assert client.inspect(file, {"decimal": "comma"})["name"] == "pump.csv"
    how = {"decimal": "comma", "exclude": ["flow_rate"]}
    of_file = client.train(str(file), options=how, wait=False, **FOREST)
    assert of_file.data.filename == "pump.csv"
    assert set(of_file.data.feature_names) == {*NAMES} - {"flow_rate"}

    with pytest.raises(VigieError, match="nobody"):
        client.train(HistoryRange(asset_id="nobody", start="1d"))
    rows.iloc[0, 0] = np.nan
    with pytest.raises(InvalidDataError, match=f"{NAMES[0]}: 1 of 300 values are missing"):
        client.train(rows)
    with pytest.raises(InvalidDataError, match="missing or infinite"):
        client.train(rows.to_numpy().tolist())


def test_a_job_is_followed_listed_and_cancelled(client: Any, healthy: np.ndarray) -> None:
    job = client.train(healthy, feature_names=NAMES, wait=False, **FOREST)
    states = [known.state for known in client.follow_job(job)]
    assert states[-1] is JobState.SUCCEEDED
    assert [state.has_ended for state in states[:-1]] == [False] * (len(states) - 1)
    assert client.get_job(job.id).models["isolation_forest"].status == "trained"
    assert client.list_jobs("succeeded", limit=1)[0].id == job.id

    endless = client.train(healthy, feature_names=NAMES, wait=False, **ENDLESS)
    client.cancel_job(endless)
    *_, last = client.follow_job(endless)
    assert last.state is JobState.CANCELLED
    with pytest.raises(ConflictError):
        client.cancel_job(endless.id)
    for unknown in ("nothing", "../anomalies/status", "a/b?c"):
        with pytest.raises((JobNotFoundError, ServiceError)):
            client.get_job(unknown)


def test_who_may_not_do_something_learns_which_key_does(
    service: Service, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyRefusedError, match="--scope read"):
        connect(service.address).status()
    with pytest.raises(KeyRefusedError, match="--scope detect"):
        connect(service.address, key=service.keys["read"]).inspect(__file__)
    monkeypatch.setenv("VIGIE_API_KEY", service.keys["read"])
    assert connect(f"{service.address}/api/v1/").list_jobs() is not None


def test_a_service_that_is_away_or_is_another_program_is_named_without_its_password(
    service: Service, connect: Connect, new_port: Callable[[], int]
) -> None:
    with pytest.raises(ServiceUnavailableError) as away:
        connect(f"http://me:secret@127.0.0.1:{new_port()}", retries=0).status()
    assert "cannot be reached" in str(away.value)
    assert "secret" not in str(away.value)
    with pytest.raises(ServiceError) as nowhere:
        connect(f"{service.address}nowhere", key=service.keys["admin"]).status()
    assert nowhere.value.status == 404
    with pytest.raises(InvalidDataError, match="http://localhost:8084"):
        connect("localhost:8084")


class Unreliable(ThreadingHTTPServer):
    """Stands before a service: what becomes of each request, and which ones it has passed on.

    '429' and '503' refuse it with ``Retry-After: 0``, '500' without; 'lost' passes it on and tells
    nobody of the answer.
    """

    daemon_threads = True

    def __init__(self, upstream: str, *fates: str):
        super().__init__(("127.0.0.1", 0), _Fate)
        self.upstream, self.fates = upstream.rstrip("/"), list(fates)
        self.passed_on: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class _Fate(BaseHTTPRequestHandler):
    server: Unreliable

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fate = self.server.fates.pop(0) if self.server.fates else "passed"
        status, content = int(fate) if fate.isdigit() else 0, b""
        if not status:
            self.server.passed_on.append(f"{self.command} {self.path}")
            sent = {
                name: self.headers[name]
                for name in ("Authorization", "Content-Type")
                if name in self.headers
            }
            answer = httpx.request(
                self.command,
                self.server.upstream + self.path,
                content=body,
                headers=sent,
                trust_env=False,
            )
            status, content = answer.status_code, answer.content
        self.close_connection = True
        if fate == "lost":
            return
        self.send_response(status)
        if fate in ("429", "503"):
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def unreliable(service: Service, *fates: str) -> Iterator[Unreliable]:
    with listening(Unreliable(service.address, *fates)) as server:
        yield server


TIMED, UNTIMED = {"timestamp": START}, dict[str, Any]()


@pytest.mark.parametrize(
    ("fates", "more", "n_sent"),
    [
        # A refusal has changed nothing; one that comes from a proxy may have.
        (["429", "429"], UNTIMED, 1),
        (["503"], TIMED, 1),
        (["503"], UNTIMED, None),
        (["500"], TIMED, None),
        # Twice the same reading of the same time is one reading.
        (["lost"], TIMED, 2),
        (["lost"], UNTIMED, None),
        (["429"] * 3, TIMED, None),
    ],
)
def test_a_reading_is_sent_again_only_if_it_cannot_count_twice(
    trained: Service,
    connect: Connect,
    healthy: np.ndarray,
    fates: list[str],
    more: dict[str, Any],
    n_sent: int | None,
) -> None:
    one = {"asset_id": "pump", "features": dict(zip(NAMES, healthy[0], strict=True)), **more}
    with unreliable(trained, *fates) as server:
        client = connect(server.address, key=trained.keys["detect"])
        for detect in (client.detect, lambda reading: client.detect_batch([reading])[0]):
            server.fates, server.passed_on = list(fates), []
            if n_sent is None:
                with pytest.raises(ServiceError):
                    detect(one)
                assert len(server.passed_on) <= 1
            else:
                assert detect(one).asset_id == "pump"
                assert len(server.passed_on) == n_sent


def test_a_training_is_not_started_twice_and_what_only_reads_is_asked_again(
    trained: Service, connect: Connect, healthy: np.ndarray
) -> None:
    with unreliable(trained, "lost", "503") as server:
        client = connect(server.address, key=trained.keys["train"])
        assert client.status().ready
        assert len(server.passed_on) == 2
        server.fates = ["lost"]
        with pytest.raises(ServiceUnavailableError):
            client.train(healthy, feature_names=NAMES, **FOREST)
        assert server.passed_on[2:] == ["POST /api/v1/anomalies/train"]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "address", ["vigie:8084", "http://", "http://[::1", "http://vigie:99999", "", None, 8084]
)
def test_what_is_no_address_is_refused(kind: Any, address: Any) -> None:
    with pytest.raises(InvalidDataError, match="is not the address of a service") as refused:
        kind(address)
    assert refused.value.field == "address"


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters.values())
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("__") and name not in ("close", "aclose")
        }

    assert methods(Client) == methods(AsyncClient)


def test_the_client_needs_no_library_of_the_service() -> None:
    code = "import sys, vigie.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "vigie.client" in loaded
    assert not loaded & {"numpy", "pandas", "torch", "mlflow", "fastapi", "sqlalchemy", "pyarrow"}
