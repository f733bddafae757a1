"""Labels of events: what people say of them, over HTTP, by client and from the command line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from in_process import Api, asked
from one_machine import FAULTY, HEALTHY, QUICKEST, ROW_MODELS, SENSORS, machine, readings, trained
from problems import problem_in
from quick_training import CHEAP
from typer.testing import CliRunner

from vigie import cli
from vigie.client import AsyncClient, Client
from vigie.config import Settings
from vigie.history.events import EventFilter
from vigie.history.keys import KeyStore
from vigie.keys import Scope, new_key
from vigie.main import create_app
from vigie.models.events import EventKind, Label

API, DETECT = "/api/v1/events", "/api/v1/anomalies/detect/batch"
Keys = dict[Scope, dict[str, str]]


def as_json(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [request | {"timestamp": request["timestamp"].isoformat()} for request in requests]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    state = tmp_path_factory.mktemp("state")
    return Settings(**(CHEAP | {"state_dir": state, "auth": "on"}))


@pytest.fixture(scope="module")
def keys(settings: Settings) -> Keys:
    store, found = KeyStore(settings), {}
    for scope in Scope:
        key, text = new_key(f"{scope} key", [scope])
        store.add(key)
        found[scope] = {"Authorization": f"Bearer {text}"}
    store.close()
    return found


@pytest.fixture(scope="module")
def api(settings: Settings, keys: Keys) -> Iterator[Api]:
    """A service that demands keys, and has seen faults on four pumps."""
    with asked(create_app(settings)) as api:
        service = api.app.state.service
        service.train_all_models(machine(500, seed=0), SENSORS, ROW_MODELS)
        for asset in ("site/a", "site/b", "site/c", "site/d"):
            body = as_json(readings(asset, HEALTHY if asset == "site/d" else FAULTY))
            assert api.post(DETECT, json=body, headers=keys[Scope.DETECT]).status_code == 200
        yield api


def alarm_of(api: Api, keys: Keys, asset: str) -> str:
    """Return the id of the first alarm of an asset."""
    params = {"asset_id": asset, "kind": "alarm"}
    events = api.get(API, params=params, headers=keys[Scope.READ]).json()["events"]
    return str(events[-1]["id"])


def test_a_later_label_replaces_the_former_which_stays_in_the_log(api: Api, keys: Keys) -> None:
    ours, number = keys[Scope.OPERATE], alarm_of(api, keys, "site/a")
    path = f"{API}/{number}"
    before = api.get(path, headers=ours).json()
    assert (before["label"], before["labelled_at"], before["labels"]) == (None, None, [])

    first = {"label": "unclear", "note": "Nobody was there."}
    assert api.post(f"{path}/label", json=first, headers=ours).status_code == 200
    second = {"label": "true", "cause": "Bearing worn"}
    answer = api.post(f"{path}/label", json=second, headers=ours).json()

    assert (answer["label"], answer["cause"], answer["note"]) == ("true", "Bearing worn", None)
    assert answer["labelled_by"] == "operate key"
    assert [(one["label"], one["note"], one["by"]) for one in answer["labels"]] == [
        ("unclear", "Nobody was there.", "operate key"),
        ("true", None, "operate key"),
    ]
    assert answer["labels"][-1]["at"] == answer["labelled_at"]
    assert answer["labels"][0]["at"] < answer["labelled_at"]
    assert api.get(path, headers=ours).json() == answer
    # What was seen is as it was.
    seen = set(before) - {"label", "cause", "note", "labelled_at", "labelled_by", "labels"}
    assert {name: answer[name] for name in seen} == {name: before[name] for name in seen}


def test_lists_show_and_filter_labels(api: Api, keys: Keys) -> None:
    ours, number = keys[Scope.OPERATE], alarm_of(api, keys, "site/b")
    given = {"label": "false", "cause": "=cleaning", "note": "As every Monday."}
    api.post(f"{API}/{number}/label", json=given, headers=ours)

    def listed(**params: str) -> list[dict[str, Any]]:
        asked_for = {"asset_id": "site/b", **params}
        found: list[dict[str, Any]] = api.get(API, params=asked_for, headers=ours).json()["events"]
        return found

    [event] = listed(label="false")
    assert (event["id"], event["label"], event["note"]) == (number, "false", "As every Monday.")
    assert listed(label="unclear") == []
    others = [one for one in listed() if one["id"] != number]
    assert listed(label="none") == others
    answer = api.get(API, params={"label": "sure"}, headers=ours)
    assert problem_in(answer, 422)["field"] == "label"
    table = api.get(
        API, params={"asset_id": "site/b", "label": "false", "format": "csv"}, headers=ours
    )
    [row] = csv.DictReader(io.StringIO(table.text))
    assert (row["label"], row["labelled_by"]) == ("false", "operate key")
    # A spreadsheet does not run it.
    assert row["cause"] == "'=cleaning"


def test_only_who_operates_labels(api: Api, keys: Keys) -> None:
    path = f"{API}/{alarm_of(api, keys, 'site/c')}/label"
    for scope in (Scope.READ, Scope.DETECT, Scope.TRAIN):
        problem_in(api.post(path, json={"label": "true"}, headers=keys[scope]), 403)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "label"),
        ({"label": "maybe"}, "label"),
        ({"label": "true", "cause": ""}, "cause"),
        ({"label": "true", "cause": "x" * 201}, "cause"),
        ({"label": "true", "note": "x\0"}, "note"),
        ({"label": "true", "why": "x"}, "why"),
    ],
)
def test_a_label_that_cannot_be_used_is_refused(
    body: Any, field: str, api: Api, keys: Keys
) -> None:
    path = f"{API}/{alarm_of(api, keys, 'site/c')}"
    answer = api.post(f"{path}/label", json=body, headers=keys[Scope.OPERATE])
    assert problem_in(answer, 422)["field"] == field
    assert api.get(path, headers=keys[Scope.READ]).json()["labels"] == []


@pytest.mark.parametrize("number", ["nothing", "0" * 32])
def test_an_event_that_there_is_not_is_not_labelled(number: str, api: Api, keys: Keys) -> None:
    answer = api.post(f"{API}/{number}/label", json={"label": "true"}, headers=keys[Scope.OPERATE])
    assert "event-not-found" in problem_in(answer, 404)["type"]


def test_clients_and_the_command_line_do_the_same(
    running: Callable[[Settings], AbstractContextManager[httpx.Client]], tmp_path: Path
) -> None:
    service = trained(tmp_path / "state", ROW_MODELS)
    service.detect_anomalies_batch(readings("site/a", FAULTY))
    settings = service.settings
    service.close()
    run = CliRunner().invoke

    async def later(address: str, number: str) -> tuple[Any, Any]:
        async with AsyncClient(address) as client:
            known = await client.label_event(number, "true", note="It was the valve.")
            return known, await client.list_events(label="true")

    with running(settings) as http:
        address = str(http.base_url.copy_with(path=""))
        with Client(address) as client:
            number = client.list_events(kind="alarm").events[-1].id
            assert number is not None
            words = ["events", "label", number[:8], "false", "--cause", "cleaning", "--note", "x"]
            said = run(cli.app, [*words, "--server", address])
            assert said.exit_code == 0, said.output
            assert f"Event {number[:8]} (alarm) of site/a is labelled false by 127" in said.output
            known = client.get_event(number)
            assert (known.label, known.cause, known.note) == ("false", "cleaning", "x")
            assert [event.id for event in client.list_events(label="false").events] == [number]
            answer, found = asyncio.run(later(address, number))
            assert [one.label for one in answer.labels] == ["false", "true"]
            assert [event.id for event in found.events] == [number]
            assert client.label_event(number, "unclear").cause is None

        listed = run(cli.app, ["events", "list", "--label", "unclear", "--server", address])
        assert number[:8] in listed.output
        assert "labelled" in listed.output
        assert "unclear" in listed.output
        as_json = run(cli.app, ["events", "list", "--json", "--label", "none", "--server", address])
        assert number not in {event["id"] for event in json.loads(as_json.stdout)["events"]}
        wrong = run(cli.app, ["events", "label", number, "sure", "--server", address])
        assert wrong.exit_code != 0
        assert "label" in str(wrong.exception)
        unknown = run(cli.app, ["events", "label", "x", "true", "--server", address])
        assert "No event begins with 'x'" in str(unknown.exception)


def test_two_labels_at_once_leave_one_in_each_database(
    new_history: Callable[[], str], tmp_path: Path
) -> None:
    service = trained(tmp_path / "state", QUICKEST, history_url=new_history())
    service.detect_anomalies_batch(readings("pump", FAULTY))
    [*found], _ = service.events.newest(EventFilter(kind=EventKind.ALARM), 10)
    number = found[-1].id
    assert number is not None
    with ThreadPoolExecutor(4) as pool:
        given = [Label.TRUE, Label.FALSE, Label.UNCLEAR, Label.TRUE] * 5
        futures = [
            pool.submit(service.events.label, number, label, str(i), None, None)
            for i, label in enumerate(given)
        ]
        assert [future.result() for future in futures] == [None] * 20
    event, labels, _ = service.events.get(number)
    assert len(labels) == 20
    assert {label.cause for label in labels} == {str(i) for i in range(20)}
    last = labels[-1]
    assert (event.label, event.cause, event.labelled_at) == (last.label, last.cause, last.at)
    service.close()
