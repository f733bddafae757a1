"""Alarms: raised and cleared with events, acknowledged, shelved, silent; each change recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faults import eventually
from one_machine import FAULTY, HEALTHY, ROW_MODELS, machine, readings, saved_models, shifted
from quick_training import CHEAP
from sqlalchemy import text

from vigie.config import Settings
from vigie.errors import (
    AlarmNotFoundError,
    AssetNotFoundError,
    ConflictError,
    HistoryError,
    InvalidDataError,
)
from vigie.events.alarms import ITSELF
from vigie.history.alarms import AlarmFilter
from vigie.history.events import EventFilter
from vigie.models.alarms import Alarm, AlarmState, Change, Quality, Silence
from vigie.models.anomaly_data import AssetState
from vigie.models.events import EventKind
from vigie.services.anomaly_detection_service import AnomalyDetectionService

ONSET = 58
"""Readings before the fault shows."""
Started = Callable[..., AnomalyDetectionService]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of the machine."""
    return saved_models(tmp_path_factory.mktemp("models"), ROW_MODELS)


@pytest.fixture
def started(models: Path, tmp_path: Path, new_history: Callable[[], str]) -> Iterator[Started]:
    """Start a service with these models on a history, which all of a test share."""
    services: list[AnomalyDetectionService] = []
    url = new_history()

    def start(**settings: Any) -> AnomalyDetectionService:
        known = CHEAP | {"state_dir": tmp_path, "history_url": url, **settings}
        service = AnomalyDetectionService(Settings(**known))
        service.load_models(models)
        services.append(service)
        return service

    yield start
    for service in services:
        service.close()


def sent(service: AnomalyDetectionService, asset: str, rows: Any, first: int = 0) -> None:
    seconds = [float(first + n) for n in range(len(rows))]
    service.detect_anomalies_batch(readings(asset, rows, seconds))


def alarms(service: AnomalyDetectionService, **asked: Any) -> list[Alarm]:
    return service.alarms.newest(AlarmFilter(**asked), 100)[0]


def machine_alarm(service: AnomalyDetectionService, **asked: Any) -> Alarm:
    [alarm] = alarms(service, kind=EventKind.ALARM, **asked)
    return alarm


def log_of(service: AnomalyDetectionService, alarm: Alarm) -> list[tuple[Change, str | None]]:
    return [(change.change, change.by) for change in service.alarms.get(alarm.id).log]


def ticks_until(service: AnomalyDetectionService, is_so: Callable[[], bool]) -> None:
    def look() -> bool:
        service._clock.tick()
        return is_so()

    eventually(look)


def test_an_event_raises_an_alarm_that_clears_with_it(started: Started) -> None:
    service = started()
    sent(service, "pump", FAULTY[:95])
    alarm = machine_alarm(service)
    assert alarm.state is AlarmState.ACTIVE
    assert not alarm.acknowledged
    assert alarm.sensors[0].name == "flow"
    event, *_ = service.events.get(alarm.event_id)
    assert (event.start, event.kind) == (alarm.start, alarm.kind)

    sent(service, "pump", HEALTHY, first=95)
    cleared = machine_alarm(service)
    assert cleared.id == alarm.id
    assert cleared.state is AlarmState.CLEARED
    assert log_of(service, alarm) == [(Change.RAISED, ITSELF), (Change.CLEARED, ITSELF)]


def test_who_acknowledged_it_stays_though_another_does_so_too(started: Started) -> None:
    service = started()
    sent(service, "pump", FAULTY[:95])
    number = machine_alarm(service).id
    service.alarms.acknowledge(number, "anna", "I look at it.")
    again = service.alarms.acknowledge(number, "ben", None)

    assert (again.acknowledged_by, again.note) == ("anna", "I look at it.")
    assert again.state is AlarmState.ACTIVE
    assert log_of(service, again) == [(Change.RAISED, ITSELF), (Change.ACKNOWLEDGED, "anna")]
    assert machine_alarm(service, is_acknowledged=True).id == number
    assert alarms(service, is_acknowledged=False, kind=EventKind.ALARM) == []
    assert service.alarms.counts()["active", True] == 1


def test_an_event_shorter_than_the_on_delay_raises_no_alarm(started: Started) -> None:
    service = started(alarms=[{"on_delay_s": 3600}])
    sent(service, "pump", FAULTY)
    sent(service, "pump", HEALTHY, first=len(FAULTY))
    events, _ = service.events.newest(EventFilter(kind=EventKind.ALARM), 10)
    assert [event.is_open for event in events] == [False]
    assert alarms(service) == []


def test_an_event_longer_than_the_on_delay_raises_one(started: Started) -> None:
    service = started(alarms=[{"assets": "other", "on_delay_s": 3600}, {"on_delay_s": 0.5}])
    sent(service, "pump", FAULTY[:95])
    assert alarms(service) == []
    ticks_until(service, lambda: bool(alarms(service)))
    assert machine_alarm(service).state is AlarmState.ACTIVE


def test_within_the_off_delay_an_alarm_goes_on_with_the_next_event(started: Started) -> None:
    service = started(alarms=[{"kinds": ["alarm"], "off_delay_s": 3600}])
    rows = shifted(machine(400, seed=5), "flow", 6.0, slice(60, 100))
    rows = shifted(rows, "flow", 6.0, slice(250, None))
    sent(service, "pump", rows[:200])
    first = machine_alarm(service)
    assert first.state is AlarmState.ACTIVE
    sent(service, "pump", rows[200:300], first=200)
    second = machine_alarm(service)
    assert (second.id, second.state) == (first.id, AlarmState.ACTIVE)
    assert second.event_id != first.event_id
    assert log_of(service, first) == [(Change.RAISED, ITSELF), (Change.RETURNED, ITSELF)]


def test_after_the_off_delay_it_clears(started: Started) -> None:
    service = started(alarms=[{"off_delay_s": 0.2}])
    sent(service, "pump", FAULTY)
    sent(service, "pump", HEALTHY, first=len(FAULTY))
    ticks_until(service, lambda: machine_alarm(service).state is AlarmState.CLEARED)


def test_within_the_deadband_it_does_not_clear(started: Started) -> None:
    service = started(alarms=[{"kinds": ["alarm"], "deadband_p": 0.999999}])
    sent(service, "pump", FAULTY)
    sent(service, "pump", HEALTHY, first=len(FAULTY))
    service._clock.tick()
    held = machine_alarm(service)
    assert held.state is AlarmState.ACTIVE
    assert not service.events.get(held.event_id)[0].is_open
    # The same database under another rule.
    other = started(alarms=[{"kinds": ["alarm"], "deadband_p": 1e-9}])
    ticks_until(other, lambda: machine_alarm(other).state is AlarmState.CLEARED)


def test_only_the_kinds_of_a_rule_raise_alarms_on_the_assets_of_its_pattern(
    started: Started,
) -> None:
    service = started(alarms=[{"assets": "site/quiet", "kinds": ["bad_data"]}])
    for asset in ("site/quiet/pump", "site/loud"):
        sent(service, asset, FAULTY[:95])
    assert {alarm.asset_id for alarm in alarms(service)} == {"site/loud"}


def test_a_shelved_alarm_is_silent_until_its_time_is_over(started: Started) -> None:
    service = started()
    sent(service, "pump", FAULTY[:95])
    alarm = machine_alarm(service)
    shelved = service.alarms.shelve(alarm.id, 3600, "Part is ordered.", "anna")
    assert (shelved.silence, shelved.silence_reason) == (Silence.SHELVED, "Part is ordered.")
    assert shelved.silent_until is not None
    taken_up = service.alarms.unshelve(alarm.id, "ben", None)
    assert taken_up.silence is None
    with pytest.raises(ConflictError, match="not shelved"):
        service.alarms.unshelve(alarm.id, "ben", None)

    service.alarms.shelve(alarm.id, 0.2, "For a moment.", "anna")
    ticks_until(service, lambda: machine_alarm(service).silence is None)
    ticks_until(service, lambda: log_of(service, alarm)[-1] == (Change.UNSHELVED, ITSELF))
    assert [who for _, who in log_of(service, alarm)[1:]] == ["anna", "ben", "anna", ITSELF]
    with pytest.raises(InvalidDataError, match="at most"):
        service.alarms.shelve(alarm.id, 1e6, "Never again.", "anna")


def test_assets_out_of_service_are_silent_with_all_below_them(started: Started) -> None:
    service = started()
    for asset in ("site/a", "site/b", "sites"):
        sent(service, asset, FAULTY[:95])
    out = service.alarms.take_out("site", "Overhaul", None, "anna")
    assert (out.out_of_service, out.by) == (True, "anna")
    silent = {a.asset_id: a.silence for a in alarms(service, kind=EventKind.ALARM)}
    assert silent == {
        "site/a": Silence.OUT_OF_SERVICE,
        "site/b": Silence.OUT_OF_SERVICE,
        "sites": None,
    }
    found, _ = service.alarms.assets("site/a", None, 10)
    assert [asset.silence for asset in found] == [Silence.OUT_OF_SERVICE]
    with pytest.raises(ConflictError, match="out of service with site"):
        service.alarms.put_in("site/a", "ben")
    assert not service.alarms.put_in("site", "ben").out_of_service
    [alarm] = alarms(service, asset="site/a", kind=EventKind.ALARM)
    assert alarm.silence is None
    assert log_of(service, alarm)[1:] == [
        (Change.OUT_OF_SERVICE, "anna"),
        (Change.IN_SERVICE, "ben"),
    ]
    with pytest.raises(AssetNotFoundError):
        service.alarms.take_out("nowhere", "Overhaul", None, None)
    past = datetime.now(UTC) - timedelta(days=1)
    with pytest.raises(InvalidDataError, match="over"):
        service.alarms.take_out("site", "Overhaul", past, None)


def test_an_alarm_raised_under_maintenance_says_that_it_is_silent(started: Started) -> None:
    service = started(maintenance=[{"assets": "pump", "reason": "greasing"}])
    sent(service, "pump", FAULTY[:95])
    alarm = machine_alarm(service)
    assert (alarm.silence, alarm.silence_reason) == (Silence.MAINTENANCE, "greasing")
    [raised] = service.alarms.get(alarm.id).log
    assert raised.note == "silent: maintenance (greasing)"


def test_silence_of_an_asset_is_an_event_of_its_own_until_it_is_heard_again(
    started: Started,
) -> None:
    service = started(alarms=[{"assets": "pump", "no_data_after_s": 1}])
    sent(service, "pump", HEALTHY[:60])
    sent(service, "fan", HEALTHY[:60])
    ticks_until(service, lambda: bool(alarms(service)))
    [alarm] = alarms(service)
    assert (alarm.asset_id, alarm.kind) == ("pump", EventKind.NO_DATA)
    [asset] = service.alarms.assets("pump", None, 10)[0]
    assert (asset.state, asset.quality) == (AssetState.NORMAL, Quality.BAD)
    assert asset.open_events == [EventKind.NO_DATA]

    sent(service, "pump", HEALTHY[60:61], first=60)
    service._clock.tick()
    [alarm] = alarms(service)
    assert alarm.state is AlarmState.CLEARED
    event, *_ = service.events.get(alarm.event_id)
    assert event.end == event.start + timedelta(seconds=1)
    assert service.alarms.assets("pump", None, 10)[0][0].quality is Quality.GOOD


def test_assets_are_listed_with_state_last_reading_quality_and_open_events(
    started: Started,
) -> None:
    service = started(faulty_values="impute")
    sent(service, "site/a", FAULTY[:95])
    sent(service, "site/b", HEALTHY[:60])
    broken = readings("site/b", HEALTHY[60:61], [60.0])
    del broken[0]["features"]["flow"]
    service.detect_anomalies_batch(broken)

    a, b = service.alarms.assets("site", None, 10)[0]
    assert (a.asset_id, a.state) == ("site/a", AssetState.ALARM)
    assert EventKind.ALARM in a.open_events
    assert (b.state, b.quality, b.faults) == (
        AssetState.NORMAL,
        Quality.UNCERTAIN,
        {"flow": "missing"},
    )
    assert b.last_seen == broken[0]["timestamp"]
    service._clock.tick()
    assert service.alarms.assets("site", None, 10)[0] == [a, b]

    one, more = service.alarms.assets(None, None, 1)
    assert ([x.asset_id for x in one], more) == (["site/a"], ("site/a", ""))
    assert service.alarms.assets(None, None, 1, more)[0][0].asset_id == "site/b"
    assert service.alarms.assets(None, AssetState.ALARM, 10)[0] == [a]


def test_the_load_counts_the_alarms_of_each_asset(started: Started) -> None:
    service = started(alarm_load={"standing_s": 0.0001, "fleeting_s": 3600})
    for asset in ("a", "b"):
        sent(service, asset, FAULTY[:95])
    sent(service, "c", HEALTHY)
    sent(service, "b", HEALTHY, first=95)
    every = alarms(service)
    load = service.alarms.load(None, None, None)
    assert load.alarms == len(every)
    assert load.n_assets == 3
    assert load.per_asset_and_day == pytest.approx(len(every) / 3 / 7, rel=1e-3)
    assert load.fleeting == len([a for a in every if a.state is AlarmState.CLEARED])
    assert load.standing >= len([a for a in every if a.state is AlarmState.ACTIVE])
    assert {asset.asset_id for asset in load.assets} == {"a", "b"}


def test_what_is_not_there_and_what_is_turned_off_say_so(started: Started, tmp_path: Path) -> None:
    with pytest.raises(AlarmNotFoundError):
        started().alarms.get("0" * 32)
    with pytest.raises(AlarmNotFoundError):
        started().alarms.get("\0")
    off = AnomalyDetectionService(
        Settings(mlflow_enabled=False, history_enabled=False, state_dir=tmp_path)
    )
    with pytest.raises(ConflictError, match="no history"):
        off.alarms.newest(AlarmFilter(), 1)


def test_of_two_services_one_does_what_the_time_has_come_for(started: Started) -> None:
    settings = {"alarms": [{"on_delay_s": 0.2}]}
    one, other = started(**settings), started(**settings)
    sent(one, "pump", FAULTY[:95])

    def both() -> bool:
        one._clock.tick()
        other._clock.tick()
        return bool(alarms(one))

    eventually(both)
    alarm = machine_alarm(one)
    assert log_of(other, alarm) == [(Change.RAISED, ITSELF)]


def test_what_could_not_be_stored_of_assets_is_stored_later(started: Started) -> None:
    service = started()
    sent(service, "pump", HEALTHY[:60])
    sent(service, "pump", HEALTHY[60:61], first=60)

    def rename(old: str, new: str) -> None:
        with service.detection.history().connection() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    rename("asset_states", "away")
    with pytest.raises(HistoryError):
        service._clock.tick()
    rename("away", "asset_states")
    assert service.detection.events.latest() != {}
    service._clock.tick()
    assert service.detection.events.latest() == {}
    [asset] = service.alarms.assets("pump", None, 10)[0]
    assert asset.last_seen == readings("pump", HEALTHY[60:61], [60.0])[0]["timestamp"]
