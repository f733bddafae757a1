"""Long files: judged part by part as in one go, told in a few lines or row by row."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from vigie import samples
from vigie.assessment.engine import advance
from vigie.assessment.status import STATES, AssetStatus
from vigie.assessment.stream import Faults, Part, StateCounts, ahead
from vigie.cli.render.events import event_sheet
from vigie.cli.render.rows import Writer
from vigie.cli.render.verdict import Verdict
from vigie.config import Settings
from vigie.errors import InvalidDataError
from vigie.events.gathering import MOST_EXPLAINED, MOST_TOLD, Events, Rows
from vigie.models.anomaly_data import AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.tables import reading
from vigie.tables.options import ReadOptions
from vigie.tables.reading import Recording, read_table

NAMES = list(samples.FEATURE_NAMES)
N_ROWS = 900


@pytest.fixture(scope="module")
def service() -> AnomalyDetectionService:
    """Three cheap models of the simulated bench."""
    service = AnomalyDetectionService(
        Settings(
            mlflow_enabled=False,
            n_estimators=25,
            epochs=2,
            encoder_layers=(8,),
            decoder_layers=(8,),
            sequence_length=5,
        )
    )
    outcome = service.train_all_models(samples.healthy(600).data, NAMES)
    assert {model["status"] for model in outcome.values()} == {"trained"}, outcome
    return service


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """A recording with all that a stream must carry over: faults, gaps, a sensor that freezes."""
    rows = np.concatenate(
        [
            samples.faulty("bearing_wear", 450, onset=150).data,
            samples.healthy(450, seed=3).data,
        ]
    )
    rows[500:600, 2] = rows[500, 2]
    rows[::37, 4] = np.nan
    rows[700:705, 1] *= 1e4
    rows[820] = np.nan
    return pd.DataFrame(rows, columns=NAMES)


@pytest.fixture(scope="module")
def times() -> np.ndarray:
    seconds = np.arange(N_ROWS) * 10
    seconds[633:] += 7200
    return np.datetime64("2026-01-05T08:00:00", "us") + seconds * np.timedelta64(1, "s")


def parts_of(
    service: AnomalyDetectionService, table: pd.DataFrame, times: np.ndarray, size: int
) -> list[Part]:
    stream = service.stream(table.columns, "impute")
    cuts = [slice(start, start + size) for start in range(0, len(table), size)]
    return list(stream.assess_all((table.iloc[cut], times[cut]) for cut in cuts))


def lines_of(parts: list[Part], is_json: bool) -> str:
    out = io.BytesIO()
    writer = Writer(out, is_json, dict.fromkeys(parts[0].assessment.ensemble.models), 0.99)
    for part in parts:
        writer.write(part)
    writer.close()
    return out.getvalue().decode()


def told_of(parts: list[Part]) -> Events:
    found = Events()
    for part in parts:
        found.add(Rows.of(part))
    return found


def statuses_of(part: Part) -> list[AssetStatus]:
    return [part.assessment.status(row) for row in range(len(part.assessment))]


def frozen_of(part: Part, row: int) -> dict[str, int]:
    said = part.assessment
    names = said.ensemble.sensors.names
    frozen = np.flatnonzero(said.frozen[row])
    return {names[column]: int(said.held[row, column]) for column in frozen}


def faults_of(parts: list[Part]) -> list[Any]:
    found = Faults()
    for part in parts:
        found.add(part)
    return found.all()


@pytest.fixture(scope="module")
def whole(service, table, times) -> list[Part]:
    return parts_of(service, table, times, N_ROWS)


def verdict_on(service: AnomalyDetectionService, rows: np.ndarray) -> Verdict:
    stream, verdict = service.stream(NAMES, "impute"), Verdict(None, 0)
    for part in stream.assess_all([(pd.DataFrame(rows, columns=NAMES), None)]):
        verdict.add(part)
    return verdict


@pytest.fixture(scope="module")
def elsewhere(service) -> Verdict:
    """A recording of the bench at a load that training has not seen."""
    rows = samples.healthy(600).data
    return verdict_on(service, samples.healthy(300, seed=5).data + 4.0 * np.ptp(rows, axis=0))


@pytest.fixture(scope="module", params=[7, 100])
def cut(request, service, table, times) -> list[Part]:
    return parts_of(service, table, times, request.param)


def test_rows_are_judged_the_same_however_they_are_cut(whole, cut):
    [one] = whole
    for said in ("p_values", "asset_p_values", "conservative_p_values"):
        together = np.concatenate([getattr(part.assessment, said) for part in cut])
        np.testing.assert_allclose(together, getattr(one.assessment, said), rtol=1e-9, atol=1e-12)
    for name, p_values in one.assessment.scores.p_values.items():
        together = np.concatenate([part.assessment.scores.p_values[name] for part in cut])
        np.testing.assert_allclose(together, p_values, rtol=1e-9, atol=1e-12)
    assert one.assessment.is_anomaly.any()
    assert one.assessment.in_alarm.any()


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 70])
def test_errors_of_forecasts_are_the_same_kept_or_computed_anew(
    service, table, times, whole, size, forgets
):
    ensemble = whole[0].assessment.ensemble
    look_back, scored = ensemble.no_look_back, []
    values, known, n_rows = table.to_numpy(), np.empty(0), ensemble.n_look_back
    for start in range(0, N_ROWS, size):
        cut = slice(start, start + size)
        rows = ensemble.sensors.examine(values[cut])
        assessment, look_back = advance(ensemble, look_back, times[cut], rows)
        scored.append(assessment.scores)
        assert start == 0 or set(look_back.rows.errors) == {"vector_autoregression"}
        known = np.append(known, assessment.conservative_p_values)
        if forgets:
            # As a history that is read after a restart.
            so_far = ensemble.sensors.examine(values[: cut.stop])
            none = ensemble.no_look_back.rows
            timeline = none.followed_by(times[: cut.stop], so_far, ensemble.max_gap_s)
            look_back = replace(look_back, rows=timeline.last(n_rows), p_values=known[-n_rows:])
    for kind in ("raw", "p_values", "trends", "changes"):
        for name, expected in getattr(whole[0].assessment.scores, kind).items():
            found = np.concatenate([getattr(scores, kind)[name] for scores in scored])
            np.testing.assert_array_equal(found, expected, err_msg=f"{kind} of {name}")


def test_states_and_beginnings_are_the_same_however_rows_are_cut(whole, cut):
    [one] = whole
    together = [s for part in cut for s in statuses_of(part)]
    assert together == statuses_of(one)
    states = np.concatenate([part.assessment.statuses.states for part in cut])
    assert np.array_equal(states, one.assessment.statuses.states)


def test_what_is_wrong_with_sensors_is_told_the_same_however_rows_are_cut(whole, cut):
    [one] = whole
    assert faults_of(cut) == one.assessment.faults()
    assert {fault.kind for fault in faults_of(cut)} >= {"missing", "frozen"}


def test_bad_data_is_an_event_that_names_the_frozen_sensor(whole):
    [one] = whole
    bad = [event for event in told_of(whole).told() if event.state is AssetState.BAD_DATA]
    assert bad
    for event in bad:
        named = [sensor for sensor in event.sensors if sensor.share > 0.0]
        assert {sensor.name for sensor in named} == set(frozen_of(one, event.peak))
        for sensor in named:
            read = one.assessment.rows.values[event.peak, NAMES.index(sensor.name)]
            assert sensor.value == read


def test_a_slow_move_is_an_event_and_its_odd_readings_are_none_beside_it():
    states = np.zeros(40, np.uint8)
    states[5:30] = STATES.index(AssetState.DRIFT)
    p_values = np.where(np.arange(40) % 10 == 0, 1e-4, 0.5)
    found = Events()
    found.add(Rows(0, states, p_values < 0.01, np.full(40, 0.001), p_values, 0.01))
    told = found.told()
    assert [(event.state, event.first, event.last, event.n_anomalies) for event in told] == [
        (None, 0, 30, 2),
        (AssetState.DRIFT, 5, 29, 2),
    ]
    text = io.StringIO()
    Console(width=80, file=text).print(event_sheet([(None, 0, told)]))
    assert "drift" in text.getvalue()
    assert "2 of 31 anomalous" in text.getvalue()
    assert "2 of 25 anomalous" in text.getvalue()


def test_events_are_the_same_however_rows_are_cut(whole, cut):
    one, other = told_of(whole), told_of(cut)
    assert one.counts == other.counts
    assert (one.n_anomalies, one.n_rows) == (other.n_anomalies, other.n_rows)
    assert len(one.told()) == one.n_events > one.counts[AssetState.ALARM] > 0
    assert one.counts[AssetState.BAD_DATA] > 0
    assert max(event.last - event.first for event in one.told()) > MOST_EXPLAINED
    for event, same in zip(one.told(), other.told(), strict=True):
        assert (event.first, event.last, event.peak) == (same.first, same.last, same.peak)
        assert (event.state, event.n_anomalies) == (same.state, same.n_anomalies)
        assert (event.start, event.end) == (same.start, same.end)
        assert event.criticality == same.criticality
        assert [s.name for s in event.sensors] == [s.name for s in same.sensors]
        for sensor, again in zip(event.sensors, same.sensors, strict=True):
            assert sensor.share == pytest.approx(again.share, rel=1e-6)
            assert sensor.value == pytest.approx(again.value, rel=1e-9)


def test_rows_are_written_the_same_however_they_are_cut(whole, cut):
    assert digits_cut(lines_of(cut, is_json=False)) == digits_cut(lines_of(whole, is_json=False))
    one, other = (json.loads(lines_of(parts, is_json=True)) for parts in (whole, cut))
    assert [row | scores(row) for row in one["rows"]] == [
        row | scores(row) for row in other["rows"]
    ]


def scores(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(v, 9) for name, v in row.items() if isinstance(v, float)}


def digits_cut(text: str) -> list[list[Any]]:
    table = pd.read_csv(io.StringIO(text))
    return table.round(9).astype(str).to_numpy().tolist()


def test_json_says_of_each_row_what_the_verdict_says(whole):
    [part] = whole
    rows = json.loads(lines_of(whole, is_json=True))["rows"]
    assert len(rows) == N_ROWS
    reasons = part.assessment.reasons(np.flatnonzero(part.assessment.is_anomaly))
    standings = statuses_of(part)
    for place, row in enumerate(rows):
        p_value = part.assessment.p_values[place]
        assert row["row"] == place + 1
        assert row["time"] == f"{part.times[place].astype('M8[s]')}Z"
        assert row["final_score"] == (None if np.isnan(p_value) else 1.0 - p_value)
        assert row["is_anomaly"] == bool(part.assessment.is_anomaly[place])
        assert row["sensor"] == (reasons[place][0].name if place in reasons else None)
        assert row["state"] == standings[place].state
        assert row["imputed"] == part.assessment.rows.unusable(place)
        assert row["frozen"] == frozen_of(part, place)
    assert rows[820]["final_score"] is None
    assert rows[590]["frozen"]


def test_an_event_begins_and_ends_when_its_rows_were_measured(whole, times):
    for event in told_of(whole).told():
        assert (event.start, event.end) == (times[event.first], times[event.last])
        assert event.duration_s == (times[event.last] - times[event.first]) / np.timedelta64(1, "s")


def test_rows_without_times_are_written_and_told_by_their_numbers(service, table):
    stream = service.stream(table.columns, "impute")
    parts = [stream.assess(table)]
    assert {row["time"] for row in json.loads(lines_of(parts, is_json=True))["rows"]} == {None}
    assert pd.read_csv(io.StringIO(lines_of(parts, is_json=False)))["time"].isna().all()
    text = io.StringIO()
    Console(width=80, file=text).print(event_sheet([(None, 0, told_of(parts).told())]))
    assert "UTC" not in text.getvalue()


def test_times_keep_fractions_of_a_second(service, table, times):
    stream = service.stream(table.columns, "impute")
    halves = times + np.arange(N_ROWS) * np.timedelta64(500, "ms")
    rows = json.loads(lines_of([stream.assess(table, halves)], is_json=True))["rows"]
    assert [row["time"] for row in rows[:2]] == [
        "2026-01-05T08:00:00.000Z",
        "2026-01-05T08:00:10.500Z",
    ]


@pytest.mark.parametrize(
    ("level", "is_reached"),
    [("anomaly", True), ("watch", True), ("drift", True), ("alarm", False)],
)
def test_a_level_is_reached_by_its_state_and_by_those_more_severe(elsewhere, level, is_reached):
    assert elsewhere.reaches(level) is is_reached


def test_an_unknown_operating_point_is_told_with_the_ranges_and_what_to_do(elsewhere):
    said = " ".join(elsewhere.remarks({"flow_rate": "L/min"}))
    assert "Unknown operating point in 299 of 300 rows, from row 2" in said
    assert "flow_rate 1" in said
    assert "L/min (trained 9" in said
    assert "and 4 more" in said
    assert "--context COLUMN" in said
    sensors = elsewhere.out_of_range()
    assert {sensor.name for sensor in sensors} == set(NAMES)
    for sensor in sensors:
        assert sensor.low > sensor.trained_high
        assert sensor.share == 1.0


def test_healthy_rows_say_nothing_of_ranges(service):
    verdict = verdict_on(service, samples.healthy(300, seed=5).data)
    assert verdict.out_of_range() == []
    assert "trained range" not in " ".join(verdict.remarks({}))


def test_a_sensor_may_have_any_name(service, table):
    awkward = 'flow, "main"\nunit 1'
    renamed = table.rename(columns={NAMES[4]: awkward})
    service = AnomalyDetectionService(Settings(mlflow_enabled=False, n_estimators=10))
    healthy = pd.DataFrame(samples.healthy(300).data, columns=renamed.columns)
    service.train_all_models(healthy, model_names=["isolation_forest"])
    parts = [service.stream(renamed.columns, "impute").assess(renamed)]
    rows = json.loads(lines_of(parts, is_json=True))["rows"]
    assert rows[0]["imputed"] == {awkward: "missing"}
    read = pd.read_csv(io.StringIO(lines_of(parts, is_json=False)))
    assert read["imputed"][0] == awkward


def test_only_the_worst_of_many_events_are_told(service):
    n_events, apart = MOST_TOLD + 20, 40
    rows = samples.healthy(n_events * apart, seed=5).data
    spread = rows.std(axis=0)
    rows[apart // 2 :: apart, 3] += 40.0 * spread[3]
    table = pd.DataFrame(rows, columns=NAMES)
    found = told_of([service.stream(NAMES).assess(table)])
    assert found.n_events > MOST_TOLD
    told = found.told()
    assert len(told) == MOST_TOLD
    assert [event.first for event in told] == sorted(event.first for event in told)
    assert all(event.sensors for event in told)


def test_models_to_ask_may_be_named(service, table):
    stream = service.stream(NAMES, "impute", ["one_class_svm"])
    assert list(stream.assess(table).assessment.scores.p_values) == ["one_class_svm"]


def test_a_model_whose_columns_are_missing_is_not_asked_and_named():
    service = AnomalyDetectionService(Settings(mlflow_enabled=False, n_estimators=10))
    healthy = samples.healthy(300).data
    service.train_all_models(healthy, NAMES, model_names=["isolation_forest"])
    service.train_all_models(healthy[:, :2], NAMES[:2], model_names=["one_class_svm"])
    stream = service.stream(NAMES[:3], "impute", require_columns=True)
    assert list(stream.ensemble.models) == ["one_class_svm"]
    assert stream.lacking == {"isolation_forest": tuple(sorted(NAMES[3:]))}
    with pytest.raises(InvalidDataError, match=f"one_class_svm needs {NAMES[1]}") as caught:
        service.stream(NAMES[:1], "impute", require_columns=True)
    assert "--faulty impute" in caught.value.remedy
    with pytest.raises(InvalidDataError) as caught:
        service.stream(["Vibration", "Druck"], "impute", require_columns=True)
    assert "The models are of another machine" in caught.value.message
    assert "--faulty impute" not in caught.value.remedy
    assert set(service.stream(NAMES[:1], "impute").ensemble.models) == {
        "isolation_forest",
        "one_class_svm",
    }


def test_the_next_item_is_made_while_one_is_used_and_errors_come_through():
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no more")

    found = ahead(numbers())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(found)
    assert list(ahead([])) == []


# Files


@pytest.fixture(params=["csv", "parquet", "small row groups"])
def path(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table, times) -> Path:
    """A file that takes many readings, with the times in a column."""
    monkeypatch.setattr(reading, "AT_A_TIME", 100)
    dated = table.assign(time=pd.Series(times).dt.strftime("%d.%m.%Y %H:%M:%S"), note="ok")
    if request.param == "csv":
        dated.to_csv(tmp_path / "long.csv", sep=";", decimal=",", index=False)
        return tmp_path / "long.csv"
    size = 30 if request.param == "small row groups" else N_ROWS
    dated.to_parquet(tmp_path / "long.parquet", row_group_size=size)
    return tmp_path / "long.parquet"


def test_a_file_read_in_parts_is_the_file_read_at_once(path, table, times):
    parts = list(Recording(path).read(NAMES))
    assert len(parts) > 5
    assert max(len(part) for part, _ in parts) < N_ROWS
    read = pd.concat([part[NAMES] for part, _ in parts], ignore_index=True)
    pd.testing.assert_frame_equal(read, read_table(path).frame[NAMES])
    np.testing.assert_allclose(read, table, rtol=1e-12)
    assert np.array_equal(np.concatenate([when for _, when in parts]), times)


@pytest.mark.parametrize("rows", [slice(0, 50), slice(150, 420), slice(880, None)])
def test_some_rows_of_a_file_are_read(path, table, rows):
    read = pd.concat([part[NAMES] for part, _ in Recording(path, rows).read(NAMES)])
    np.testing.assert_allclose(read, table[rows], rtol=1e-12)


def test_rows_beyond_the_end_are_an_error(path):
    with pytest.raises(InvalidDataError, match="900 rows") as caught:
        list(Recording(path, slice(900, None)).read(NAMES))
    assert caught.value.field == "--rows"


def test_times_that_go_backwards_are_told_with_their_row(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "AT_A_TIME", 10)
    seconds = np.arange(60.0)
    seconds[30] = 5.0
    pd.DataFrame({"rms": 1.0, "clock": seconds}).to_csv(tmp_path / "back.csv", index=False)
    options = ReadOptions(time=["clock"])
    with pytest.raises(InvalidDataError, match="row 31"):
        list(Recording(tmp_path / "back.csv", options=options).read(["rms"]))


def test_cells_that_are_no_numbers_are_missing_in_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "AT_A_TIME", 10)
    cells = ["1.5"] * 40
    cells[3] = cells[12] = "ERR"
    cells[20:30] = ["ERR"] * 10
    pd.DataFrame({"rms": cells, "flow": 2.0}).to_csv(tmp_path / "gaps.csv", index=False)
    read = pd.concat([part for part, _ in Recording(tmp_path / "gaps.csv").read(["rms"])])
    assert np.flatnonzero(read["rms"].isna()).tolist() == [3, 12, *range(20, 30)]


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet"])
def test_a_file_without_rows_is_read_as_such(tmp_path, name, table):
    nothing = table[:0]
    if name.endswith("csv"):
        nothing.to_csv(tmp_path / name, index=False)
    else:
        nothing.to_parquet(tmp_path / name)
    [(read, _)] = Recording(tmp_path / name).read(NAMES)
    assert len(read) == 0


def test_the_rows_in_each_state_are_counted_over_all_parts(service, table):
    stream, counts, whole = service.stream(NAMES, "impute"), StateCounts(), []
    for start in range(0, len(table), 70):
        part = stream.assess(table.iloc[start : start + 70])
        counts.add(part)
        whole += [STATES[state] for state in part.assessment.statuses.states.tolist()]
    for state in STATES:
        if state in whole:
            assert counts.of(state) == (whole.count(state), whole.index(state), None)
        else:
            assert counts.of(state) is None
    assert counts.of(AssetState.ALARM) is not None
