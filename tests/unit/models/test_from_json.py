"""What a body may hold, and how much of it: read by the same reader as any request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from vigie.api.routes.anomalies import Readings
from vigie.errors import InvalidDataError
from vigie.models.anomaly_data import DEEPEST, MOST_FEATURES, MOST_READINGS, AnomalyDetectionRequest
from vigie.models.from_json import from_json
from vigie.models.training import HistoryTrainRequest, TrainRequest

TRAINING = TypeAdapter(TrainRequest)
READING = TypeAdapter(AnomalyDetectionRequest)
BATCH = TypeAdapter(Readings)


def refused(form: TypeAdapter[Any], text: str) -> InvalidDataError:
    with pytest.raises(InvalidDataError) as caught:
        from_json(form, text.encode())
    assert caught.value.remedy
    return caught.value


# What a body may hold.

ONE = '{"asset_id": "pump", "features": {"rms": 1.0}}'


def reading(**fields: str) -> str:
    """Return a reading with fields replaced by some JSON."""
    told = {"asset_id": '"pump"', "features": '{"rms": 1.0}'} | fields
    return "{" + ", ".join(f'"{name}": {value}' for name, value in told.items()) + "}"


def nested(levels: int) -> str:
    return '{"a": ' * (levels - 1) + "{}" + "}" * (levels - 1)


@pytest.mark.parametrize(
    ("form", "text", "field", "said"),
    [
        (READING, reading(asset_id=f'"{"a" * 201}"'), "asset_id", "at most 200"),
        (READING, reading(sensor_id=f'"{"a" * 201}"'), "sensor_id", "at most 200"),
        (READING, reading(asset_id='"a\\u0000b"'), "asset_id", "NUL"),
        (READING, reading(features='{"a\\u0000": 1}'), "features.a\x00", "Invalid name"),
        (READING, reading(metadata=nested(DEEPEST + 1)), "metadata", "nested"),
        (READING, reading(metadata='{"a": 1e999}'), "metadata", "JSON"),
        (READING, reading(more="[" * 5000 + "]" * 5000), "body", "nested"),
        (READING, reading(more="[" * 300 + "]" * 300), "body", "nested"),
        (READING, reading(features='{"rms": 1e999}'), "features.rms", "finite"),
        (READING, reading(features='{"rms": -Infinity}'), "features.rms", "finite"),
        (READING, reading(features='{"rms": ' + "9" * 400 + "}"), "features.rms", "number"),
        (READING, reading(features='{"rms": ' + "9" * 5000 + "}"), "body", "thousands of digits"),
        (READING, reading(context='{"load": ' + "9" * 400 + "}"), "context.load", "number"),
        (READING, reading(timestamp="1767600000"), "timestamp", "2026-01-05T08:00:00Z"),
        (READING, reading(timestamp='"1767600000"'), "timestamp", "2026-01-05T08:00:00Z"),
        (READING, reading(timestamp='"20260105"'), "timestamp", "2026-01-05T08:00:00Z"),
        (TRAINING, '{"data": [[1e999]]}', "data[0][0]", "finite"),
        (TRAINING, '{"data": [[NaN]]}', "data[0][0]", "finite"),
        (TRAINING, '{"data": [[' + "9" * 400 + "]]}", "data[0][0]", "number"),
        (TRAINING, f'{{"data": [[1]], "model_names": ["{"a" * 201}"]}}', "model_names[0]", "200"),
        (BATCH, "{}", "body", "array"),
        (BATCH, "[0]", "[0]", "object"),
        (READING, "[]", "body", "object"),
    ],
)  # fmt: skip
def test_what_is_too_long_too_deep_or_no_number_is_named(form, text, field, said):
    error = refused(form, text)
    assert error.field == field
    assert said in error.message


@pytest.mark.parametrize(
    ("form", "text", "field", "remedy"),
    [
        (READING, reading(metdata="{}"), "metdata", 'Did you mean "metadata"?'),
        (BATCH, f"[{ONE}, {reading(Timestamp='null')}]", "[1].Timestamp", '"timestamp"?'),
        (TRAINING, '{"data": [[1]], "model_name": []}', "model_name", '"model_names"?'),
        (READING, reading(treshold="0.9"), "treshold", "Known are asset_id, sensor_id, features"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(form, text, field, remedy):
    error = refused(form, text)
    assert error.field == field
    assert remedy in (error.remedy or "")


def test_a_misspelt_key_comes_before_the_one_that_is_missing_for_it():
    error = refused(READING, '{"asset_id": "pump", "feature": {"rms": 1}}')
    assert error.field == "feature"
    assert error.remedy == 'Did you mean "features"?'
    assert [fault["field"] for fault in error.faults] == ["feature", "features"]


def test_json_that_cannot_be_read_says_what_was_expected_and_where():
    error = refused(READING, '{"asset_id": "pump",\n "features": {"rms": 61,5}}')
    assert "line 2, column 25 on: a key in double quotes is expected" in error.message
    assert error.remedy == "Write numbers with a decimal point: 61.5, not 61,5."
    error = refused(READING, '{"asset_id": "pump",}')
    assert "a key in double quotes is expected" in error.message
    assert "decimal" not in (error.remedy or "")


def test_a_name_that_is_too_long_does_not_come_back_whole():
    error = refused(READING, reading(features=f'{{"{"a" * 10_000}": 1}}'))
    assert "Invalid name" in error.message
    assert len(str(error)) < 500


def test_a_reading_has_at_most_so_many_features_and_a_row_so_many_values():
    def features(count: int) -> str:
        return json.dumps({f"f{n}": 1.0 for n in range(count)})

    from_json(READING, reading(features=features(MOST_FEATURES)).encode())
    assert refused(READING, reading(features=features(MOST_FEATURES + 1))).field == "features"
    row = [1.0] * MOST_FEATURES
    from_json(TRAINING, json.dumps({"data": [row]}).encode())
    assert refused(TRAINING, json.dumps({"data": [[1.0], [*row, 1.0]]})).field == "data[1]"


def test_a_batch_has_at_least_one_reading_and_at_most_so_many():
    def batch(count: int) -> str:
        return "[" + ",".join([ONE] * count) + "]"

    assert len(from_json(BATCH, batch(MOST_READINGS).encode())) == MOST_READINGS
    assert "at most 10000" in refused(BATCH, batch(MOST_READINGS + 1)).message
    assert refused(BATCH, "[]").field == "body"


def test_metadata_are_as_deep_as_they_say_and_brackets_in_text_do_not_count():
    from_json(READING, reading(metadata=nested(DEEPEST)).encode())
    from_json(READING, reading(metadata=f'{{"note": "{"[" * 100}"}}').encode())


@pytest.mark.parametrize(
    ("form", "text", "field"),
    [
        (READING, reading(features='{"rms": 1, "rms": 2}'), "features.rms"),
        (READING, reading(features='{"rms": 1, "\\u0072ms": 2}'), "features.rms"),
        (READING, reading(features='{"a": 1, "a": 1}', timestamp='"2026-01-05"'), "features.a"),
        (READING, reading(metadata='{"a": {"b": "x", "b": "x"}}'), "metadata.a.b"),
        (READING, reading(more='{"a": 1, "a": 2}'), "more.a"),
        (READING, ONE[:-1] + ', "asset_id": "other"}', "asset_id"),
        (READING, ONE[:-1] + ', "features": {"rms": 1, "rms": 2}}', "features"),
        (READING, "\ufeff" + ONE[:-1] + ', "asset_id": "other"}', "asset_id"),
        (BATCH, f'[{ONE}, {ONE[:-1]}, "asset_id": "other"}}]', "[1].asset_id"),
        (TRAINING, '{"data": [[1]], "data": [[2]]}', "data"),
        (TRAINING, '{"data": [[1]], "model_names": ["a"], "model_names": ["b"]}', "model_names"),
    ],
)  # fmt: skip
def test_a_key_that_is_given_twice_is_named_since_nobody_knows_which_one_is_meant(
    form, text, field
):
    error = refused(form, text)
    assert error.field == field
    assert "more than once" in error.message


@pytest.mark.parametrize(
    "text",
    [
        reading(asset_id='"pump \\"7\\""'),
        reading(metadata='{"a": ["b", {"c": null}]}'),
        reading(sensor_id="null", timestamp="null", metadata="{}"),
        reading(sensor_id='""', timestamp='"2026-01-05T08:00:00Z"'),
        reading(features='{"rms": NaN, "flow": null}'),
    ],
)
def test_a_reading_with_every_key_once_is_taken_whatever_its_text_holds(text):
    assert from_json(READING, text.encode()).asset_id.startswith("pump")


def test_of_a_million_wrong_values_no_million_faults_are_made():
    text = json.dumps({"data": [[None] * 900] * 1000})
    assert len(refused(TRAINING, text).faults) == 1
    assert len(refused(BATCH, "[" + "0," * 500_000 + "0]").faults) == 1


@pytest.mark.parametrize("extra", ['"start": "3d"', '"from": "1d", "start": "3d"', '"end": "1d"'])
def test_a_key_has_one_name(extra):
    text = f'{{"history": {{"asset_id": "pump-7", {extra}}}}}'
    with pytest.raises(InvalidDataError, match=r"history\.(start|end): There is no such key"):
        from_json(TypeAdapter(HistoryTrainRequest), text.encode())
