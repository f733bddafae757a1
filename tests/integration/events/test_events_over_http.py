"""Events over HTTP: lists, pages, CSV, one with its readings, by client and command line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import Api, asked
from one_machine import FAULTY, HEALTHY, ROW_MODELS, SENSORS, machine, readings
from problems import problem_in
from quick_training import CHEAP

from vigie.config import Settings
from vigie.main import create_app

API, DETECT = "/api/v1/events", "/api/v1/anomalies/detect/batch"


def as_json(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [request | {"timestamp": request["timestamp"].isoformat()} for request in requests]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service that has seen a fault on two of three pumps."""
    settings = Settings(**(CHEAP | {"state_dir": tmp_path_factory.mktemp("state")}))
    with asked(create_app(settings)) as api:
        service = api.app.state.service
        service.train_all_models(machine(500, seed=0), SENSORS, ROW_MODELS)
        for asset, rows in (("site/a", FAULTY), ("site/=b", FAULTY[:95]), ("site/c", HEALTHY)):
            answer = api.post(DETECT, json=as_json(readings(asset, rows)))
            assert answer.status_code == 200, answer.text
        yield api


def test_a_list_is_filtered_and_paged(api: Api) -> None:
    every = api.get(API).json()
    assert every["next"] is None
    assert {event["asset_id"] for event in every["events"]} == {"site/a", "site/=b"}
    [going_on] = api.get(API, params={"state": "open"}).json()["events"]
    assert (going_on["asset_id"], going_on["end"]) == ("site/=b", None)
    assert api.get(API, params={"asset_id": "site/c"}).json()["events"] == []

    found, cursor = [], None
    while True:
        page = api.get(API, params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        found += page["events"]
        if (cursor := page["next"]) is None:
            break
    assert found == every["events"]


def test_a_list_as_csv_has_the_same_and_runs_nothing_in_a_spreadsheet(api: Api) -> None:
    events = api.get(API, params={"limit": 1}).json()
    answer = api.get(API, params={"limit": 1}, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["x-next-cursor"] == events["next"]
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert row["id"] == events["events"][0]["id"]
    assert row["start"] == events["events"][0]["start"]
    assert row["n_readings"] == str(events["events"][0]["n_readings"])
    assert api.get(API, params={"format": "csv", "limit": 1}).text == answer.text


def test_an_event_comes_with_the_readings_around_it(api: Api) -> None:
    events = api.get(API, params={"kind": "alarm", "asset_id": "site/a"}).json()["events"]
    event = api.get(f"{API}/{events[0]['id']}").json()
    shown = event.pop("readings")
    assert event.pop("labels") == []
    assert event == events[0]
    times = [reading["timestamp"] for reading in shown]
    assert times == sorted(set(times))
    assert times[0] < event["began"]
    assert event["end"] < times[-1]
    inside = [r for r in shown if event["start"] <= r["timestamp"] <= event["end"]]
    assert len(inside) == event["n_readings"]
    assert {reading["state"] for reading in inside} == {"alarm"}
    assert sum(reading["is_anomaly"] for reading in inside) == event["n_anomalies"]
    peak = next(r for r in inside if r["timestamp"] == event["peak"]["at"])
    assert peak["values"][event["sensors"][0]["name"]] == event["sensors"][0]["value"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"state": "opne"}, "state"),
        ({"kind": "x"}, "kind"),
        ({"from": "yesterday"}, "from"),
        ({"to": "1767600000"}, "to"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"format": "xml"}, "format"),
        ({"asset": "site"}, "query"),
    ],
)
def test_a_wrong_parameter_is_named(params: dict[str, str], field: str, api: Api) -> None:
    assert problem_in(api.get(API, params=params), 422)["field"] == field


def test_an_unknown_event_and_a_service_without_history_say_so(api: Api) -> None:
    assert "event-not-found" in problem_in(api.get(f"{API}/nothing"), 404)["type"]
    settings = Settings(mlflow_enabled=False, history_enabled=False)
    with asked(create_app(settings), is_started=False) as other:
        for path in (API, f"{API}/nothing"):
            assert "VIGIE_HISTORY_ENABLED" in problem_in(other.get(path), 409)["remedy"]
