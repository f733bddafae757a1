"""``GET /api/v1/anomalies/``: what was answered is read back over HTTP, from Python, in a shell."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pyarrow as pa
import pytest
from pyarrow import parquet

from vigie import samples
from vigie.client import AsyncClient, Client
from vigie.config import Settings
from vigie.errors import InvalidDataError

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
N = 120


@dataclass(frozen=True)
class Answered:
    """A service, its settings, and what it has answered to the readings of an asset."""

    http: httpx.Client
    folder: Path
    asset_id: str
    results: list[dict[str, Any]]
    sent: list[dict[str, Any]]

    @property
    def address(self) -> str:
        return str(self.http.base_url.join("/"))

    def get(self, **params: Any) -> httpx.Response:
        return self.http.get("/", params=params)


@pytest.fixture(scope="module")
def answered(
    running: Callable[[Settings], AbstractContextManager[httpx.Client]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Answered]:
    folder = tmp_path_factory.mktemp("state")
    settings = Settings(mlflow_enabled=False, state_dir=folder, n_estimators=20)
    bench = samples.faulty("bearing_wear", N, onset=20)
    names, asset_id = bench.feature_names, "=site/line/pump-1"
    readings = [
        {
            "asset_id": asset_id,
            "features": dict(zip(names[1:], row[1:], strict=True)),
            "context": {names[0]: row[0], "shift": "night"},
            "timestamp": (START + timedelta(seconds=second)).isoformat(),
        }
        for second, row in enumerate(bench.data.tolist())
    ]
    with running(settings) as http:
        rows = {"data": samples.healthy(300).data.tolist(), "feature_names": list(names)}
        rows["context_features"] = [names[0]]
        rows["model_names"] = ["isolation_forest", "one_class_svm"]
        http.post("/train", json=rows, params={"wait": True}).raise_for_status()
        results = http.post("/detect/batch", json=readings).raise_for_status().json()
        yield Answered(http, folder, asset_id, results, readings)


def test_what_was_answered_is_read_back(answered: Answered) -> None:
    page = answered.get(limit=1000).json()
    assert page["next"] is None
    stored = page["readings"][::-1]
    assert len(stored) == N
    for one, result, sent in zip(stored, answered.results, answered.sent, strict=True):
        for name in ("asset_id", "sensor_id", "timestamp", "final_score", "is_anomaly"):
            assert one[name] == result[name]
        assert one["criticality"] == result["criticality"]
        assert one["models"] == {n: model["version"] for n, model in result["models"].items()}
        for name in ("state", "since", "began"):
            assert one[name] == result["asset"][name]
        # Bit by bit: JSON has the shortest text of each float.
        assert one["features"] == sent["features"]
        assert one["context"] == sent["context"]
    assert {one["state"] for one in stored} >= {"unknown", "normal"}
    assert any(one["criticality"] for one in stored)


def test_pages_are_linked(answered: Answered) -> None:
    response = answered.get(limit=50, criticality=["low", "critical"], order="oldest")
    times, n_pages = [], 0
    while True:
        times += [one["timestamp"] for one in response.json()["readings"]]
        n_pages += 1
        if "next" not in response.links:
            break
        link = response.links["next"]["url"]
        assert link.startswith("/api/v1/anomalies/?")
        response = answered.http.get(httpx.URL(answered.address).join(link))
    expected = [r for r in answered.results if r["criticality"] in ("low", "critical")]
    assert times == [one["timestamp"] for one in expected]
    assert n_pages == max(1, -(-len(expected) // 50))
    pages = [answered.get(limit=50, offset=offset).json() for offset in (0, 50, 100)]
    assert [len(page["readings"]) for page in pages] == [50, 50, 20]


def test_files_hold_what_json_holds(answered: Answered) -> None:
    stored = answered.get(limit=1000, order="oldest").json()["readings"]

    response = answered.http.get("/", params={"order": "oldest"}, headers={"Accept": "text/csv"})
    assert response.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(response.text)))
    assert len(lines) == N
    # A spreadsheet must not run the name of an asset.
    assert lines[0]["asset_id"] == "'=site/line/pump-1"
    parquet_file = answered.get(format="parquet", order="oldest").content
    arrow = answered.get(format="arrow", order="oldest").content
    tables = [parquet.read_table(io.BytesIO(parquet_file)), pa.ipc.open_stream(arrow).read_all()]
    for line, *rows, one in zip(
        lines, *(table.to_pylist() for table in tables), stored, strict=True
    ):
        for part in ("features", "context", "models"):
            for name, value in one[part].items():
                assert all(row[f"{part}.{name}"] == value for row in rows)
                assert line[f"{part}.{name}"] == ("" if value is None else str(value))
        assert all(row["final_score"] == one["final_score"] for row in rows)
        assert line["timestamp"] == one["timestamp"]
        assert datetime.fromisoformat(one["timestamp"]) == rows[0]["timestamp"]
        assert line["is_anomaly"] == str(one["is_anomaly"]).lower()


def test_a_picture_has_few_readings(answered: Answered) -> None:
    page = answered.get(asset_id=answered.asset_id, points=50).json()
    assert page["thinned_from"] == N
    assert len(page["readings"]) <= 50
    worst = max(result["final_score"] for result in answered.results)
    assert worst in [one["final_score"] for one in page["readings"]]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 20_000}, "limit"),
        ({"offset": -1}, "offset"),
        ({"criticality": "severe"}, "criticality[0]"),
        ({"start_date": "yesterday"}, "start_date"),
        ({"start_date": "1h", "end_date": "2h"}, "end_date"),
        ({"cursor": "none"}, "cursor"),
        ({"is_anomaly": "perhaps"}, "is_anomaly"),
        ({"format": "xml"}, "format"),
        ({"asset": "pump"}, "asset"),
        ({"points": 100, "limit": 5}, "points"),
        ({"cursor": "x", "offset": 5}, "offset"),
        ({"criticality": "low", "is_anomaly": False}, "criticality"),
        ({"asset_id": "a\x00b"}, "asset_id"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_field(
    answered: Answered, params: dict[str, Any], field: str
) -> None:
    response = answered.get(**params)
    assert response.status_code == 422, response.text
    problem = response.json()
    assert problem["remedy"]
    assert problem.get("field", "") == field


def test_clients_read_page_by_page(answered: Answered) -> None:
    asked = {"start_date": START + timedelta(seconds=10), "is_anomaly": True, "limit": 7}
    expected = [
        datetime.fromisoformat(one["timestamp"])
        for one in answered.results[:9:-1]
        if one["is_anomaly"]
    ]
    with Client(answered.address) as client:
        assert [one.timestamp for one in client.readings(answered.asset_id, **asked)] == expected
        page = client.list_readings(points=50)
        assert page.thinned_from == N
        with pytest.raises(InvalidDataError) as refused:
            client.list_readings(criticality=["severe"])
        assert refused.value.field == "criticality[0]"

    async def read() -> list[datetime]:
        async with AsyncClient(answered.address) as client:
            found = [one.timestamp async for one in client.readings("=site/line/", **asked)]
            assert len((await client.list_readings(limit=3)).readings) == 3
            return found

    assert anyio.run(read) == expected


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_shell_reads_the_database_or_asks_the_service(
    answered: Answered, is_asked: bool, tmp_path: Path
) -> None:
    where = ["--server", answered.address] if is_asked else []

    def vigie(*options: str) -> str:
        command = [sys.executable, "-m", "vigie.cli", "history", "list", *where, *options]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "VIGIE_STATE_DIR": str(answered.folder), "COLUMNS": "120"},
        ).stdout

    read = json.loads(vigie("--json", "--limit", "5", "--asset", answered.asset_id))
    expected = answered.get(limit=5).json()
    assert read["readings"] == expected["readings"]
    lines = vigie("--csv", "--anomalies").splitlines()
    assert len(lines) == 1 + sum(result["is_anomaly"] for result in answered.results)
    assert "2026-01-05 08:01:59" in vigie("--limit", "1")
    vigie("--parquet", str(tmp_path / "history.parquet"), "--points", "50")
    assert 0 < parquet.read_table(tmp_path / "history.parquet").num_rows <= 50


def test_a_service_without_a_history_says_so(
    untracked: Settings, running: Callable[..., Any]
) -> None:
    with running(untracked.model_copy(update={"history_enabled": False})) as http:
        response = http.get("/")
        assert response.status_code == 409
        assert "VIGIE_HISTORY_ENABLED=true" in response.json()["remedy"]
