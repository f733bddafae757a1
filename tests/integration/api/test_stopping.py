"""A stop signal: nothing that was answered is lost, and it is heeded at any moment."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from faults import eventually

from vigie import samples
from vigie.config import Settings
from vigie.history.address import history_url
from vigie.history.store import History
from vigie.local import Program, service
from vigie.main import create_app

API = "/api/v1/anomalies"
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
END = START + timedelta(days=30)
N_CLIENTS = 8
N_LARGE = 2500
"""Readings in a batch that takes longer to answer than the server to notice the signal."""


def reading(asset_id: str, number: int, row: np.ndarray) -> dict[str, Any]:
    return {
        "asset_id": asset_id,
        "features": dict(zip(samples.FEATURE_NAMES, row.tolist(), strict=True)),
        "timestamp": (START + timedelta(seconds=number)).isoformat(),
    }


@dataclass(eq=False)
class Sender(threading.Thread):
    """A client that sends readings of its asset, until the service takes no more."""

    asset_id: str
    port: int
    rows: np.ndarray
    answered: list[int] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    is_cut_off: bool = False

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            self._send(connection)

    def _send(self, connection: http.client.HTTPConnection) -> None:
        for number in range(1_000_000):
            body = json.dumps(reading(self.asset_id, number, self.rows[number % len(self.rows)]))
            try:
                connection.request(
                    "POST", f"{API}/detect", body, {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
            except OSError:
                return  # Refused, or closed before any answer: it is to be sent again.
            try:
                response.read()
            except http.client.HTTPException:
                self.is_cut_off = True
                return
            self.statuses.add(response.status)
            self.answered.append(number)


def test_every_reading_that_was_answered_before_a_stop_is_in_the_history(
    tmp_path: Path, new_port: Callable[[], int], healthy: np.ndarray, monkeypatch: Any
) -> None:
    settings = Settings(
        mlflow_enabled=False,
        state_dir=tmp_path / "state",
        port=new_port(),
        n_estimators=25,
        # Two cores may be busy with other tests.
        stop_patience_s=60,
    )
    for name, value in settings.variables(*Settings.model_fields).items():
        monkeypatch.setenv(name, value)
    programs: list[Program] = []
    large = [reading("large", number, healthy[number % 300]) for number in range(N_LARGE)]
    with (
        service(settings, programs.append) as address,
        httpx.Client(base_url=address, timeout=120, trust_env=False) as api,
    ):
        body = {"data": healthy.tolist(), "feature_names": list(samples.FEATURE_NAMES)}
        models = {"model_names": ["isolation_forest"]}
        assert api.post(f"{API}/train?wait=true", json=body | models).status_code == 200
        senders = [Sender(f"pump-{n}", settings.port, healthy) for n in range(N_CLIENTS)]
        for sender in senders:
            sender.start()
        answers: list[httpx.Response] = []
        slow = threading.Thread(
            target=lambda: answers.append(api.post(f"{API}/detect/batch", json=large))
        )
        slow.start()
        history, until = History(history_url(settings)), time.monotonic() + 60
        # Parts of it are stored, so it is being answered.
        while next(history.between("large", None, START, END), None) is None:
            assert time.monotonic() < until
        process = programs[0].process
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
        for thread in (*senders, slow):
            thread.join(30)
            assert not thread.is_alive()
    [answer] = answers
    assert answer.status_code == 200
    assert len(answer.json()) == N_LARGE
    stored = {
        asset: {one.measured for one in history.between(asset, None, START, END)}
        for asset in ("large", *(sender.asset_id for sender in senders))
    }
    history.close()
    assert len(stored["large"]) == N_LARGE
    for sender in senders:
        assert sender.answered, sender.asset_id
        assert sender.statuses == {200}
        assert not sender.is_cut_off
        assert {START + timedelta(seconds=n) for n in sender.answered} <= stored[sender.asset_id]


def test_a_service_that_is_told_to_stop_is_not_ready_any_more(untracked: Settings) -> None:
    app = create_app(untracked)

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            before = await client.get(f"{API}/health/ready")
            assert "is stopping" not in before.text
            signal.raise_signal(signal.SIGTERM)
            until = time.monotonic() + 30
            while "is stopping" not in (told := await client.get(f"{API}/health/ready")).text:
                assert time.monotonic() < until
                await asyncio.sleep(0)
            assert told.status_code == 503
            assert told.headers["retry-after"]
            assert (await client.get(f"{API}/health")).status_code == 200

    ours = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        asyncio.run(ask())
    finally:
        signal.signal(signal.SIGTERM, ours)


@pytest.mark.parametrize(
    ("moment", "kind"),
    [
        ("vigie.api.connections", signal.SIGTERM),
        ("numba", signal.SIGTERM),
        ("numba", signal.SIGINT),
    ],
)
def test_a_service_that_starts_ends_at_once_by_a_signal(
    moment: str, kind: signal.Signals, tmp_path: Path, new_port: Callable[[], int]
) -> None:
    settings = {
        "MLFLOW_ENABLED": "false",
        "VIGIE_STATE_DIR": str(tmp_path / "state"),
        "VIGIE_PORT": str(new_port()),
    }
    # It names each module that has been imported, so that moments can be awaited.
    command = [sys.executable, "-X", "importtime", "-P", "-m", "vigie.cli", "serve"]
    with subprocess.Popen(
        command, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        # Once it serves, it has passed the moment without a word of it.
        is_there = re.compile(rf"[|:] +{moment}\b|startup complete").search
        found = next(filter(is_there, lines), "")
        process.send_signal(kind)
        assert moment in found
        rest = process.stderr.read()
        assert process.wait(60) in (0, -kind)
    assert "startup complete" not in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize("durability", ["fast", "durable"])
def test_every_reading_that_was_answered_before_a_kill_is_in_the_history(
    tmp_path: Path,
    new_port: Callable[[], int],
    new_history: Callable[[], str],
    healthy: np.ndarray,
    durability: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(
        mlflow_enabled=False,
        state_dir=tmp_path / "state",
        port=new_port(),
        n_estimators=25,
        history_url=new_history(),
        history_durability=durability,
    )
    for name, value in settings.variables(*Settings.model_fields).items():
        monkeypatch.setenv(name, value)
    programs: list[Program] = []
    with (
        service(settings, programs.append) as address,
        httpx.Client(base_url=address, timeout=120, trust_env=False) as api,
    ):
        body = {"data": healthy.tolist(), "feature_names": list(samples.FEATURE_NAMES)}
        models = {"model_names": ["isolation_forest"]}
        assert api.post(f"{API}/train?wait=true", json=body | models).status_code == 200
        senders = [Sender(f"pump-{n}", settings.port, healthy) for n in range(N_CLIENTS)]
        for sender in senders:
            sender.start()
        eventually(lambda: all(len(sender.answered) > 20 for sender in senders))
        # In the midst of their readings, without a warning.
        programs[0].process.kill()
        programs[0].process.wait(30)
        for sender in senders:
            sender.join(30)
            assert not sender.is_alive()
    history = History(history_url(settings))
    for sender in senders:
        stored = {one.measured for one in history.between(sender.asset_id, None, START, END)}
        # The last one that was answered, too: the others are what was sent before it.
        assert {START + timedelta(seconds=n) for n in sender.answered} <= stored
        assert sender.statuses == {200}
    history.close()
