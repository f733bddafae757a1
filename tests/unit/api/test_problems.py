"""What an answer says of a fault, and what it keeps to itself."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
from fastapi import FastAPI
from problems import problem_in

from vigie.config import Settings
from vigie.detectors.data.matrices import Table
from vigie.main import create_app
from vigie.tracking.recorder import Recorder
from vigie.training.train import train_each

PREFIX = "/api/v1/anomalies"


def ask(app: FastAPI, path: str) -> httpx.Response:
    """Return what an application answers that is not started, nor served by anything."""

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    return asyncio.run(asked())


def test_an_answer_says_nothing_of_the_server_behind_it(tmp_path, caplog):
    behind = "http://plant:secret@127.0.0.1:9"
    app = create_app(Settings(mlflow_tracking_uri=behind, state_dir=tmp_path))
    response = ask(app, f"{PREFIX}/metrics")
    assert "doctor" in problem_in(response, 502)["remedy"]
    assert "127.0.0.1" not in response.text
    assert "127.0.0.1:9" in caplog.text
    assert "secret" not in caplog.text + response.text


def test_a_fault_of_the_service_is_answered_by_a_number_that_stands_in_the_log(untracked, caplog):
    def bug() -> None:
        raise RuntimeError("/var/lib/vigie has no such thing")

    app = create_app(untracked)
    app.add_api_route("/bug", bug)
    response = ask(app, "/bug")
    found = response.json()
    assert (response.status_code, found["status"]) == (500, 500)
    assert found["incident"] in found["detail"]
    assert "such thing" not in response.text
    [record] = [record for record in caplog.records if found["incident"] in record.getMessage()]
    assert "such thing" in str(record.exc_info[1])


def test_a_training_that_fails_by_a_fault_of_the_service_says_no_more_than_its_number(
    untracked, caplog
):
    class Broken(Recorder):
        def prepare(self, flavor: str) -> None:
            raise RuntimeError("/var/lib/vigie has no such thing")

    table = Table(np.zeros((1, 1)), ("a",))
    [failed] = train_each(["one_class_svm"], table, untracked, Broken(untracked))
    assert "such thing" not in failed.error
    [record] = caplog.records
    assert failed.error.rstrip(".").rpartition(" ")[2] in record.getMessage()
