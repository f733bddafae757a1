"""Telling of alarms: by real receivers, at least once, in groups, and not of silent ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from faults import eventually
from one_machine import (
    FAULTY,
    HEALTHY,
    ROW_MODELS,
    SENSORS,
    machine,
    readings,
    saved_models,
    shifted,
)
from quick_training import CHEAP
from receivers import Receiver, mail_server, receiver

from vigie.alarm_rules import Apprise, Mail, Webhook
from vigie.alerts.delivery import deliver, signed
from vigie.alerts.message import trial
from vigie.client import Client
from vigie.config import Settings
from vigie.errors import AlertError, AlertNotFoundError
from vigie.history.alerts import AlertTable
from vigie.models.alarms import Alert, AlertState
from vigie.services import alert_sender
from vigie.services.anomaly_detection_service import AnomalyDetectionService

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
Started = Callable[..., AnomalyDetectionService]
NOW: dict[str, Any] = {"alert_group_s": 0.0, "alert_max_age_s": 1e9}
"""Alerts that wait for no others, of readings however old."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of the machine."""
    return saved_models(tmp_path_factory.mktemp("models"), (*ROW_MODELS, "vector_autoregression"))


@pytest.fixture
def started(models: Path, tmp_path: Path, new_history: Callable[[], str]) -> Iterator[Started]:
    """Start a service with these models on a history, which all of a test share."""
    services: list[AnomalyDetectionService] = []
    url = new_history()

    def start(**settings: Any) -> AnomalyDetectionService:
        known = CHEAP | {"state_dir": tmp_path, "history_url": url} | NOW | settings
        service = AnomalyDetectionService(Settings(**known))
        service.load_models(models)
        services.append(service)
        return service

    yield start
    for service in services:
        service.close()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other quickly."""
    monkeypatch.setattr(alert_sender, "FIRST_PAUSE_S", 0.1)


def by_webhook(hook: Receiver, **fields: Any) -> dict[str, Any]:
    return {"ops": {"kind": "webhook", "url": hook.url, **fields}}


def sent(service: AnomalyDetectionService, asset: str, rows: Any, first: int = 0) -> None:
    seconds = [float(first + n) for n in range(len(rows))]
    service.detect_anomalies_batch(readings(asset, rows, seconds))


def alerts(service: AnomalyDetectionService, state: AlertState | None = None) -> list[Alert]:
    return service.alarms.alerts(state, 1000)[0]


def told(hook: Receiver, kind: str = "alarm") -> list[str]:
    """Return what was told of alarms of a kind: the ends of the types of the events."""
    return [
        event["type"].removeprefix("io.vigie.alarm.")
        for event in hook.events
        if event["data"]["alarm"]["kind"] == kind
    ]


MILD = shifted(machine(200, seed=5), "flow", 3.0, slice(60, None))
"""A fault that raises an alarm before any reading is an anomaly by itself."""


def sends(service: AnomalyDetectionService, state: AlertState) -> bool:
    """Send what is due; return whether all alerts are in a state."""
    service._alerts.send_due("ops")
    return {alert.state for alert in alerts(service)} == {state}


ONLY_ALARMS = [{"kinds": ["alarm"]}]


def test_a_change_is_told_once_as_a_signed_event_and_a_reading_is_not(
    started: Started, hook: Receiver
) -> None:
    service = started(alert_channels=by_webhook(hook, secret=SECRET), alarms=ONLY_ALARMS)
    for request in readings("site/pump", FAULTY[:95]):
        service.detect_anomaly(request)
    service._alerts.send_due("ops")
    sent(service, "site/pump", HEALTHY, first=95)
    service._alerts.send_due("ops")

    assert told(hook) == ["raised", "cleared"]
    headers, body = hook.requests[0]
    assert headers["content-type"].startswith("application/cloudevents+json")
    number, at = headers["webhook-id"], headers["webhook-timestamp"]
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.new(key, f"{number}.{at}.".encode() + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()
    assert abs(time.time() - int(at)) < 60
    raised = hook.events[0]
    assert (raised["specversion"], raised["id"], raised["subject"]) == ("1.0", number, "site/pump")
    alarm = raised["data"]["alarm"]
    assert alarm["sensors"][0]["name"] == "flow"
    assert service.alarms.get(alarm["id"]).event_id == alarm["event_id"]
    assert {alert.state for alert in alerts(service)} == {AlertState.SENT}


def test_the_signature_is_that_of_the_specification() -> None:
    # The example of Standard Webhooks.
    secret, number, at = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
    )
    body = b'{"test": 2432232314}'
    assert signed(secret, number, at, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_that_is_down_is_told_when_it_is_up_again_under_the_same_id(
    started: Started, hook: Receiver, impatient: None
) -> None:
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS)
    hook.status = 500
    sent(service, "pump", FAULTY[:95])
    service._alerts.send_due("ops")
    [waiting] = alerts(service)
    assert waiting.state is AlertState.WAITING
    assert waiting.attempts >= 1
    assert "500" in (waiting.error or "")

    hook.status = 200
    eventually(
        lambda: service._alerts.send_due("ops") > 0 or bool(alerts(service, AlertState.SENT))
    )
    eventually(lambda: bool(alerts(service, AlertState.SENT)))
    assert len({event["id"] for event in hook.events}) == 1
    assert len(hook.events) >= 2


def test_one_that_is_not_there_is_told_once_it_is(
    started: Started, new_port: Callable[[], int], impatient: None
) -> None:
    port = new_port()
    url = f"http://127.0.0.1:{port}/alerts"
    service = started(
        alert_channels={"ops": {"kind": "webhook", "url": url, "timeout_s": 2}}, alarms=ONLY_ALARMS
    )
    sent(service, "pump", FAULTY[:95])
    service._alerts.start()
    eventually(lambda: alerts(service)[0].attempts > 0)
    with receiver(port) as hook:
        eventually(lambda: bool(hook.events))
        eventually(lambda: bool(alerts(service, AlertState.SENT)))
        assert told(hook) == ["raised"]


def test_what_a_receiver_never_takes_is_a_dead_letter_that_can_be_sent_again(
    started: Started, hook: Receiver, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_sender, "MOST_ATTEMPTS", 3)
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS)
    hook.status = 503
    sent(service, "pump", FAULTY[:95])
    eventually(lambda: sends(service, AlertState.DEAD))
    [dead] = alerts(service)
    assert (dead.state, dead.attempts) == (AlertState.DEAD, 3)
    assert len(hook.requests) == 3
    assert service.alarms.alert_counts() == {"dead": 1}

    hook.status = 200
    assert service.alarms.retry(dead.id).state is AlertState.WAITING
    service._alerts.send_due("ops")
    assert alerts(service)[0].state is AlertState.SENT
    with pytest.raises(AlertNotFoundError):
        service.alarms.retry(dead.id)


def test_a_receiver_that_is_gone_for_good_is_not_asked_again(
    started: Started, hook: Receiver
) -> None:
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS)
    hook.status = 410
    sent(service, "pump", FAULTY[:95])
    service._alerts.send_due("ops")
    assert [alert.state for alert in alerts(service)] == [AlertState.DEAD]


def test_a_receiver_that_asks_to_wait_is_waited_for(started: Started, hook: Receiver) -> None:
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS)
    hook.status, hook.headers = 429, {"Retry-After": "600"}
    sent(service, "pump", FAULTY[:95])
    service._alerts.send_due("ops")
    [alert] = alerts(service)
    assert alert.due is not None
    assert alert.due - alert.at > timedelta(seconds=500)


def test_many_at_once_are_one_message(started: Started, hook: Receiver) -> None:
    service = started(
        alert_channels=by_webhook(hook), alarms=ONLY_ALARMS, alert_group_s=0.5, alert_group_from=4
    )
    for number in range(10):
        sent(service, f"site/pump-{number}", FAULTY[:95])
    eventually(lambda: service._alerts.send_due("ops") > 0)
    [group] = hook.events
    assert group["type"] == "io.vigie.alarms"
    assets = [notice["alarm"]["asset_id"] for notice in group["data"]["notices"]]
    assert sorted(assets) == [f"site/pump-{number}" for number in range(10)]
    assert {alert.message_id for alert in alerts(service)} == {group["id"]}


def test_nobody_is_told_of_shelved_alarms_nor_of_assets_out_of_service(
    started: Started, hook: Receiver
) -> None:
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS, alert_group_s=1.0)
    rows = shifted(machine(400, seed=5), "flow", 6.0, slice(60, 100))
    rows = shifted(rows, "flow", 6.0, slice(250, None))
    sent(service, "shelved", rows[:95])
    [alarm] = [a for a in service.alarms.newest(_every(), 10)[0] if a.asset_id == "shelved"]
    service.alarms.shelve(alarm.id, 3600, "Known.", "anna")
    sent(service, "out", HEALTHY[:50])
    service.alarms.take_out("out", "Overhaul", None, "anna")
    sent(service, "out", FAULTY[50:95], first=50)
    # It clears and comes back while it is shelved.
    sent(service, "shelved", rows[95:300], first=95)
    eventually(
        lambda: not alerts(service, AlertState.WAITING) or service._alerts.send_due("ops") < 0
    )
    assert hook.events == []
    assert {alert.state for alert in alerts(service)} == {AlertState.SILENT}

    service.alarms.put_in("out", "ben")
    service._clock.tick()
    eventually(lambda: service._alerts.send_due("ops") > 0)
    assert [event["subject"] for event in hook.events] == ["out"]


def test_one_that_was_shelved_before_anybody_was_told_is_told_when_that_ends(
    started: Started, hook: Receiver
) -> None:
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS, alert_group_s=0.5)
    sent(service, "pump", FAULTY[:95])
    [alarm] = service.alarms.newest(_every(), 10)[0]
    service.alarms.shelve(alarm.id, 3600, "Known.", "anna")
    eventually(lambda: sends(service, AlertState.SILENT))
    service._clock.tick()
    assert len(alerts(service)) == 1

    service.alarms.unshelve(alarm.id, "anna", None)
    service._clock.tick()
    eventually(lambda: service._alerts.send_due("ops") > 0)
    assert told(hook) == ["raised"]
    service._clock.tick()
    assert len(alerts(service)) == 2


def test_an_address_that_no_library_can_use_is_a_failure_as_any_other(started: Started) -> None:
    channel = {"kind": "webhook", "url": "http://[x/alerts"}
    service = started(alert_channels={"ops": channel}, alarms=ONLY_ALARMS)
    sent(service, "pump", FAULTY[:95])
    assert service._alerts.send_due("ops") == 1
    [alert] = alerts(service)
    assert (alert.state, alert.attempts) == (AlertState.WAITING, 1)
    assert alert.error


def _every() -> Any:
    from vigie.history.alarms import AlarmFilter

    return AlarmFilter()


def test_of_old_readings_nobody_is_told(started: Started, hook: Receiver) -> None:
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS, alert_max_age_s=86_400.0)
    sent(service, "pump", FAULTY)
    sent(service, "pump", HEALTHY, first=len(FAULTY))
    assert service.alarms.newest(_every(), 10)[0]
    assert alerts(service) == []


def test_routes_choose_channels_by_path_kind_and_criticality(
    started: Started, hook: Receiver
) -> None:
    channel = by_webhook(hook)["ops"]
    service = started(
        alert_channels=dict.fromkeys(("line-1", "critical", "seen"), channel),
        alert_routes=[
            {"assets": "site/line-1", "channels": ["line-1"], "kinds": ["alarm"]},
            {"at_least": "critical", "channels": ["critical"], "kinds": ["alarm"]},
            {"changes": ["acknowledged"], "channels": ["seen"]},
        ],
    )
    sent(service, "site/line-1/pump", MILD[:66])
    sent(service, "site/line-2/pump", FAULTY[:95])
    found = [a for a in service.alarms.newest(_every(), 10)[0] if a.kind == "alarm"]
    assert {a.asset_id: a.criticality for a in found} == {
        "site/line-1/pump": None,
        "site/line-2/pump": "critical",
    }
    by_channel = {
        name: sorted(
            service.alarms.get(alert.alarm_id).asset_id
            for alert in alerts(service)
            if alert.channel == name
        )
        for name in ("line-1", "critical", "seen")
    }
    assert by_channel["line-1"] == ["site/line-1/pump"]
    assert by_channel["critical"] == ["site/line-2/pump"]
    assert by_channel["seen"] == []
    service.alarms.acknowledge(found[0].id, "anna", "I go.")
    [seen] = [alert for alert in alerts(service) if alert.channel == "seen"]
    assert seen.alarm_id == found[0].id


def test_an_alarm_that_becomes_critical_is_told_once_whoever_waits_for_that(
    started: Started, hook: Receiver
) -> None:
    service = started(
        alert_channels=by_webhook(hook),
        alert_routes=[{"at_least": "critical", "channels": ["ops"], "kinds": ["alarm"]}],
    )
    told_at = []
    for request in readings("pump", MILD):
        service.detect_anomaly(request)
        if found := [a for a in service.alarms.newest(_every(), 10)[0] if a.kind == "alarm"]:
            told_at.append((found[0].criticality, len(alerts(service))))
    assert told_at[0] == (None, 0)
    assert told_at[-1] == ("critical", 1)
    assert all(n == (level == "critical") for level, n in told_at)


def test_two_senders_on_one_database_send_each_alert_once(started: Started, hook: Receiver) -> None:
    settings = {"alert_channels": by_webhook(hook), "alarms": ONLY_ALARMS, "alert_group_from": 99}
    one, other = started(**settings), started(**settings)
    for number in range(12):
        sent(one, f"pump-{number}", FAULTY[:95])
    one._alerts.start()
    other._alerts.start()
    eventually(lambda: len(alerts(one, AlertState.SENT)) == 12)
    assert len(hook.events) == 12


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from one_machine import FAULTY, readings
from vigie.config import Settings
from vigie.services.anomaly_detection_service import AnomalyDetectionService
service = AnomalyDetectionService(Settings(**{settings!r}))
service.load_models(Path({models!r}))
service.detect_anomalies_batch(readings("pump", FAULTY[:95]))
print("written", flush=True)
if {sends!r}:
    service._alerts.send_due("ops")
sys.stdin.read()
"""


@pytest.mark.parametrize("sends", [False, True], ids=["before sending", "while sending"])
def test_what_was_written_before_a_kill_is_sent_by_the_next_process(
    sends: bool, models: Path, started: Started, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = started(alert_channels=by_webhook(hook), alarms=ONLY_ALARMS)
    settings = (
        CHEAP
        | NOW
        | {
            "state_dir": str(service.settings.state_dir),
            "history_url": service.settings.history_url,
            "alert_channels": by_webhook(hook),
            "alarms": ONLY_ALARMS,
        }
    )
    code = KILLED.format(path=sys.path, settings=settings, models=str(models), sends=sends)
    with (
        hook.lock if sends else nullcontext(),
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        if sends:
            # It waits for the answer.
            assert hook.has_come.wait(60)
            assert alerts(service)[0].message_id is not None
        process.send_signal(signal.SIGKILL)
    # What the killed process had sent by then.
    eventually(lambda: len(hook.requests) == sends)
    assert alerts(service)[0].state is AlertState.WAITING
    later_us = time.time_ns() // 1000 + round(2 * alert_sender.LEASE_S * 1e6)
    # As if the lease had run out.
    table = AlertTable(service.detection.history())
    taken = table.take("ops", later_us, 0, 4)
    assert taken is not None
    service._alerts._send(table, "ops", service.settings.alert_channels["ops"], taken)
    assert len(hook.requests) == 1 + sends
    assert len({event["id"] for event in hook.events}) == 1
    assert alerts(service)[0].state is AlertState.SENT


# Mail


def mail(port: int, **fields: Any) -> Mail:
    known = {"kind": "email", "host": "localhost", "port": port, "from": "vigie@plant.example"}
    known |= {"to": ["anna@plant.example", "ben@plant.example"], "security": "none"}
    return Mail.model_validate(known | fields)


def test_an_alarm_comes_by_mail(started: Started, new_port: Callable[[], int]) -> None:
    with mail_server(new_port()) as (box, port):
        channel = mail(port).model_dump(by_alias=True)
        service = started(alert_channels={"people": channel}, alarms=ONLY_ALARMS)
        sent(service, "halle-ü\nX-Evil: 1/pump", FAULTY[:95])
        box.refuses = True
        service._alerts.send_due("people")
        assert "451" in (alerts(service)[0].error or "")
        box.refuses = False
        deliver(mail(port), trial("1", "people"))
        [first] = box.mails
        assert first["Subject"] == "Vigie: test of the channel people"
        AlertTable(service.detection.history()).postpone([alerts(service)[0].id], 0, "")
        service._alerts.send_due("people")
    found = box.mails[1]
    assert found["To"] == "anna@plant.example, ben@plant.example"
    assert found["Subject"].startswith("RAISED alarm")
    assert "halle-ü X-Evil: 1/pump" in found["Subject"]
    assert found["X-Evil"] is None
    assert found["X-Vigie-Id"] == alerts(service)[0].message_id
    assert found["Message-ID"] == f"<{found['X-Vigie-Id']}@plant.example>"
    assert "sensor: flow" in found.get_content()


def test_a_mail_server_may_demand_starttls_and_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_port: Callable[[], int]
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    safe = {"security": "starttls", "username": "vigie", "password": "pass"}
    with mail_server(new_port(), context, ("vigie", "pass")) as (box, port):
        with pytest.raises(AlertError, match="certificate"):
            deliver(mail(port, **safe), trial("1", "people"))
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        deliver(mail(port, **safe), trial("2", "people"))
        with pytest.raises(AlertError, match="535"):
            deliver(mail(port, **(safe | {"password": "wrong"})), trial("3", "people"))
        with pytest.raises(AlertError):
            deliver(mail(port), trial("4", "people"))
    assert [found["X-Vigie-Id"] for found in box.mails] == ["2"]


# Apprise


def test_apprise_tells_its_receivers_and_says_if_one_does_not_take_it(hook: Receiver) -> None:
    pytest.importorskip("apprise")
    url = f"json://127.0.0.1:{hook.server_address[1]}/alerts"
    channel = Apprise.model_validate({"kind": "apprise", "urls": [url]})
    deliver(channel, trial("1", "chat"))
    assert hook.events[0]["title"] == "Vigie: test of the channel chat"
    hook.status = 500
    with pytest.raises(AlertError, match="does not take it"):
        deliver(channel, trial("2", "chat"))
    with pytest.raises(AlertError, match="none that Apprise knows"):
        deliver(Apprise.model_validate({"kind": "apprise", "urls": ["x"]}), trial("3", "chat"))


def test_a_receiver_that_hangs_is_given_up_after_its_time(new_port: Callable[[], int]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", new_port())) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        channel = Webhook(kind="webhook", url=url, timeout_s=0.2)
        with pytest.raises(AlertError, match="Timeout"):
            deliver(channel, trial("1", "ops"))


# The command line


def test_the_channels_are_tried_from_the_command_line(
    hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from vigie import cli

    run = CliRunner().invoke
    assert "VIGIE_ALERT_CHANNELS" in str(run(cli.app, ["alerts", "test"]).exception)
    Path("vigie.toml").write_text(
        f'[alert_channels.ops]\nkind = "webhook"\nurl = "{hook.url}"\nsecret = "{SECRET}"\n'
        '[alert_channels.away]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n'
    )
    one = run(cli.app, ["alerts", "test", "ops"])
    assert (one.exit_code, one.output) == (0, "ops: the message was taken.\n")
    assert hook.events[0]["type"] == "io.vigie.test"
    both = run(cli.app, ["alerts", "test"])
    assert both.exit_code == 1
    assert "ops: the message was taken." in both.output
    assert "no channel 'x'" in str(run(cli.app, ["alerts", "test", "x"]).exception)
    shown = run(cli.app, ["config", "show"]).output
    assert SECRET not in shown


# The whole way


def test_a_running_service_tells_of_an_alarm_and_is_answered(
    running: Callable[[Settings], AbstractContextManager[httpx.Client]],
    hook: Receiver,
    tmp_path: Path,
) -> None:
    route = {"channels": ["ops"], "changes": ["raised", "acknowledged", "cleared"]}
    told_by = {"alert_channels": by_webhook(hook, secret=SECRET), "alert_routes": [route]}
    known = CHEAP | NOW | {"state_dir": tmp_path / "state", "alarms": ONLY_ALARMS} | told_by
    with (
        running(Settings(**known)) as http,
        Client(str(http.base_url.copy_with(path=""))) as client,
    ):
        client.train(machine(500, seed=0), feature_names=SENSORS, model_names=ROW_MODELS)
        client.detect_batch(readings("site/pump", FAULTY[:95]))
        eventually(lambda: told(hook) == ["raised"])
        number = hook.events[0]["data"]["alarm"]["id"]
        client.acknowledge_alarm(number, note="I go.")
        eventually(lambda: told(hook) == ["raised", "acknowledged"])
        assert hook.events[1]["data"]["note"] == "I go."
        seconds = [95.0 + n for n in range(len(HEALTHY))]
        client.detect_batch(readings("site/pump", HEALTHY, seconds))
        eventually(lambda: told(hook) == ["raised", "acknowledged", "cleared"])
        sent = {"raised", "acknowledged", "cleared"}
        assert {alert.change for alert in client.list_alerts("sent").alerts} <= sent
        assert [change.change for change in client.get_alarm(number).log] == [
            *("raised", "acknowledged", "cleared"),
        ]
