"""What pydantic finds wrong is told in our own words, whichever of its errors a schema can make."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import TypeAdapter

from vigie.api.routes.anomalies import Readings
from vigie.config import Settings
from vigie.errors import InvalidDataError
from vigie.faults import OTHERWISE, WORDS, told
from vigie.models.anomaly_data import AnomalyDetectionRequest
from vigie.models.training import TrainRequest
from vigie.services.anomaly_detection_service import AnomalyDetectionService

FORMS = (AnomalyDetectionRequest, Readings, TrainRequest, Settings)

BOUNDS = {
    "gt": ("greater_than",),
    "ge": ("greater_than_equal",),
    "lt": ("less_than",),
    "le": ("less_than_equal",),
}
LENGTHS = {"min_length": ("too_short",), "max_length": ("too_long",)}
ERRORS: dict[str, tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]] = {
    "any": ((), {}),
    "bool": (("bool_type", "bool_parsing"), {}),
    "datetime": (
        (
            *("datetime_type", "datetime_parsing", "datetime_object_invalid"),
            "datetime_from_date_parsing",
        ),
        {},
    ),
    "dict": (("dict_type", "mapping_type"), LENGTHS),
    "float": (("float_type", "float_parsing", "finite_number"), BOUNDS),
    "int": (("int_type", "int_parsing", "int_parsing_size", "int_from_float"), BOUNDS),
    "list": (("list_type", "iteration_error"), LENGTHS),
    "literal": (("literal_error",), {}),
    "model": (("model_type", "model_attributes_type"), {}),
    "model-fields": (("missing", "extra_forbidden"), {}),
    "none": (("none_required",), {}),
    "str": (
        ("string_type", "string_sub_type", "string_unicode"),
        {
            "min_length": ("string_too_short",),
            "max_length": ("string_too_long",),
            "pattern": ("string_pattern_mismatch",),
        },
    ),
    "tagged-union": (("union_tag_invalid", "union_tag_not_found"), {}),
    "time": (("time_type", "time_parsing"), {}),
    "tuple": (("tuple_type", "iteration_error"), LENGTHS | {"items_schema": ("missing",)}),
    **dict.fromkeys(
        ("function-before", "function-after", "function-plain", "function-wrap"),
        (("value_error", "assertion_error"), {}),
    ),
    **dict.fromkeys(
        (
            *("union", "nullable", "default", "chain", "json-or-python", "lax-or-strict"),
            *("definitions", "definition-ref", "is-instance", "model-field"),
        ),
        ((), {}),
    ),
}
"""By kind of schema, the errors it makes always and those it makes with a constraint."""


def nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a core schema and all in it."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for key, inner in schema.items():
            if key not in ("metadata", "serialization", "config", "function"):
                yield from nodes(inner)
    elif isinstance(schema, (list, tuple)):
        for inner in schema:
            yield from nodes(inner)


def possible(form: Any) -> set[str]:
    found: set[str] = set()
    for node in nodes(TypeAdapter(form).core_schema):
        always, constrained = ERRORS[node["type"]]
        found |= {*always, *(kind for name in constrained if name in node
                             for kind in constrained[name])}  # fmt: skip
    return found


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_error_that_a_schema_can_make_has_words_of_ours(form):
    kinds = possible(form)
    assert len(kinds) > 10
    assert kinds <= WORDS.keys()


FACTS = {
    "field_type": "Dictionary", "min_length": 1, "max_length": 2, "actual_length": 3,
    "pattern": "^a$", "gt": 0, "ge": 0, "lt": 1, "le": 1, "expected": "'a' or 'b'",
    "error": "Whole numbers are expected", "class_name": "X", "error_type": "ValueError",
    "discriminator": "'kind'", "expected_tags": "'webhook', 'email'",
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
def test_no_message_is_pydantics(kind):
    message = told({"type": kind, "ctx": FACTS, "msg": "pydantic's"})
    assert not re.search(r"Input|should|validation|[{}]|pydantic|Dictionary", message)
    assert message[0].isupper()
    assert not message.endswith(".")


def test_an_error_that_nobody_has_thought_of_is_not_told_in_pydantics_words():
    assert told({"type": "url_scheme", "ctx": {}, "msg": "URL scheme should be"}) == OTHERWISE


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"VIGIE_EPOCHS": "0"}, "VIGIE_EPOCHS: It must be greater than 0, but it is '0'."),
        ({"VIGIE_PORT": "x"}, "VIGIE_PORT: A whole number is expected, but it is 'x'."),
        ({"VIGIE_GAMMA": "x"}, "A number is expected; or: It must be 'local', 'scale' or 'auto'"),
        ({"MLFLOW_ENABLED": "perhaps"}, "MLFLOW_ENABLED: It must be true or false"),
        ({"VIGIE_ROOT_PATH": "vigie/"}, "A path such as /vigie is expected"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_with_its_variable(variables, said, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidDataError) as caught:
        Settings()
    assert said in str(caught.value)


def test_from_python_a_reading_is_refused_as_over_rest(untracked):
    service = AnomalyDetectionService(untracked)
    one = {"asset_id": "pump", "features": {"rms": 1.0}}
    with pytest.raises(InvalidDataError) as caught:
        service.detect_anomaly({"asset_id": "pump", "features": {}})
    assert str(caught.value).startswith("features: It needs at least 1 key.")
    with pytest.raises(InvalidDataError) as caught:
        service.detect_anomalies_batch([one, one | {"time": "2026-01-05"}])
    assert caught.value.field == "[1].time"
    service.close()
