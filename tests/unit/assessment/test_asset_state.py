"""How an asset is doing: what an operator is told, and what must not change it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from one_machine import (
    FAULT,
    FAULTY,
    HEALTHY,
    IN_ALARM,
    NORMAL,
    QUICKEST,
    ROW_MODELS,
    SENSORS,
    START,
    UNIT,
    WATCH,
    at,
    changes,
    first,
    machine,
    one_by_one,
    readings,
    same_asset,
    shifted,
    states,
    statuses_of,
    trained,
)
from quick_training import CHEAP, WINDOW

from vigie import samples
from vigie.assessment.status import (
    OF_AVERAGES,
    OF_FORECASTS,
    OFF_DELAY,
    READINGS,
    AssetStatus,
    Evidence,
    StatusSeries,
    change_point,
    combined_readings,
)
from vigie.config import Settings
from vigie.detectors.calibration.combination import combine
from vigie.history.records import Assessed
from vigie.history.store import History
from vigie.models.anomaly_data import AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService

few_examples = settings(derandomize=True, max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnomalyDetectionService]:
    """Three models of one machine, and one history."""
    service = trained(tmp_path_factory.mktemp("state"))
    yield service
    service.close()


@pytest.fixture(scope="module")
def bench() -> AnomalyDetectionService:
    """Three models of a machine whose operating point wanders."""
    service = AnomalyDetectionService(Settings(**CHEAP))
    outcome = service.train_all_models(samples.healthy(1200).data, samples.FEATURE_NAMES)
    assert {model["status"] for model in outcome.values()} == {"trained"}, outcome
    return service


@pytest.fixture
def asset(request: pytest.FixtureRequest) -> str:
    """A machine that only this test reads."""
    return str(request.node.name)


# What an operator notices


def test_a_healthy_machine_stays_normal(service, asset):
    results = service.detect_anomalies_batch(readings(asset, machine(400, seed=6)))
    assert set(states(results)) == {AssetState.UNKNOWN, NORMAL}
    assert changes(states(results)) == 1
    assert all(result.asset.began is None for result in results)
    assert all(result.asset.sensors == [] for result in results)


def test_until_there_is_evidence_an_asset_is_unknown(service, asset):
    results = one_by_one(service, readings(asset, HEALTHY[:40]))
    n_unknown = first(states(results), NORMAL)
    for place, result in enumerate(results):
        assert (result.asset.evidence is None) == (place < n_unknown)
        assert result.asset.state is (AssetState.UNKNOWN if place < n_unknown else NORMAL)
        assert result.asset.since == at(0 if place < n_unknown else n_unknown)


def test_a_pause_does_not_take_back_what_is_known_of_an_asset(service, asset):
    seconds = [*range(40), *range(10_000, 10_003)]
    results = one_by_one(service, readings(asset, HEALTHY[:43], seconds))
    assert [result.asset.evidence for result in results[40:]] == [None] * 3
    assert states(results[39:]) == [NORMAL] * 4


@pytest.mark.parametrize("deviations", [10.0, -40.0, 250.0])
def test_one_absurd_reading_among_healthy_ones_is_a_blip(service, asset, deviations):
    rows = shifted(HEALTHY, "vibration", deviations, slice(80, 81))
    results = service.detect_anomalies_batch(readings(asset, rows))
    assert results[80].is_anomaly
    assert results[80].sensors[0].name == "vibration"
    assert IN_ALARM not in states(results)


def test_absurd_readings_far_apart_do_not_add_up(service, asset):
    rows = shifted(HEALTHY, "vibration", 40.0, slice(20, 160, 30))
    results = service.detect_anomalies_batch(readings(asset, rows))
    assert all(result.is_anomaly for result in results[20::30])
    assert IN_ALARM not in states(results)


def test_forty_shifted_readings_are_an_alarm(service, asset):
    results = service.detect_anomalies_batch(readings(asset, FAULTY))
    assert set(states(results[READINGS : FAULT.start])) == {NORMAL}
    assert FAULT.start < first(states(results), IN_ALARM) < FAULT.start + 20
    assert results[FAULT.stop - 1].asset.state is IN_ALARM
    assert results[FAULT.stop - 1].asset.sensors[0].name == "flow"


@pytest.mark.parametrize("deviations", [-60.0, 9.0])
def test_forty_readings_far_out_are_an_alarm_whichever_sensor_it_is(bench, deviations):
    unit = samples.healthy(1200).data.std(axis=0)
    silent = []
    for column, sensor in enumerate(samples.FEATURE_NAMES):
        rows = samples.healthy(85, seed=3).data
        rows[40:80, column] += deviations * unit[column]
        judged = bench.detect_table(pd.DataFrame(rows, columns=samples.FEATURE_NAMES))
        assert judged.is_anomaly[40:80].all()
        if IN_ALARM not in [standing.state for standing in statuses_of(judged)]:
            silent.append(sensor)
    assert silent == []


def test_a_shift_that_hides_in_single_readings_is_an_alarm_all_the_same(service, asset):
    rows = shifted(HEALTHY, "flow", 3.0, slice(60, 160))
    results = service.detect_anomalies_batch(readings(asset, rows))
    assert np.mean([result.is_anomaly for result in results[60:]]) < 0.9
    assert results[100].asset.state is IN_ALARM


def test_the_alarm_is_that_of_the_asset_that_has_the_fault(service, asset):
    faulty, sound = readings(f"{asset}-1", FAULTY), readings(f"{asset}-2", HEALTHY)
    mixed = [either for both in zip(faulty, sound, strict=True) for either in both]
    results = service.detect_anomalies_batch(mixed)
    assert IN_ALARM in states(results[::2])
    assert set(states(results[1::2])) == {AssetState.UNKNOWN, NORMAL}


def test_two_groups_of_sensors_of_an_asset_are_two_histories(service, asset):
    faulty = [one | {"sensor_id": "drive end"} for one in readings(asset, FAULTY[40:90])]
    sound = [one | {"sensor_id": "free end"} for one in readings(asset, HEALTHY[40:90])]
    mixed = [either for both in zip(faulty, sound, strict=True) for either in both]
    results = one_by_one(service, mixed)
    assert IN_ALARM in states(results[::2])
    assert set(states(results[1::2])) == {AssetState.UNKNOWN, NORMAL}


def test_the_alarm_ends_after_the_fault_and_comes_once(service, asset):
    results = service.detect_anomalies_batch(readings(asset, FAULTY))
    in_alarm = [state is IN_ALARM for state in states(results)]
    assert changes(in_alarm) == 2
    # The average must be free of the fault, and then so many readings must speak well for it.
    end = max(place for place, alarm in enumerate(in_alarm) if alarm)
    assert FAULT.stop <= end < FAULT.stop + READINGS + OFF_DELAY
    assert set(states(results[end + 1 :])) == {NORMAL}


def test_a_signal_that_hovers_about_the_threshold_does_not_chatter(service):
    hovering = shifted(machine(3000, seed=7), "flow", 0.8, slice(0, None))
    judged = service.detect_table(pd.DataFrame(hovering, columns=SENSORS))
    crossings = changes((judged.asset_p_values < judged.alarm_limit).tolist())
    in_alarm = [standing.state is IN_ALARM for standing in statuses_of(judged)]
    assert crossings > 60
    assert 0 < changes(in_alarm) < crossings / 3


def test_since_and_began_are_the_readings_own_times(service, asset):
    rng = np.random.default_rng(1)
    # Years ago, and anything from a second to ten minutes apart.
    seconds = np.cumsum(rng.uniform(1.0, 600.0, len(FAULTY))).round(3) - 2e8
    requests = readings(asset, FAULTY, seconds.tolist())
    results = service.detect_anomalies_batch(requests)
    found, times = states(results), [request["timestamp"] for request in requests]
    assert results[0].asset.since == times[0]
    since = times[0]
    for result, time, before in zip(results, times, [AssetState.UNKNOWN, *found], strict=False):
        since = time if result.asset.state is not before else since
        assert result.asset.since == since
    raised = first(found, IN_ALARM)
    assert results[raised].asset.since == times[raised]
    for result in results:
        if result.asset.state is IN_ALARM:
            place = times.index(result.asset.began)
            assert abs(place - FAULT.start) <= 1
        else:
            assert result.asset.began is None


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("deviations", [-4.0, 8.0])
def test_the_beginning_of_a_change_is_found_near_where_it_was(service, sensor, deviations):
    rows = shifted(machine(160, seed=8), sensor, deviations, slice(90, 160))
    times = np.datetime64("2026-01-05", "us") + np.arange(160) * np.timedelta64(10, "s")
    standings = statuses_of(service.detect_table(pd.DataFrame(rows, columns=SENSORS), times))
    [began] = {standing.began for standing in standings if standing.state is IN_ALARM}
    assert abs((began - times[90]) / np.timedelta64(10, "s")) <= 3


# The same, however the readings come


def expected_states(
    service: AnomalyDetectionService, rows: np.ndarray
) -> list[tuple[AssetState, Any, Any]]:
    times = np.datetime64(START.replace(tzinfo=None), "us") + np.arange(len(rows)) * np.timedelta64(
        1, "s"
    )
    judged = service.detect_table(pd.DataFrame(rows, columns=SENSORS), times)
    return [
        (standing.state, _moment(standing.since), _moment(standing.began))
        for standing in statuses_of(judged)
    ]


def _moment(time: np.datetime64 | None) -> datetime | None:
    return None if time is None else time.astype(datetime).replace(tzinfo=UTC)


@pytest.mark.parametrize("at_once", [1, 7, 160])
def test_rows_one_by_one_in_batches_and_as_a_file_give_the_same_states(service, asset, at_once):
    requests = readings(asset, FAULTY)
    results = []
    for start in range(0, len(requests), at_once):
        results += service.detect_anomalies_batch(requests[start : start + at_once])
    told = [(result.asset.state, result.asset.since, result.asset.began) for result in results]
    assert {state for state, _, _ in told} == {AssetState.UNKNOWN, NORMAL, WATCH, IN_ALARM}
    assert told == expected_states(service, FAULTY)
    judged = service.detect_table(pd.DataFrame(FAULTY, columns=SENSORS))
    evidence = [np.nan if r.asset.evidence is None else r.asset.evidence for r in results]
    np.testing.assert_allclose(evidence, 1.0 - judged.asset_p_values, atol=1e-9)
    scores = [result.final_score for result in results]
    np.testing.assert_allclose(scores, 1.0 - judged.p_values, atol=1e-9)


def test_a_batch_in_any_order_gives_the_same_states(service, asset):
    order = np.random.default_rng(2).permutation(len(FAULTY))
    requests = readings(asset, FAULTY)
    shuffled = service.detect_anomalies_batch([requests[place] for place in order])
    in_order = service.detect_anomalies_batch(readings(f"{asset} sorted", FAULTY))
    assert IN_ALARM in states(shuffled)
    for place, result in zip(order, shuffled, strict=True):
        assert same_asset(result, in_order[place])


@pytest.mark.slow
def test_readings_that_come_twice_change_nothing(service, asset):
    once = one_by_one(service, readings(f"{asset} once", FAULTY[40:120]))
    assert IN_ALARM in states(once)
    requests = readings(asset, FAULTY[40:120])
    for place, request in enumerate(requests):
        told, again = one_by_one(service, [request, request])
        assert same_asset(told, once[place])
        assert same_asset(again, once[place])


def test_an_old_reading_sent_again_is_answered_as_before_and_changes_nothing_after(service, asset):
    once = service.detect_anomalies_batch(readings(f"{asset} once", FAULTY))
    requests = readings(asset, FAULTY)
    service.detect_anomalies_batch(requests[:90])
    for place in (30, 65, 75, 80):
        assert same_asset(service.detect_anomaly(requests[place]), once[place])
    # A lost answer: the last twenty are sent once more, with what is new.
    results = service.detect_anomalies_batch(requests[70:])
    assert IN_ALARM in states(results)
    for told, expected in zip(results, once[70:], strict=True):
        assert same_asset(told, expected)


def kept(service: AnomalyDetectionService, asset_id: str) -> dict[datetime, Assessed]:
    """Return what the history holds of an asset."""
    history = History(f"sqlite:///{service.settings.state_dir / 'history.db'}")
    with history.transaction(asset_id, None) as transaction:
        found = transaction.around(at(1e6), at(1e6), 10_000)
    history.close()
    return {reading.timestamp: reading.assessed for reading in found}


def test_a_late_reading_does_not_revise_what_was_said(service, asset):
    requests = readings(asset, FAULTY)
    late, in_time = requests[66], requests[:66] + requests[67:85]
    results = one_by_one(service, in_time)
    newest = results[-1]
    assert newest.asset.state is IN_ALARM
    said = kept(service, asset)
    answered = service.detect_anomaly(late)
    # It is answered as of its own time, when nobody knew of the fault yet.
    assert answered.asset.state is results[65].asset.state
    assert answered.asset.since == results[65].asset.since
    now = kept(service, asset)
    assert now.pop(late["timestamp"]).state == answered.asset.state
    assert now == said
    # The next one goes on from the newest.
    after = service.detect_anomaly(requests[85])
    assert (after.asset.state, after.asset.since) == (newest.asset.state, newest.asset.since)
    assert after.asset.began == newest.asset.began


def test_the_next_readings_take_a_late_one_into_account(service, asset):
    in_order = one_by_one(service, readings(f"{asset} in order", HEALTHY[:100]))
    requests = readings(asset, HEALTHY[:100])
    lost = one_by_one(service, readings(f"{asset} lost", HEALTHY)[:57])
    lost += one_by_one(service, readings(f"{asset} lost", HEALTHY)[58:60])
    one_by_one(service, requests[:57] + requests[58:59])
    service.detect_anomaly(requests[57])
    results = one_by_one(service, requests[59:])
    lstm = "lstm_autoencoder"
    assert results[0].models[lstm].score == pytest.approx(in_order[59].models[lstm].score, abs=1e-9)
    assert lost[-1].models[lstm].score != pytest.approx(in_order[59].models[lstm].score, abs=1e-9)
    # The reading that was judged without it has left the window by then: no trace remains.
    for told, expected in zip(results[READINGS:], in_order[59 + READINGS :], strict=True):
        assert same_asset(told, expected)


def test_an_absurd_late_reading_is_a_blip_too(service, asset):
    requests = readings(asset, shifted(HEALTHY, "flow", 60.0, slice(70, 71)))
    one_by_one(service, requests[:70] + requests[71:75])
    late = service.detect_anomaly(requests[70])
    assert late.is_anomaly
    assert late.asset.state is not IN_ALARM
    assert IN_ALARM not in states(one_by_one(service, requests[75:100]))


GAP = 3600.0


def test_after_a_gap_windows_start_afresh(service, asset):
    seconds = [*range(40), *np.arange(40, 80) + GAP]
    results = service.detect_anomalies_batch(readings(asset, HEALTHY[:80], seconds))
    assert results[39].abstained == {}
    assert results[39].asset.evidence is not None
    for place in range(40, 40 + WINDOW - 1):
        reach = place - 39
        reasons = {"lstm_autoencoder": f"its window has {reach} of {WINDOW} rows"}
        if reach == 1:
            reasons["vector_autoregression"] = "its window has 1 of 2 rows"
        assert results[place].abstained == reasons
    assert results[40].asset.evidence is None
    assert results[44].abstained == {}
    assert results[48].asset.evidence is None
    assert results[49].asset.evidence is not None


def test_a_pause_up_to_the_longest_one_allowed_is_no_gap(service, asset):
    seconds = [*range(40), *np.arange(39, 79) + GAP]
    results = service.detect_anomalies_batch(readings(asset, HEALTHY[:80], seconds))
    assert results[40].abstained == {}


def test_an_alarm_outlasts_a_gap_and_ends_by_what_comes_after_it(service, asset):
    # The machine is stopped in alarm, repaired, and started again.
    rows = np.concatenate([FAULTY[:90], HEALTHY[90:140]])
    seconds = [*range(90), *np.arange(90, 140) + GAP]
    repaired = service.detect_anomalies_batch(readings(asset, rows, seconds))
    at_once = service.detect_anomalies_batch(readings(f"{asset} at once", rows))
    assert repaired[89].asset.state is repaired[90].asset.state is IN_ALARM
    assert repaired[90].asset.since == repaired[89].asset.since
    assert repaired[90].asset.began == repaired[89].asset.began
    # Nothing of the fault is in the new window, so the alarm ends sooner than without the gap.
    ended = [90 + first(states(results[90:]), NORMAL) for results in (repaired, at_once)]
    assert 90 + OFF_DELAY <= ended[0] < ended[1]


def test_what_counts_as_a_gap_can_be_set(tmp_path):
    service = trained(tmp_path, QUICKEST, max_gap_s=5.0)
    found = {}
    for pause in (5.0, 5.1):
        seconds = [*range(30), *np.arange(30) + 29 + pause]
        results = one_by_one(service, readings(f"pump {pause}", HEALTHY[:60], seconds))
        found[pause] = results[30].asset.evidence
        times = np.array([at(second).replace(tzinfo=None) for second in seconds], "datetime64[us]")
        judged = service.detect_table(pd.DataFrame(HEALTHY[:60], columns=SENSORS), times)
        assert np.isnan(judged.asset_p_values[30]) == (found[pause] is None)
    service.close()
    assert found[5.0] is not None
    assert found[5.1] is None


def test_irregular_sampling_gives_the_states_of_the_rows_with_their_own_times(service, asset):
    seconds = np.cumsum(np.random.default_rng(3).exponential(60.0, len(FAULTY))).round(6)
    irregular = one_by_one(service, readings(asset, FAULTY, seconds.tolist()))
    regular = service.detect_anomalies_batch(readings(f"{asset} regular", FAULTY))
    assert IN_ALARM in states(irregular)
    own_time = {at(place): at(second) for place, second in enumerate(seconds)}
    for told, expected in zip(irregular, regular, strict=True):
        assert told.asset.state is expected.asset.state
        assert told.asset.since == own_time[expected.asset.since]
        assert told.asset.began == (own_time[began] if (began := expected.asset.began) else None)


@pytest.mark.slow
def test_the_state_survives_a_restart(tmp_path):
    requests = readings("pump", FAULTY)
    told: list[tuple[AssetState, Any, Any]] = []
    # It is restarted while all is well, in the alarm, and while the alarm is about to end.
    for part in (slice(0, 50), slice(50, 80), slice(80, 108), slice(108, 160)):
        service = trained(tmp_path, QUICKEST)
        for result in one_by_one(service, requests[part]):
            told.append((result.asset.state, result.asset.since, result.asset.began))
        service.close()
    assert told[79][0] is told[80][0] is told[107][0] is IN_ALARM
    assert told == expected_states(service, FAULTY)


def broken_histories(folder: Path) -> dict[str, dict[str, Any]]:
    """Return settings with a history that cannot be used, by what is wrong with it."""
    (folder / "a-folder").mkdir()
    (folder / "a-file").write_text("no database " * 1000)
    readonly = folder / "readonly.db"
    History(f"sqlite:///{readonly}").close()
    return {
        "a folder": {"history_url": f"sqlite:///{folder / 'a-folder'}"},
        "no database": {"history_url": f"sqlite:///{folder / 'a-file'}"},
        "read-only": {"history_url": f"sqlite:///file:{readonly}?mode=ro&uri=true"},
        "nobody listens": {"history_url": "postgresql+psycopg://vigie@127.0.0.1:1/vigie"},
        "no place for the state": {"state_dir": folder / "a-file" / "state"},
    }


@pytest.mark.parametrize(
    "broken", ["a folder", "no database", "read-only", "nobody listens", "no place for the state"]
)
def test_detection_goes_on_when_the_history_cannot_be_used(tmp_path, caplog, broken):
    service = trained(tmp_path, QUICKEST, **broken_histories(tmp_path)[broken])
    results = service.detect_anomalies_batch(readings("pump", FAULTY))
    # A batch carries its own past.
    assert IN_ALARM in states(results)
    absurd = shifted(HEALTHY[:1], "flow", 60.0, slice(0, 1))
    [result] = one_by_one(service, readings("pump", absurd))
    assert result.is_anomaly
    assert result.asset.state is AssetState.UNKNOWN
    # However many readings it does not keep.
    [error] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "not stored" in error.getMessage()
    service.close()


def test_a_history_that_comes_back_is_used_again_and_what_it_missed_is_counted(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("vigie.services.detection.QUIET_AFTER_FAILURE_S", 0.0)
    folder = tmp_path / "not-yet"
    service = trained(tmp_path, QUICKEST, history_url=f"sqlite:///{folder / 'history.db'}")
    requests = readings("pump", FAULTY[: 2 + READINGS])
    one_by_one(service, requests[:2])
    folder.mkdir()
    results = one_by_one(service, requests[2:])
    assert states(results)[-1] is NORMAL
    assert "2 readings were not stored" in caplog.text
    service.close()


@pytest.mark.slow
def test_a_database_that_never_answers_is_waited_for_once(tmp_path, monkeypatch):
    monkeypatch.setattr("vigie.services.detection.QUIET_AFTER_FAILURE_S", 1000.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url = f"postgresql+psycopg://vigie@127.0.0.1:{port}/vigie?sslmode=disable"
        service = trained(tmp_path, QUICKEST, history_url=url)
        results = one_by_one(service, readings("pump", FAULTY[:20]))
        assert set(states(results)) == {AssetState.UNKNOWN}
        service.close()
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_without_a_history_nothing_is_kept_and_who_needs_one_says_so(tmp_path):
    service = trained(tmp_path, history_enabled=False)
    results = one_by_one(service, readings("pump", FAULTY[:90]))
    assert set(states(results)) == {AssetState.UNKNOWN}
    reason = "its window has 1 of {} rows, since the history is disabled"
    assert results[-1].abstained == {
        "vector_autoregression": reason.format(2),
        "lstm_autoencoder": reason.format(WINDOW),
    }
    assert set(results[-1].models) == set(ROW_MODELS)
    # A batch carries its own past.
    assert IN_ALARM in states(service.detect_anomalies_batch(readings("pump", FAULTY)))
    service.close()
    assert not (tmp_path / "history.db").exists()


@pytest.mark.parametrize("history_enabled", [True, False])
def test_readings_of_one_time_each_have_their_own_verdict(tmp_path, history_enabled):
    service = trained(tmp_path, QUICKEST, history_enabled=history_enabled)
    usual = FAULTY[0]
    odd = usual + 20 * UNIT
    for number, rows in enumerate(([odd, usual], [usual, odd], [usual, odd, usual])):
        alone = [
            service.detect_anomaly(one).is_anomaly
            for place, row in enumerate(rows)
            for one in readings(f"alone {number} {place}", np.array([row]))
        ]
        together = readings(f"together {number}", np.array(rows), [0.0] * len(rows))
        assert [one.is_anomaly for one in service.detect_anomalies_batch(together)] == alone
        assert any(alone)
        assert not all(alone)
    service.close()


@pytest.mark.slow
def test_services_on_one_history_go_on_from_each_other(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    services = [trained(tmp_path / name, QUICKEST, history_url=url) for name in ("one", "other")]
    requests = readings("pump", FAULTY)
    # Readings come to either of them by chance, one of them late and one twice.
    order = [*range(66), *range(67, 80), 66, *range(80, 110), 109, *range(110, 160)]
    by_chance = np.random.default_rng(6).integers(2, size=len(order))
    told = [
        services[which].detect_anomaly(requests[place])
        for which, place in zip(by_chance, order, strict=True)
    ]
    alone = trained(tmp_path / "alone", QUICKEST)
    expected = one_by_one(alone, [requests[place] for place in order])
    assert IN_ALARM in states(told)
    for result, other in zip(told, expected, strict=True):
        assert same_asset(result, other)
    for service in (*services, alone):
        service.close()


# The rules themselves

CONTAMINATION = 0.01
ALARM, CLEAR = OF_AVERAGES.alarm, OF_AVERAGES.clear
p_values = st.one_of(
    st.floats(1e-9, 1.0),
    st.floats(1e-4, 0.1),
    st.sampled_from([ALARM * CONTAMINATION, CLEAR * CONTAMINATION]),
    st.just(float("nan")),
)
courses = st.lists(p_values, min_size=1, max_size=60).map(np.array)


def times(n: int) -> np.ndarray:
    return np.datetime64("2026-01-05", "us") + np.arange(n) * np.timedelta64(1, "s")


def followed(course: np.ndarray, before: AssetStatus | None = None) -> list[AssetStatus]:
    return follow(before, times(len(course)), course, CONTAMINATION)


def follow(
    before: AssetStatus | None, times: np.ndarray, p_values: np.ndarray, contamination: float
) -> list[AssetStatus]:
    nothing, never = np.full(len(times), np.nan), np.zeros(len(times), bool)
    known = np.zeros(len(times), np.uint8)
    evidence = Evidence(p_values, nothing, never, never, known, OF_AVERAGES)
    series = StatusSeries.following(before, times, evidence, contamination)
    return [series.at(reading) for reading in range(len(times))]


def test_evidence_moves_the_state_by_the_rules_of_an_alarm_system():
    strong, weak, none = 0.5 * ALARM, 0.5 * (ALARM + CLEAR), 2.0 * CLEAR
    course = [none, weak, none, strong, none, none, weak, *[none] * (OFF_DELAY - 1), weak]
    course += [*[none] * OFF_DELAY, none, strong]
    found = [standing.state for standing in followed(CONTAMINATION * np.array(course))]
    assert found[:4] == [NORMAL, WATCH, WATCH, IN_ALARM]
    # Weak evidence keeps an alarm, and the count of good readings begins again.
    end = len(found) - 3
    assert set(found[3:end]) == {IN_ALARM}
    assert found[end:] == [NORMAL, NORMAL, IN_ALARM]


def test_a_watch_ends_as_an_alarm_does():
    weak, none = 0.5 * (ALARM + CLEAR), 2.0 * CLEAR
    course = CONTAMINATION * np.array([weak, *[none] * OFF_DELAY, none])
    found = [standing.state for standing in followed(course)]
    assert found == [*[WATCH] * OFF_DELAY, NORMAL, NORMAL]


@few_examples
@given(courses)
def test_strong_evidence_raises_an_alarm_at_once_and_weak_evidence_never(course):
    before = NORMAL
    for standing, p_value in zip(followed(course), course, strict=True):
        if p_value < ALARM * CONTAMINATION:
            assert standing.state is IN_ALARM
        elif before is not IN_ALARM:
            assert standing.state is not IN_ALARM
        before = standing.state


@few_examples
@given(courses)
def test_an_alarm_never_ends_before_so_many_calm_readings_in_a_row(course):
    known = course[~np.isnan(course)]
    found = [standing.state for standing in followed(known)]
    for place, (before, state) in enumerate(pairwise(found), start=1):
        if before is not NORMAL and state is NORMAL:
            last = known[max(place - OFF_DELAY + 1, 0) : place + 1]
            assert len(last) == OFF_DELAY
            assert (last >= CLEAR * CONTAMINATION).all()


@few_examples
@given(courses)
def test_readings_that_say_nothing_change_nothing(course):
    known = ~np.isnan(course)
    found = followed(course)
    for (before, standing), p_value in zip(pairwise(found), course[1:], strict=True):
        if np.isnan(p_value):
            assert standing == before
    # Nor do they count for anything later.
    alone = follow(found[0], times(len(course))[1:][known[1:]], course[1:][known[1:]], 0.01)
    assert [s for s, k in zip(found[1:], known[1:], strict=True) if k] == alone


@few_examples
@given(courses)
def test_since_is_when_the_state_last_changed(course):
    found = followed(course)
    since = times(1)[0]
    for place, standing in enumerate(found):
        if place > 0 and standing.state is not found[place - 1].state:
            since = times(len(course))[place]
        elif place == 0:
            since = standing.since
        assert standing.since == since


@few_examples
@given(courses, st.integers(0, 60))
def test_a_course_may_be_interrupted_anywhere(course, cut):
    whole = followed(course)
    parts = follow(None, times(len(course))[:cut], course[:cut], CONTAMINATION)
    before = parts[-1] if parts else None
    parts += follow(before, times(len(course))[cut:], course[cut:], CONTAMINATION)
    assert parts == whole


@pytest.mark.parametrize("contamination", [0.001, 0.01, 0.05, 0.1, 0.2, 0.4])
def test_an_alarm_can_be_raised_and_ended_at_any_contamination(contamination):
    alarm = AssetStatus(IN_ALARM, times(1)[0])
    well = np.full(20, 0.9)
    assert follow(alarm, times(20), well, contamination)[-1].state is NORMAL
    assert follow(None, times(20), well, contamination)[-1].state is NORMAL
    bad = np.full(1, contamination / 10.0)
    assert follow(None, times(1), bad, contamination)[-1].state is IN_ALARM


def dependent(n: int, seed: int, kind: str) -> np.ndarray:
    """Return windows of p-values, each column uniform and all of them bound together."""
    rng = np.random.default_rng(seed)
    grid = (np.arange(n) + 1.0) / n
    columns = np.stack([rng.permutation(grid) for _ in range(READINGS)], axis=1)
    match kind:
        case "alike":
            columns[:] = columns[:, :1]
        case "opposed":
            columns[:, ::2] = grid[:, None]
            columns[:, 1::2] = grid[::-1, None]
        case "conspiring":
            # A bare majority of each window is as small as it can be.
            most = READINGS // 2 + 1
            small = int(n * most / READINGS)
            for column in range(READINGS):
                order = np.arange(n)
                conspires = (order + column) % READINGS < most
                rows = np.concatenate([order[conspires], order[~conspires]])
                assert conspires.sum() >= small - READINGS
                columns[rows, column] = np.sort(grid)
    return columns


@few_examples
@given(
    st.integers(20, 300),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["independent", "alike", "opposed", "conspiring"]),
    st.floats(0.001, 1.0),
)
def test_readings_together_are_a_p_value_however_they_depend_on_each_other(n, seed, kind, alpha):
    windows = dependent(n, seed, kind)
    flat = windows.ravel()
    found = combined_readings(flat, np.arange(len(flat)) + 1)[READINGS - 1 :: READINGS]
    assert len(found) == n
    assert (found <= alpha).mean() <= alpha + 1e-12


@few_examples
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_readings_within_a_window_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    window = rng.uniform(size=READINGS)
    reach = np.array([READINGS])
    found = combined_readings(window, reach)
    assert found == combined_readings(rng.permutation(window), reach)
    assert 0.0 < found[0] <= 1.0


def test_readings_together_say_nothing_until_there_are_enough_of_them():
    window = np.full(3 * READINGS, 1e-4)
    reach = np.concatenate([np.arange(READINGS), np.arange(2 * READINGS)]) + 1
    found = combined_readings(window, reach)
    assert (np.isnan(found) == (reach < READINGS)).all()
    assert np.isnan(combined_readings(window[: READINGS - 1], reach[: READINGS - 1])).all()
    # Of a long past, only what is asked for.
    np.testing.assert_array_equal(combined_readings(window, reach[-3:]), found[-3:])


def test_fewer_than_half_of_the_readings_convince_nobody():
    window = np.full(READINGS, 0.6)
    window[: READINGS // 2 - 1] = 1e-9
    assert combined_readings(window, np.array([READINGS]))[0] == 1.0


@few_examples
@given(st.integers(2, 80), st.data())
@example(40, None)
def test_a_step_is_found_where_it_is(n, data):
    if data is None:
        place, height, seed = 20, -3.0, 0
    else:
        place = data.draw(st.integers(1, n - 1))
        height = data.draw(st.floats(0.5, 1e6)) * data.draw(st.sampled_from([-1.0, 1.0]))
        seed = data.draw(st.integers(0, 2**32 - 1))
    noise = 0.02 * abs(height) * np.random.default_rng(seed).uniform(-1.0, 1.0, n)
    step = np.where(np.arange(n) < place, 0.0, height)
    assert change_point(17.0 + step + noise) == place


def test_where_nothing_changes_a_beginning_is_still_a_row():
    for n in range(1, 5):
        assert 0 <= change_point(np.full(n, 3.0)) < n


votes = st.lists(
    st.tuples(st.floats(1e-9, 0.98), st.floats(0.01, 10.0)), min_size=1, max_size=6
).map(np.array)


@few_examples
@given(votes, st.floats(0.01, 100.0))
def test_only_the_ratio_of_weights_counts(votes, factor):
    p, weights = votes[:, :1], votes[:, 1]
    found = combine(p, weights)
    np.testing.assert_allclose(combine(p, factor * weights), found, rtol=1e-9)
    np.testing.assert_allclose(combine(p, np.ones(len(p))), combine(p), rtol=1e-12)


@few_examples
@given(votes)
def test_a_weighted_verdict_lies_between_the_votes(votes):
    p, weights = votes[:, :1], votes[:, 1]
    [found] = combine(p, weights)
    assert p.min() * (1 - 1e-9) <= found <= p.max() * (1 + 1e-9)


@few_examples
@given(votes, st.integers(0, 5), st.floats(0.05, 0.95))
def test_a_smaller_vote_never_makes_the_verdict_milder(votes, which, factor):
    p, weights = votes[:, :1], votes[:, 1]
    smaller = p.copy()
    smaller[which % len(p)] *= factor
    assert combine(smaller, weights)[0] <= combine(p, weights)[0] * (1 + 1e-12)


@few_examples
@given(votes, st.floats(0.01, 10.0))
def test_a_vote_that_is_not_cast_has_no_weight(votes, weight):
    p, weights = votes[:, :1], votes[:, 1]
    with_silent = combine(np.append(p, [[np.nan]], axis=0), np.append(weights, weight))
    np.testing.assert_allclose(with_silent, combine(p, weights), rtol=1e-12)


@few_examples
@given(st.floats(1e-6, 0.3), st.floats(1.5, 100.0))
def test_the_heavier_vote_decides(p, weight):
    one, other = np.array([[p]]), np.array([[0.9]])
    heavy = combine(np.concatenate([one, other]), np.array([weight, 1.0]))
    light = combine(np.concatenate([one, other]), np.array([1.0, weight]))
    assert heavy[0] < light[0]


def test_weighted_votes_of_healthy_readings_alarm_at_the_rate_asked():
    rng = np.random.default_rng(4)
    weights = np.array([1.0, 1.0, 1.0, 1.0 / 30.0])
    for dependence in (0.0, 0.9):
        shared = rng.uniform(size=40_000) < dependence
        p = rng.uniform(size=(4, 40_000))
        p = np.where(shared, p[0], p)
        for alpha in (0.001, 0.01):
            rate = (combine(p, weights) < alpha).mean()
            assert rate < alpha + 4.0 * np.sqrt(alpha / 40_000) + 0.2 * alpha


def evidence(levels, readings, forecasts=()) -> Evidence:
    frozen = np.zeros(len(readings), bool)
    known = np.zeros(len(readings), np.uint8)
    return Evidence.of(levels, forecasts, readings, frozen, known, CONTAMINATION)


def test_evidence_on_nothing_is_nothing():
    nothing = np.full(3, np.nan)
    assert np.isnan(evidence([nothing, nothing], nothing).p_values).all()
    assert np.isnan(evidence([], nothing).p_values).all()
    assert np.isnan(evidence([nothing], nothing, [(nothing, nothing)]).p_values).all()


def test_the_readings_count_little_beside_the_trends():
    calm, odd = np.array([0.5]), np.array([0.005])
    by_readings = evidence([calm, calm, calm], odd).p_values[0]
    by_a_trend = evidence([odd, calm, calm], calm).p_values[0]
    assert odd[0] < by_a_trend < CLEAR * CONTAMINATION < by_readings < 0.5


@pytest.mark.parametrize("with_forecast", [True, False])
def test_the_readings_raise_an_alarm_where_their_p_value_is_that_low(with_forecast):
    # The averages of a wide table are always calm.
    calm = np.array([0.999, 0.999])
    readings = np.array([0.5, 1.5]) * OF_FORECASTS.at(CONTAMINATION)[1]
    found = evidence([calm], readings, [(calm, calm)] if with_forecast else [])
    assert found.p_values[0] == readings[0]
    assert found.p_values[1] > found.limits.at(CONTAMINATION)[0]


def test_no_model_takes_away_from_the_evidence_of_a_forecast():
    calm, odd = np.array([0.999]), np.array([0.0001])
    assert evidence([calm] * 3, calm, [(odd, odd)]).p_values[0] < 2.0 * odd[0]


# A change, a drift, and sensors that are frozen

WEAK, STRONG = OF_FORECASTS.at(CONTAMINATION)
UNCHANGED, CHANGED, CERTAINLY_CHANGED = 0.5, 0.03, 0.0001
DRIFT, BAD_DATA = AssetState.DRIFT, AssetState.BAD_DATA


def with_changes(
    p_values: Any,
    changes: Any,
    odd: Any = (),
    frozen: Any = (),
    before: AssetStatus | None = None,
    points: Any = (),
) -> list[AssetStatus]:
    n = len(p_values)
    evidence = Evidence(
        np.array(p_values, float),
        np.array(changes, float),
        np.array(odd, bool) if len(odd) else np.zeros(n, bool),
        np.array(frozen, bool) if len(frozen) else np.zeros(n, bool),
        np.array(points, np.uint8) if len(points) else np.zeros(n, np.uint8),
        OF_FORECASTS,
    )
    series = StatusSeries.following(before, times(n), evidence, CONTAMINATION)
    return [series.at(reading) for reading in range(n)]


def states_with(*args: Any, **more: Any) -> list[AssetState]:
    return [status.state for status in with_changes(*args, **more)]


def test_strong_evidence_with_a_change_is_an_alarm_and_without_one_a_drift():
    strong = [0.5 * STRONG] * 3
    assert states_with(strong, [UNCHANGED] * 3) == [DRIFT] * 3
    assert states_with(strong, [CHANGED] * 3) == [IN_ALARM] * 3
    assert states_with(strong, [float("nan")] * 3) == [IN_ALARM] * 3


def test_from_a_drift_an_alarm_takes_a_change_that_is_certain():
    strong = [0.5 * STRONG] * 3
    assert states_with(strong, [UNCHANGED, CHANGED, CHANGED]) == [DRIFT] * 3
    assert states_with(strong, [UNCHANGED, CERTAINLY_CHANGED, UNCHANGED]) == [
        DRIFT,
        *[IN_ALARM] * 2,
    ]


def test_a_drift_ends_as_an_alarm_does():
    course = [0.5 * STRONG, *[0.5] * (OFF_DELAY + 1)]
    assert states_with(course, [UNCHANGED] * len(course)) == [
        *[DRIFT] * OFF_DELAY,
        *[NORMAL] * 2,
    ]


def test_an_alarm_in_a_drift_ends_when_the_evidence_is_what_it_was_before():
    drift = 0.3 * STRONG
    course = [*[drift] * 300, *[1e-6] * 10, *[drift] * (OFF_DELAY + 1)]
    changes = [*[UNCHANGED] * 300, *[CERTAINLY_CHANGED] * 10, *[UNCHANGED] * (OFF_DELAY + 1)]
    found = states_with(course, changes)
    assert set(found[:300]) == {DRIFT}
    assert set(found[300 : 310 + OFF_DELAY - 1]) == {IN_ALARM}
    assert found[310 + OFF_DELAY - 1 :] == [DRIFT] * 2
    # The same evidence sustains the alarm of an asset that was well before.
    assert states_with(course[300:], changes[300:])[-1] is IN_ALARM


def test_readings_that_are_mostly_anomalies_are_at_least_a_watch():
    calm = [0.5] * (OFF_DELAY + 3)
    odd = [False, True, True, *[False] * OFF_DELAY]
    found = states_with(calm, [UNCHANGED] * len(calm), odd)
    assert found == [NORMAL, *[WATCH] * (OFF_DELAY + 1), NORMAL]


def test_a_frozen_sensor_is_bad_data_unless_the_asset_is_worse():
    course = [0.5, 0.5, 0.5 * WEAK, 0.5 * STRONG, 0.5, 0.5]
    changes = [UNCHANGED] * 3 + [CHANGED] + [UNCHANGED] * 2
    frozen = [False, True, True, True, True, False]
    assert states_with(course, changes, (), frozen) == [
        *(NORMAL, BAD_DATA, BAD_DATA, IN_ALARM, IN_ALARM, IN_ALARM),
    ]
    assert states_with([0.5] * 3, [UNCHANGED] * 3, (), [True, True, False]) == [
        *(BAD_DATA, BAD_DATA, NORMAL),
    ]


@few_examples
@given(st.data())
def test_with_changes_too_a_course_may_be_interrupted_anywhere(data):
    n = data.draw(st.integers(1, 60))

    def of(*some: float) -> list[float]:
        return data.draw(st.lists(st.sampled_from(some), min_size=n, max_size=n))

    columns = [
        of(0.5, 0.5 * WEAK, 0.5 * STRONG, 1e-6, float("nan")),
        of(UNCHANGED, CHANGED, CERTAINLY_CHANGED, float("nan")),
        of(True, False),
        of(True, False),
    ]
    cut = data.draw(st.integers(1, n))
    whole = with_changes(*columns)
    first = with_changes(*(column[:cut] for column in columns))
    assert first == whole[:cut]
    if cut < n:
        rest = with_changes(*(column[cut:] for column in columns), before=first[-1])
        told = [(s.state, s.calm, s.usual) for s in whole[cut:]]
        assert [(s.state, s.calm, s.usual) for s in rest] == told


# Operating points that training has not seen


def test_an_unknown_operating_point_lasts_until_the_evidence_no_longer_rests_on_it():
    strong = [1e-9] * 12
    points = [0, 0, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0]
    found = states_with(strong, [0.5] * 12, points=points)
    assert found[2:7] == [AssetState.UNKNOWN_OPERATING_POINT] * 5
    assert AssetState.UNKNOWN_OPERATING_POINT not in [*found[:2], *found[7:]]


def test_rows_near_an_unknown_operating_point_do_not_begin_one():
    assert states_with([0.5] * 3, [0.5] * 3, points=[1, 1, 1]) == [AssetState.NORMAL] * 3


def test_an_alarm_outlasts_an_unknown_operating_point():
    evidence, changes = [1e-9] * 6, [1e-9] * 6
    assert states_with(evidence, changes, points=[0, 0, 2, 2, 2, 2])[1:] == [IN_ALARM] * 5


def test_nothing_raises_an_alarm_at_an_unknown_operating_point():
    assert IN_ALARM not in states_with([1e-9] * 6, [1e-9] * 6, points=[2] * 6)
