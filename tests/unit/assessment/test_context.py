"""How the machine is run: sensors judged given their context, and operating points never seen."""

from __future__ import annotations

import csv
import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from loaded_machine import SENSORS, loads, machine, recording
from pydantic import TypeAdapter
from quick_training import CHEAP
from rich.console import Console

from vigie.cli.render.events import event_sheet
from vigie.cli.render.rows import Writer
from vigie.config import Settings
from vigie.detectors.data.context import code
from vigie.detectors.data.matrices import as_matrix, training_table
from vigie.detectors.data.proposal import proposed_context
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError, ModelRefusedError
from vigie.events.gathering import Events, Rows
from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    CriticalityLevel,
)
from vigie.models.from_json import from_json
from vigie.models.training import TrainRequest
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.detector_service import new_service
from vigie.serving.served import Served
from vigie.tracking.flavors import write_model

ROW_MODELS = ["isolation_forest", "one_class_svm", "vector_autoregression"]
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
UNKNOWN_POINT = AssetState.UNKNOWN_OPERATING_POINT
PRODUCTS = np.array(["flour", "sugar"])


def trained(
    folder: Path, rows: pd.DataFrame, context: tuple[str, ...] = (), **changed: Any
) -> AnomalyDetectionService:
    service = AnomalyDetectionService(Settings(**(CHEAP | {"state_dir": folder} | changed)))
    outcome = service.train_all_models(rows, None, ROW_MODELS, context_features=context)
    assert {model["status"] for model in outcome.values()} == {"trained"}, outcome
    return service


def as_readings(asset: str, rows: pd.DataFrame, *context: str) -> list[dict[str, Any]]:
    """Return rows as readings, one a minute, with some columns as their context."""
    return [
        {
            "asset_id": asset,
            "timestamp": START + timedelta(minutes=minute),
            "features": {name: value for name, value in row.items() if name not in context},
            "context": {name: row[name] for name in context},
        }
        for minute, row in enumerate(rows.to_dict("records"))
    ]


def by_product(n: int, seed: int) -> pd.DataFrame:
    """Return rows of a machine that is run at one of two loads, by the product."""
    rows = recording(n, seed, (0.3, 0.8))
    return rows.assign(product=PRODUCTS[(rows["load"] > 0.5).astype(int)]).drop(columns="load")


def states(results: list[AnomalyDetectionResult]) -> list[AssetState]:
    return [result.asset.state for result in results]


@pytest.fixture(scope="module")
def by_load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnomalyDetectionService]:
    """Models that judge the sensors given the load."""
    service = trained(tmp_path_factory.mktemp("state"), recording(1500, 1), ("load",))
    yield service
    service.close()


@pytest.fixture(scope="module")
def by_word(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnomalyDetectionService]:
    """Models that judge the sensors given the product."""
    service = trained(tmp_path_factory.mktemp("state"), by_product(1500, 1), ("product",))
    yield service
    service.close()


@pytest.fixture(scope="module")
def two_loads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnomalyDetectionService]:
    """Models of a machine at two loads, which are not told them."""
    rows = recording(1500, 2, (0.2, 0.9)).drop(columns="load")
    service = trained(tmp_path_factory.mktemp("state"), rows)
    yield service
    service.close()


# Judged given the context


@pytest.mark.slow
def test_a_fault_that_the_load_hides_is_found_given_the_load(by_load, tmp_path):
    without = trained(tmp_path, recording(1500, 1).drop(columns="load"))
    rows = recording(500, 3)
    rows.loc[300:, "power"] += 2.0
    blind = without.detect_table(rows.drop(columns="load"))
    seeing = by_load.detect_table(rows)
    without.close()
    assert seeing.in_alarm[300:].mean() > 0.8
    assert not seeing.in_alarm[:300].any()
    assert blind.in_alarm[300:].mean() < 0.5


def test_healthy_readings_keep_their_rate_at_every_load(by_load):
    rows = recording(3000, 4)
    judged = by_load.detect_table(rows)
    for low, high in ((0.3, 0.5), (0.5, 0.7), (0.7, 0.9)):
        at_this_load = rows["load"].between(low, high).to_numpy()
        assert judged.is_anomaly[at_this_load].mean() < 0.03


def test_reasons_are_in_the_units_of_the_sensor_at_this_load(by_load):
    rows = recording(100, 5)
    rows.loc[60, "power"] += 15.0
    (reasons,) = by_load.detect_table(rows).reasons([60]).values()
    power = reasons[0]
    assert power.name == "power"
    assert power.value == pytest.approx(rows.loc[60, "power"])
    at_this_load = 10.0 + 40.0 * rows.loc[60, "load"]
    assert power.low < at_this_load < power.high < power.value
    assert power.usual == pytest.approx(at_this_load, abs=1.0)
    assert power.high - power.low < 15.0
    assert "load" not in {sensor.name for sensor in reasons}


def test_a_reading_gives_its_context_beside_its_features_or_among_them(by_load):
    rows = recording(60, 6)
    beside = by_load.detect_anomalies_batch(as_readings("beside", rows, "load"))
    among = by_load.detect_anomalies_batch(as_readings("among", rows))
    assert [r.final_score for r in beside] == [r.final_score for r in among]
    assert all(r.final_score is not None for r in beside)


@pytest.mark.slow
def test_one_by_one_in_a_batch_from_a_file_and_after_a_restart_scores_are_the_same(
    by_word, tmp_path
):
    rows = by_product(120, 7)
    service = trained(tmp_path, by_product(600, 8), ("product",))
    readings = as_readings("press", rows, "product")
    batch = service.detect_anomalies_batch(readings)
    single = [
        service.detect_anomaly(reading) for reading in as_readings("other", rows[:80], "product")
    ]
    service.close()
    again = AnomalyDetectionService(Settings(**(CHEAP | {"state_dir": tmp_path})))
    outcome = again.train_all_models(
        by_product(600, 8), None, ROW_MODELS, context_features=["product"]
    )
    assert {model["status"] for model in outcome.values()} == {"trained"}
    rest = as_readings("other", rows, "product")[80:]
    single += [again.detect_anomaly(reading) for reading in rest]
    from_file = again.detect_table(rows)
    again.close()
    scores = [result.final_score for result in batch]
    assert [result.final_score for result in single] == scores
    assert (1.0 - from_file.p_values).tolist() == scores
    assert [result.asset for result in single[:80]] == [result.asset for result in batch[:80]]


def test_a_model_with_a_context_is_the_same_when_reopened(by_word, tmp_path):
    rows = by_product(300, 9)
    for name, model in by_word.served.current.for_everything.ensemble.models.items():
        model.save(tmp_path / name)
        reopened = TrainedModel.load(tmp_path / name)
        assert np.array_equal(reopened.predict_scores(rows), model.predict_scores(rows))
        assert reopened.context_names == {"product"}


@pytest.mark.parametrize("owner", [-1, 99])
def test_a_damaged_context_is_refused(by_load, tmp_path, owner):
    from dataclasses import replace

    model = next(iter(by_load.served.current.for_everything.ensemble.models.values()))
    context = replace(model.context, owner=np.full_like(model.context.owner, owner))
    replace(model, context=context).save(tmp_path / "model")
    with pytest.raises(ModelRefusedError, match="context"):
        TrainedModel.load(tmp_path / "model")


# Never seen


def test_a_load_never_seen_is_said_as_such_and_nothing_is_judged(by_load):
    rows = machine(np.full(30, 1.4), 10).assign(load=1.4)
    results = by_load.detect_anomalies_batch(as_readings("overloaded", rows, "load"))
    assert set(states(results)) == {UNKNOWN_POINT}
    assert all(result.final_score is None and not result.is_anomaly for result in results)
    (unseen,) = results[0].asset.unseen
    assert (unseen.name, unseen.value) == ("load", 1.4)
    ((low, high),) = unseen.seen
    assert 0.25 < low < 0.35
    assert 0.85 < high < 0.95
    assert "load" in results[0].abstained["isolation_forest"]


def test_a_product_never_seen_is_named(by_word):
    rows = by_product(5, 11).assign(product="cement")
    results = by_word.detect_anomalies_batch(as_readings("mixer", rows, "product"))
    assert set(states(results)) == {UNKNOWN_POINT}
    (unseen,) = results[0].asset.unseen
    assert (unseen.name, unseen.value) == ("product", "cement")
    assert list(unseen.seen) == ["flour", "sugar"]


def test_back_in_a_known_context_the_asset_is_judged_at_once(by_load):
    rows = recording(90, 12)
    rows.loc[40:49, "load"] = 1.4
    results = by_load.detect_anomalies_batch(as_readings("back", rows, "load"))
    assert set(states(results[40:50])) == {UNKNOWN_POINT}
    assert UNKNOWN_POINT not in states(results[50:])
    assert AssetState.ALARM not in states(results)


def test_a_load_between_two_trained_ones_is_an_unknown_operating_point(two_loads):
    new = machine(np.full(200, 0.55), 13)
    old = machine(loads(100, 14, (0.2, 0.9)), 14)
    rows = pd.concat([old, new, old], ignore_index=True)
    results = two_loads.detect_anomalies_batch(as_readings("pump", rows))
    assert UNKNOWN_POINT not in states(results[:100])
    assert states(results[102:300]) == [UNKNOWN_POINT] * 198
    assert AssetState.ALARM not in states(results)
    assert states(results)[-1] is AssetState.NORMAL
    assert {result.criticality for result in results[102:300]} <= {None, CriticalityLevel.LOW}
    named = {sensor.name for sensor in results[150].asset.unseen}
    assert named <= set(SENSORS)
    assert named
    assert all(len(sensor.seen) >= 1 for sensor in results[150].asset.unseen)


def test_a_fault_of_one_sensor_is_no_operating_point(two_loads):
    rows = machine(loads(300, 15, (0.2, 0.9)), 15)
    rows.loc[150:, "pressure"] += 6.0
    results = two_loads.detect_anomalies_batch(as_readings("leak", rows))
    assert UNKNOWN_POINT not in states(results)
    assert AssetState.ALARM in states(results[150:170])


def test_one_glitch_of_all_sensors_is_no_operating_point(two_loads):
    rows = machine(np.full(60, 0.2), 16)
    rows.loc[30] = machine(np.full(1, 2.0), 16).loc[0]
    results = two_loads.detect_anomalies_batch(as_readings("glitch", rows))
    assert UNKNOWN_POINT not in states(results)


def test_a_machine_that_moves_there_slowly_is_not_taken_for_another_operating_point(two_loads):
    wear = np.concatenate([np.full(100, 0.9), np.linspace(0.9, 2.5, 600)])
    results = two_loads.detect_anomalies_batch(as_readings("worn", machine(wear, 29)))
    assert UNKNOWN_POINT not in states(results)
    assert {AssetState.DRIFT, AssetState.ALARM} & set(states(results))


# Refused


def test_a_load_that_comes_in_one_block_only_is_refused_or_judged_without_warnings(tmp_path):
    once = machine(np.repeat([0.2, 1.0], [480, 120]), 30).assign(
        load=np.repeat([0.2, 1.0], [480, 120])
    )
    service = new_service("vector_autoregression", Settings(**(CHEAP | {"state_dir": tmp_path})))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        service.train(once, context_features=["load"])
        every_row = once.assign(batch=[f"batch {row}" for row in range(600)])
        with pytest.raises(InvalidDataError) as error:
            service.train(every_row, context_features=["batch"])
    assert error.value.field == "context_features"


def test_booleans_and_numbers_among_words_are_words():
    rows = machine(loads(200, 31), 31).assign(
        running=[True, False] * 100, product=["A7", 7.0] * 100
    )
    table = training_table(rows, None, context_features=["running", "product"])
    assert table.context is not None
    assert table.context.words == {6: ("false", "true"), 7: ("7", "A7")}


def test_no_two_words_are_taken_for_one():
    # Both have the same CRC32.
    assert code("plumless") != code("buckeroo")


@pytest.mark.parametrize(
    ("context", "field"),
    [
        (("speed",), "context_features[0]"),
        ("load", "context_features"),
        ((*SENSORS, "load"), "context_features"),
        (("constant",), "context_features.constant"),
    ],
)
def test_a_context_that_cannot_be_used_is_refused_by_name(tmp_path, context, field):
    service = AnomalyDetectionService(Settings(**(CHEAP | {"state_dir": tmp_path})))
    rows = recording(200, 17)
    if "constant" in context:
        rows["constant"] = 1.0
    with pytest.raises(InvalidDataError) as error:
        service.train_all_models(rows, context_features=context)
    service.close()
    assert error.value.field == field
    assert error.value.remedy


def test_a_reading_without_its_context_is_refused_by_name(by_load):
    reading = as_readings("pump", recording(1, 18))[0]
    del reading["features"]["load"]
    with pytest.raises(InvalidDataError) as error:
        by_load.detect_anomaly(reading)
    assert error.value.field == "context.load"


def test_without_its_context_no_sensor_is_judged_by_a_guess(tmp_path):
    service = trained(tmp_path, recording(600, 19), ("load",), faulty_values="impute")
    rows = recording(30, 20)
    readings = as_readings("pump", rows)
    del readings[-1]["features"]["load"]
    with pytest.raises(InvalidDataError) as error:
        service.detect_anomalies_batch(readings)
    service.close()
    assert error.value.field == "[29].context.load"


def test_a_word_for_a_number_is_refused(by_load):
    reading = as_readings("pump", recording(1, 21), "load")[0]
    reading["context"]["load"] = "high"
    with pytest.raises(InvalidDataError) as error:
        by_load.detect_anomaly(reading)
    assert error.value.field == "context.load"


def test_a_value_given_twice_is_refused(by_load):
    reading = as_readings("pump", recording(1, 22))[0]
    reading["context"] = {"load": 0.5}
    with pytest.raises(InvalidDataError, match="both as a feature and as context"):
        by_load.detect_anomaly(reading)


# Proposed


def test_a_setting_is_proposed_and_a_sensor_is_not():
    rows = recording(1000, 23)
    products = PRODUCTS[(rows["load"] > 0.6).astype(int)].tolist()
    remarks = [f"shift of worker {number}" for number in range(1000)]
    proposed = proposed_context(
        rows.to_numpy(), list(rows.columns), {"product": products, "remark": remarks}
    )
    assert set(proposed) == {"load", "product"}
    assert proposed["load"] > 0.9


def test_two_settings_are_proposed_where_only_both_explain_the_sensors():
    load, speed = loads(1000, 32, (0.0, 1.0)), loads(1000, 33, (0.0, 1.0))
    rows = machine(load, 32)
    rows[["power", "flow", "pressure"]] = machine(speed, 34)[["power", "flow", "pressure"]]
    rows = rows.assign(load=load, speed=speed)
    proposed = proposed_context(rows.to_numpy(), list(rows.columns), {})
    assert set(proposed) == {"load", "speed"}
    assert max(proposed.values()) < 0.6


def test_a_setting_that_the_sensors_do_not_follow_is_not_proposed():
    rows = machine(np.full(1000, 0.5), 24).assign(lamp=loads(1000, 25, (0.0, 1.0)))
    assert proposed_context(rows.to_numpy(), list(rows.columns), {}) == {}


# In files and in Python


def written(service: AnomalyDetectionService, rows: pd.DataFrame, *, as_json: bool) -> str:
    """Return what ``vigie detect`` writes of rows that come in two parts."""
    stream, out = service.stream(rows.columns, "impute"), io.BytesIO()
    writer = Writer(out, as_json, stream.versions, 0.99)
    for part in stream.assess_all([(rows[:20], None), (rows[20:], None)]):
        writer.write(part)
    writer.close()
    return out.getvalue().decode()


def test_csv_and_json_rows_say_what_of_the_context_was_never_seen(by_word):
    rows = by_product(40, 40)
    rows.loc[10:12, "product"] = 'ce,m"ent'
    rows.loc[30:, "product"] = "salt"
    found = json.loads(written(by_word, rows, as_json=True))["rows"]
    assert [row["unseen"] for row in found[9:14]] == [
        {},
        *[{"product": 'ce,m"ent'}] * 3,
        {},
    ]
    assert found[35]["unseen"] == {"product": "salt"}
    assert {row["state"] for row in found if row["unseen"]} == {"unknown_operating_point"}
    lines = list(csv.DictReader(io.StringIO(written(by_word, rows, as_json=False))))
    assert [line["unseen"] for line in lines[9:14]] == ["", *['product=ce,m"ent'] * 3, ""]
    assert lines[39]["unseen"] == "product=salt"
    assert lines[39]["isolation_forest"] == ""


def test_a_load_never_seen_is_a_number_in_csv_and_json(by_load):
    rows = recording(30, 41)
    rows.loc[25:, "load"] = 1.4
    found = json.loads(written(by_load, rows, as_json=True))["rows"]
    assert [row["unseen"] for row in found[24:26]] == [{}, {"load": 1.4}]
    lines = list(csv.DictReader(io.StringIO(written(by_load, rows, as_json=False))))
    assert [line["unseen"] for line in lines[24:26]] == ["", "load=1.4"]


def test_models_without_a_context_have_nothing_unseen(two_loads):
    rows = recording(30, 42, (0.2, 0.9)).drop(columns="load")
    found = json.loads(written(two_loads, rows, as_json=True))["rows"]
    assert all(row["unseen"] == {} for row in found)


def test_the_table_of_events_prints_the_word_that_was_never_seen(by_word):
    rows = by_product(40, 43)
    rows.loc[20:, "product"] = "[bold]cement"
    events = Events()
    for part in by_word.stream(rows.columns).assess_all([(rows[:15], None), (rows[15:], None)]):
        events.add(Rows.of(part))
    shown = Console(width=120, file=io.StringIO())
    shown.print(event_sheet([(None, 0, events.told())]))
    printed = shown.file.getvalue()
    assert "[bold]cement never seen" in printed
    assert "21–40" in printed


def test_a_service_says_of_one_reading_what_was_never_seen(by_load, by_word):
    loaded, worded = (
        service.served.current.for_everything.ensemble.models["isolation_forest"]
        for service in (by_load, by_word)
    )
    for model, known, new in [
        (loaded, recording(1, 44).loc[0].to_dict(), {"load": 1.4}),
        (worded, by_product(1, 44).loc[0].to_dict(), {"product": "cement"}),
    ]:
        service = new_service("isolation_forest", Settings(**CHEAP))
        service._served = Served(model)
        seen = service.detect_anomaly(known)
        assert seen["unseen"] == {}
        assert 0.0 <= seen["score"] <= 1.0
        found = service.detect_anomaly(known | new)
        assert found["unseen"] == new
        assert np.isnan(found["score"])
        assert (found["is_anomaly"], found["prediction"]) == (False, 0)


def test_a_service_without_a_context_answers_as_ever(two_loads):
    service = new_service("isolation_forest", Settings(**CHEAP))
    service._served = Served(
        two_loads.served.current.for_everything.ensemble.models["isolation_forest"]
    )
    rows = recording(3, 45, (0.2, 0.9)).drop(columns="load")
    assert set(service.detect_anomaly(rows.loc[0].to_dict())) == {
        *("score", "is_anomaly", "threshold", "prediction", "sensors")
    }
    assert service.unseen_context(rows).tolist() == [False] * 3
    assert service.get_model_info()["context_features"] == []


def test_many_rows_that_have_no_verdict_are_said_and_told_apart(by_word, caplog):
    model = by_word.served.current.for_everything.ensemble.models["isolation_forest"]
    rows = by_product(20, 46)
    rows.loc[15:, "product"] = "cement"
    with caplog.at_level(logging.WARNING, logger="vigie"):
        scores, labels = model.predict_scores(rows), model.predict(rows)
    assert model.unseen_context(rows).tolist() == [False] * 15 + [True] * 5
    assert np.isnan(scores).tolist() == model.unseen_context(rows).tolist()
    assert labels[15:].tolist() == [0] * 5
    assert "5 of 20 rows are run as training has not seen it (product)" in caplog.messages[0]
    caplog.clear()
    model.predict(rows[:15])
    assert not caplog.messages


def test_what_serves_tells_the_context_apart_from_the_sensors(by_word, by_load):
    for service, name in ((by_word, "product"), (by_load, "load")):
        status = service.get_model_status()
        assert status["isolation_forest"]["context_features"] == [name]
        assert set(status["isolation_forest"]["feature_names"]) == {*SENSORS, name}
        assert status["lstm_autoencoder"]["context_features"] is None
    untrained = new_service("isolation_forest", Settings(**CHEAP))
    assert untrained.get_model_info()["context_features"] is None


# True and false


READING = TypeAdapter(AnomalyDetectionRequest)
TRAINING = TypeAdapter(TrainRequest)


def body(**fields: Any) -> bytes:
    return json.dumps({"asset_id": "pump"} | fields).encode()


def test_true_and_false_are_one_and_zero_for_a_sensor():
    found = from_json(READING, body(features={"valve": True, "lamp": False, "rms": 0.4}))
    assert found.features == {"valve": 1.0, "lamp": 0.0, "rms": 0.4}
    assert {type(value) for value in found.features.values()} == {float}
    asked = from_json(TRAINING, json.dumps({"data": [[True, 1], [0.5, False]]}).encode())
    assert asked.data == [[1.0, 1.0], [0.5, 0.0]]
    for value in ("on", "true", "1"):
        with pytest.raises(InvalidDataError) as refused:
            from_json(READING, body(features={"valve": value, "lamp": True}))
        assert refused.value.field == "features.valve"


@pytest.mark.parametrize("spelling", ["TRUE", "True", "true", True])
def test_a_context_of_true_and_false_is_one_however_it_is_written(spelling, tmp_path):
    running = np.repeat([True, False], 300)
    rows = machine(np.where(running, 0.8, 0.2), 47)
    asked = json.dumps(
        {
            "data": rows.to_numpy().tolist(),
            "feature_names": list(rows.columns),
            "context": {"running": running.tolist()},
        }
    )
    by_rest = from_json(TRAINING, asked.encode())
    over_rest = training_table(by_rest.rows, by_rest.names, {}, by_rest.all_context_features)
    as_file = rows.assign(running=np.where(running, "TRUE", "FALSE"))
    from_file = training_table(as_file, None, {}, ["running"])
    assert np.array_equal(over_rest.values, from_file.values)
    service = trained(tmp_path, as_file, ("running",))
    features = rows.loc[0].to_dict()
    request = from_json(READING, body(features=features, context={"running": spelling}))
    result = service.detect_anomaly(request)
    service.close()
    assert result.asset.state is not UNKNOWN_POINT
    assert result.final_score is not None
    # The next reading looks back on it.
    again = AnomalyDetectionService(service.settings)
    with again._detection.history().transaction("pump", None) as kept:
        [stored] = kept.around(result.timestamp + timedelta(1), result.timestamp + timedelta(1), 9)
    again.close()
    assert code(stored.features["running"]) == code("true")


def test_true_is_one_where_the_context_was_trained_on_numbers(tmp_path):
    on = np.repeat([1.0, 0.0], 300)
    service = trained(tmp_path, machine(np.where(on, 0.8, 0.2), 48).assign(on=on), ("on",))
    features = machine(np.array([0.8]), 49).loc[0].to_dict()
    said, number = (
        service.detect_anomaly(
            from_json(READING, body(asset_id=f"{value}", features=features, context={"on": value}))
        ).final_score
        for value in (True, 1)
    )
    service.close()
    assert said == number
    assert said is not None


# In other tools


@pytest.mark.slow
def test_other_tools_judge_given_the_context_without_vigie(tmp_path):
    settings = Settings(**(CHEAP | {"state_dir": tmp_path}))
    service = new_service("isolation_forest", settings)
    service.train(by_product(600, 26), context_features=["product"])
    model, rows = service.served.model, by_product(300, 27)
    rows.loc[100:, "power"] += 5.0
    rows.loc[200:, "product"] = "cement"
    sample = as_matrix(by_product(20, 28), model.feature_names, words=model.words).values
    write_model(model, sample, tmp_path / "model", "0" * 32, tmp_path / "graphs")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    script = """
import sys
sys.modules["vigie"] = None
import mlflow.pyfunc, pandas
verdicts = mlflow.pyfunc.load_model("model").predict(pandas.read_csv("rows.csv"))
print(*verdicts.tolist())
"""
    run = [sys.executable, "-c", script]
    ended = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True)
    verdicts = [int(verdict) for verdict in ended.stdout.split()]
    assert "100 of 300 rows cannot be judged" in ended.stderr
    assert verdicts == model.predict(rows).tolist()
    assert sum(verdicts[100:200]) > 50
    assert sum(verdicts[200:]) == 0
