"""Events of live readings: made by the change of an asset's state, with the reading, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from one_machine import (
    FAULTY,
    HEALTHY,
    IN_ALARM,
    ROW_MODELS,
    machine,
    readings,
    saved_models,
    shifted,
    states,
)
from quick_training import CHEAP
from sqlalchemy import text

from vigie.config import Settings
from vigie.events.gathering import TOLD, Events, Rows
from vigie.history.events import EventFilter, EventTable
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.models.events import AssetEvent, EventKind
from vigie.services.anomaly_detection_service import AnomalyDetectionService

EVERYTHING = EventFilter()
FROZEN = shifted(machine(300, seed=5), "flow", 6.0, slice(160, 200))
FROZEN[60:120, 3] = FROZEN[60, 3]
"""A sensor is frozen for a while; later the flow is off, and then in order again."""
PARTS = {"one by one": 1, "in batches": 37, "at once": len(FROZEN)}

Replica = Callable[[str], AnomalyDetectionService]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of the machine."""
    return saved_models(tmp_path_factory.mktemp("models"), ROW_MODELS)


@pytest.fixture
def replica(models: Path, tmp_path: Path) -> Iterator[Replica]:
    """Start a service with these models on a history."""
    started: list[AnomalyDetectionService] = []

    def start(history: str) -> AnomalyDetectionService:
        settings = CHEAP | {"state_dir": tmp_path, "history_url": history}
        service = AnomalyDetectionService(Settings(**settings))
        service.load_models(models)
        started.append(service)
        return service

    yield start
    for service in started:
        service.close()


def kept(service: AnomalyDetectionService, asked: EventFilter = EVERYTHING) -> list[AssetEvent]:
    """Return events as they are stored, the first to begin first."""
    found, more = EventTable(service.detection.history()).newest(asked, 1000)
    assert more is None
    return found[::-1]


def told(results: list[AnomalyDetectionResult]) -> list[tuple[AssetState, datetime, datetime, int]]:
    """Return the stretches of answers in one state that is an event: state, start, end, number."""
    found = []
    for state, group in groupby(results, key=lambda result: result.asset.state):
        rows = list(group)
        if state in TOLD:
            found.append((state, rows[0].timestamp, rows[-1].timestamp, len(rows)))
    return found


@pytest.mark.parametrize("size", PARTS.values(), ids=PARTS)
def test_each_state_that_asks_for_a_look_is_one_event_with_its_start_and_end(
    size: int, new_history: Callable[[], str], replica: Replica
) -> None:
    service = replica(new_history())
    requests = readings("site/line/pump", FROZEN)

    results: list[AnomalyDetectionResult] = []
    for start in range(0, len(requests), size):
        results += service.detect_anomalies_batch(requests[start : start + size])

    events = kept(service)
    expected = told(results)
    assert {state for state, *_ in expected} >= {AssetState.BAD_DATA, AssetState.ALARM}
    # In the state of the last reading, the event is open still.
    ends = [None if end == results[-1].timestamp else end for _, _, end, _ in expected]
    assert [(e.kind, e.start, e.end, e.n_readings) for e in events] == [
        (state.value, start, end, n)
        for (state, start, _, n), end in zip(expected, ends, strict=True)
    ]
    by_time = {result.timestamp: result for result in results}
    for event in events:
        assert event.asset_id == "site/line/pump"
        inside = [r for r in results if event.start <= r.timestamp <= (event.end or r.timestamp)]
        assert event.n_anomalies == sum(result.is_anomaly for result in inside)
        evidence = [r.asset.evidence for r in inside if r.asset.evidence is not None]
        assert 1.0 - event.peak.p_value == pytest.approx(max(evidence, default=0.0))
        assert event.peak.at in by_time
        assert event.versions == dict.fromkeys(ROW_MODELS)
    [bad] = [event for event in events if event.kind is EventKind.BAD_DATA]
    assert [sensor.name for sensor in bad.sensors] == ["current"]
    alarm = next(event for event in events if event.kind is EventKind.ALARM)
    assert alarm.sensors[0].name == "flow"
    peak = next(r for r in requests if r["timestamp"] == alarm.peak.at)
    assert alarm.sensors[0].value == peak["features"]["flow"]
    assert alarm.sensors[0].usual == pytest.approx(100.0, abs=2.0)
    assert alarm.began == by_time[alarm.start].asset.began


def test_they_are_those_that_a_file_of_the_same_rows_tells(
    new_history: Callable[[], str], replica: Replica
) -> None:
    import pandas as pd

    service = replica(new_history())
    requests = readings("pump", FROZEN)
    service.detect_anomalies_batch(requests)
    live = kept(service)

    table = pd.DataFrame([request["features"] for request in requests])
    times = np.array([r["timestamp"].replace(tzinfo=None) for r in requests], "datetime64[us]")
    events = Events()
    events.add(Rows.of(service.stream(table.columns).assess(table, times)))
    from_file = [e.told("pump") for e in events.told() if e.state is not None]

    def facts(event: AssetEvent) -> tuple[object, ...]:
        return (
            *(event.asset_id, event.kind, event.start, event.began, event.n_readings),
            *(event.n_anomalies, event.criticality, pytest.approx(event.peak.p_value)),
        )

    assert [facts(event) for event in live] == [facts(event) for event in from_file]


def test_one_that_comes_back_after_it_cleared_is_a_new_event(
    new_history: Callable[[], str], replica: Replica
) -> None:
    service = replica(new_history())
    rows = shifted(machine(400, seed=5), "flow", 6.0, slice(60, 100))
    rows = shifted(rows, "flow", 6.0, slice(250, 290))
    service.detect_anomalies_batch(readings("pump", rows))

    alarms = kept(service, EventFilter(kind=EventKind.ALARM))
    assert len(alarms) == 2
    assert len({alarm.id for alarm in alarms}) == 2
    assert alarms[0].end < alarms[1].start


def test_late_readings_and_those_that_are_sent_again_make_no_event(
    new_history: Callable[[], str], replica: Replica
) -> None:
    service = replica(new_history())
    today = readings("pump", HEALTHY[:100], [1000.0 + n for n in range(100)])
    service.detect_anomalies_batch(today)

    late = service.detect_anomalies_batch(readings("pump", FAULTY))
    again = service.detect_anomalies_batch(today)

    assert IN_ALARM in states(late)
    assert IN_ALARM not in states(again)
    assert kept(service) == []


def test_a_batch_of_a_late_reading_and_the_one_that_clears_the_alarm_ends_the_event(
    new_history: Callable[[], str], replica: Replica
) -> None:
    rows = np.concatenate([FAULTY[:80], machine(80, seed=9)])
    requests = readings("pump", rows)
    trial = replica(new_history())
    found = states(trial.detect_anomalies_batch(requests))
    clears = next(n for n in range(80, len(found)) if found[n] is AssetState.NORMAL)
    assert found[50] is AssetState.NORMAL

    service = replica(new_history())
    service.detect_anomalies_batch(requests[:clears])
    assert kept(service)[-1].is_open
    [late] = readings("pump", HEALTHY[50:51], [50.5])
    service.detect_anomalies_batch([late, requests[clears]])
    assert [event.is_open for event in kept(service)] == [False] * len(kept(service))


def test_those_sent_again_do_not_lengthen_an_event(
    new_history: Callable[[], str], replica: Replica
) -> None:
    service = replica(new_history())
    requests = readings("pump", FAULTY[:95])
    service.detect_anomalies_batch(requests)
    before = kept(service)
    assert before[-1].is_open

    service.detect_anomalies_batch(requests[80:])
    service.detect_anomaly(requests[-1])

    assert kept(service) == before


def test_readings_of_one_time_that_take_the_place_of_each_other_raise_one_event(
    new_history: Callable[[], str], replica: Replica
) -> None:
    service = replica(new_history())
    # A sender whose clock has minutes: each reading takes the place of the one before.
    rows = shifted(machine(240, seed=5), "flow", 6.0, slice(150, None))
    requests = readings("pump", rows, [60.0 * (n // 3) for n in range(240)])
    results = [service.detect_anomaly(request) for request in requests]

    assert any(result.replaced for result in results)
    assert IN_ALARM in states(results)
    events, now = kept(service), results[-1].asset.state
    assert {event.kind.value for event in events} == {*states(results)} & {*TOLD}
    assert [event.kind.value for event in events if event.is_open] == [now] * (now in TOLD)


def test_groups_of_sensors_and_assets_have_events_of_their_own(
    new_history: Callable[[], str], replica: Replica
) -> None:
    service = replica(new_history())
    requests = [
        request | {"sensor_id": group}
        for group in ("left", "right", None)
        for request in readings("pump", FAULTY if group == "left" else HEALTHY)
    ]
    service.detect_anomalies_batch(requests)
    assert {(event.asset_id, event.sensor_id) for event in kept(service)} == {("pump", "left")}


def test_two_services_keep_one_event_together(
    new_history: Callable[[], str], replica: Replica
) -> None:
    url = new_history()
    one, other = replica(url), replica(url)
    results = [
        (one, other)[number % 2].detect_anomaly(request)
        for number, request in enumerate(readings("pump", FAULTY))
    ]
    assert [(e.kind, e.start, e.n_readings) for e in kept(one)] == [
        (state.value, start, n) for state, start, _, n in told(results)
    ]


FULL = "CREATE TRIGGER full BEFORE INSERT ON readings BEGIN SELECT RAISE(ABORT, 'full'); END"


def test_without_its_reading_there_is_no_event(tmp_path: Path, replica: Replica) -> None:
    service = replica(f"sqlite:///{tmp_path / 'history.db'}")
    requests = readings("pump", FAULTY[:90])
    service.detect_anomalies_batch(requests[:55])

    def execute(statement: str) -> None:
        with service.detection.history().connection() as connection:
            connection.execute(text(statement))

    execute(FULL)
    unstored = service.detect_anomalies_batch(requests[55:])
    assert IN_ALARM in states(unstored)
    assert kept(service) == []

    execute("DROP TRIGGER full")
    service.detect_anomalies_batch(requests[55:])
    assert IN_ALARM in {event.kind.value for event in kept(service)}


def test_filters_and_pages_find_each_event_once(
    new_history: Callable[[], str], replica: Replica
) -> None:
    service = replica(new_history())
    for asset in ("site/a", "site/b", "site/ab", "Site/a", "site"):
        service.detect_anomalies_batch(readings(asset, FAULTY))
    every = kept(service)

    def assets(**asked: object) -> set[str | None]:
        return {event.asset_id for event in kept(service, EventFilter(**asked))}

    assert assets(asset="site") == {"site", "site/a", "site/b", "site/ab"}
    assert assets(asset="site/a") == {"site/a"}
    assert assets(asset="sit_") == assets(asset="%") == set()
    first_start = min(event.start for event in every)
    assert assets(last=first_start - timedelta(seconds=1)) == set()
    assert assets(first=datetime(2030, 1, 1, tzinfo=UTC), is_open=False) == set()

    table, after, found = EventTable(service.detection.history()), None, []
    while True:
        page, after = table.newest(EVERYTHING, 2, after)
        found += page
        if after is None:
            break
    assert found[::-1] == every
