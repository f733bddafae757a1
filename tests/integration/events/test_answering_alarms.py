"""Answering alarms from outside: over HTTP with keys, by the client, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from in_process import Api, asked
from one_machine import FAULTY, HEALTHY, ROW_MODELS, SENSORS, machine, readings
from problems import problem_in
from quick_training import CHEAP
from typer.testing import CliRunner

from vigie import cli
from vigie.client import Client
from vigie.config import Settings
from vigie.history.keys import KeyStore
from vigie.keys import Scope, new_key
from vigie.main import create_app

ALARMS, ASSETS = "/api/v1/alarms", "/api/v1/assets"
DETECT = "/api/v1/anomalies/detect/batch"


def as_json(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [request | {"timestamp": request["timestamp"].isoformat()} for request in requests]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    state = tmp_path_factory.mktemp("state")
    return Settings(**(CHEAP | {"state_dir": state, "auth": "on"}))


@pytest.fixture(scope="module")
def keys(settings: Settings) -> dict[Scope, dict[str, str]]:
    store, found = KeyStore(settings), {}
    for scope in Scope:
        key, text = new_key(f"{scope} key", [scope])
        store.add(key)
        found[scope] = {"Authorization": f"Bearer {text}"}
    store.close()
    return found


@pytest.fixture(scope="module")
def api(settings: Settings, keys: dict[Scope, dict[str, str]]) -> Iterator[Api]:
    """A service that demands keys, and has seen faults on two pumps."""
    with asked(create_app(settings)) as api:
        service = api.app.state.service
        service.train_all_models(machine(500, seed=0), SENSORS, ROW_MODELS)
        for asset, rows in (("site/a", FAULTY[:95]), ("site/b", FAULTY[:95]), ("c d", HEALTHY)):
            body = as_json(readings(asset, rows))
            assert api.post(DETECT, json=body, headers=keys[Scope.DETECT]).status_code == 200
        yield api


def test_a_key_to_operate_answers_alarms_and_the_log_has_its_name(
    api: Api, keys: dict[Scope, dict[str, str]]
) -> None:
    ours = keys[Scope.OPERATE]
    asked_for = {"asset_id": "site/a", "kind": "alarm"}
    [alarm] = api.get(ALARMS, params=asked_for, headers=ours).json()["alarms"]
    path = f"{ALARMS}/{alarm['id']}"
    for scope in (Scope.READ, Scope.DETECT, Scope.TRAIN):
        problem_in(api.post(f"{path}/acknowledge", json={}, headers=keys[scope]), 403)

    known = api.post(f"{path}/acknowledge", json={"note": "Seen."}, headers=ours).json()
    assert (known["acknowledged_by"], known["note"]) == ("operate key", "Seen.")
    shelf = {"for_s": 600, "reason": "Part is ordered."}
    assert api.post(f"{path}/shelve", json=shelf, headers=ours).json()["silence"] == "shelved"
    assert api.post(f"{path}/unshelve", json={}, headers=ours).json()["silence"] is None
    log = api.get(path, headers=keys[Scope.READ]).json()["log"]
    assert [(entry["change"], entry["by"]) for entry in log] == [
        ("raised", "vigie"),
        ("acknowledged", "operate key"),
        ("shelved", "operate key"),
        ("unshelved", "operate key"),
    ]
    assert log[2]["note"].endswith("Part is ordered.")


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("acknowledge", {"notes": ""}, "notes"),
        ("shelve", {"for_s": 60}, "reason"),
        ("shelve", {"for_s": 0, "reason": "x"}, "for_s"),
        ("shelve", {"for_s": 1e7, "reason": "x"}, "for_s"),
        ("shelve", {"for_s": 60, "reason": ""}, "reason"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(
    what: str, body: Any, field: str, api: Api, keys: dict[Scope, dict[str, str]]
) -> None:
    [alarm] = api.get(
        ALARMS, params={"asset_id": "site/b", "kind": "alarm"}, headers=keys[Scope.READ]
    ).json()["alarms"]
    answer = api.post(f"{ALARMS}/{alarm['id']}/{what}", json=body, headers=keys[Scope.OPERATE])
    assert problem_in(answer, 422)["field"] == field


def test_an_asset_is_taken_out_of_service_by_its_path(
    api: Api, keys: dict[Scope, dict[str, str]]
) -> None:
    ours = keys[Scope.OPERATE]
    for path, name in (("site/b", "site/b"), ("c%20d", "c d")):
        out = api.post(f"{ASSETS}/{path}/out-of-service", json={"reason": "Overhaul"}, headers=ours)
        assert out.json()["by"] == "operate key"
        [asset] = api.get(ASSETS, params={"asset_id": name}, headers=ours).json()["assets"]
        assert (asset["silence"], asset["silence_reason"]) == ("out_of_service", "Overhaul")
        back = api.request("DELETE", f"{ASSETS}/{path}/out-of-service", headers=ours)
        assert back.json()["out_of_service"] is False
        again = api.request("DELETE", f"{ASSETS}/{path}/out-of-service", headers=ours)
        problem_in(again, 409)
    nowhere = api.post(f"{ASSETS}/nowhere/out-of-service", json={"reason": "x"}, headers=ours)
    assert "asset-not-found" in problem_in(nowhere, 404)["type"]
    past = {"reason": "x", "until": "2020-01-01T00:00:00Z"}
    answer = api.post(f"{ASSETS}/site/out-of-service", json=past, headers=ours)
    assert problem_in(answer, 422)["field"] == "until"


def test_assets_are_paged_and_come_as_csv(api: Api, keys: dict[Scope, dict[str, str]]) -> None:
    ours, found, cursor = keys[Scope.READ], [], None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = api.get(ASSETS, params=params, headers=ours).json()
        found += [asset["asset_id"] for asset in page["assets"]]
        if (cursor := page["next"]) is None:
            break
    assert found == ["c d", "site/a", "site/b"]
    text = api.get(ASSETS, params={"format": "csv"}, headers=ours).text
    assert text.startswith("asset_id,sensor_id,state,")
    assert len(text.splitlines()) == 4
    for wrong in ("x", "bnVsbA==", "WyJhIiwgMV0=", "WyJcdTAwMDAiLCAiIl0="):
        answer = api.get(ASSETS, params={"cursor": wrong}, headers=ours)
        assert problem_in(answer, 422)["field"] == "cursor"


def test_the_load_and_its_time(api: Api, keys: dict[Scope, dict[str, str]]) -> None:
    ours = keys[Scope.READ]
    load = api.get(f"{ALARMS}/load", headers=ours).json()
    assert load["n_assets"] == 3
    assert {asset["asset_id"] for asset in load["assets"]} == {"site/a", "site/b"}
    below = api.get(f"{ALARMS}/load", params={"asset_id": "site/a"}, headers=ours).json()
    assert below["n_assets"] == 1
    backwards = {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    problem_in(api.get(f"{ALARMS}/load", params=backwards, headers=ours), 422)


def test_a_client_and_the_command_line_do_the_same(
    running: Callable[[Settings], AbstractContextManager[httpx.Client]],
    tmp_path: Any,
) -> None:
    from one_machine import trained

    service = trained(tmp_path / "state", ROW_MODELS)
    service.detect_anomalies_batch(readings("site/a", FAULTY[:95]))
    settings = service.settings
    service.close()
    run = CliRunner().invoke
    with running(settings) as http:
        address = str(http.base_url.copy_with(path=""))
        with Client(address) as client:
            [event] = client.list_events("site", kind="alarm").events
            assert client.get_event(event.id).readings
            assert client.list_events(until=event.start, state="closed").events == []
            [alarm] = client.list_alarms("site", kind="alarm", acknowledged=False).alarms
            assert alarm.event_id == event.id

            listed = run(cli.app, ["alarms", "list", "--server", address])
            assert listed.exit_code == 0, listed.output
            assert alarm.id[:8] in listed.output
            acked = run(
                cli.app, ["alarms", "ack", alarm.id[:8], "--note", "Seen.", "--server", address]
            )
            assert f"Alarm {alarm.id[:8]} (alarm) of site/a is acknowledged" in acked.output
            shelved = run(
                cli.app,
                [
                    *("alarms", "shelve", alarm.id, "--for", "8h"),
                    *("--reason", "Known.", "--server", address),
                ],
            )
            assert "is shelved until" in shelved.output
            known = client.get_alarm(alarm.id)
            assert (known.note, known.silence, known.silence_reason) == (
                "Seen.",
                "shelved",
                "Known.",
            )
            run(cli.app, ["alarms", "unshelve", alarm.id, "--server", address])
            assert client.get_alarm(alarm.id).silence is None
            events = run(cli.app, ["events", "list", "--asset", "site", "--server", address])
            assert "goes on" in events.output
            as_json = run(cli.app, ["alarms", "list", "--json", "--server", address])
            assert alarm.id in {found["id"] for found in json.loads(as_json.stdout)["alarms"]}

            assert client.take_out_of_service("site", "Overhaul").out_of_service
            assert client.list_assets("site").assets[0].silence == "out_of_service"
            assert not client.put_in_service("site").out_of_service
            assert client.shelve_alarm(alarm.id, 60, "Again.").silence == "shelved"
            assert client.unshelve_alarm(alarm.id).silence is None
            assert client.acknowledge_alarm(alarm.id).note == "Seen."
            assert client.alarm_load("site").alarms >= 1
        wrong = run(cli.app, ["alarms", "shelve", "x", "--for", "8", "--reason", "y"])
        assert "--for" in str(wrong.exception)
